//! Splitting blocks, and new tables: races 22 to 24, 26 and 44.

use crate::support::world::{ANYTHING, World, explore, only, page, region, small};
use stage2::fake::Setup;
use stage2::{
    Access, Attributes, DirtyGranule, DirtyState, Environment, IpaRange, Level, OutOfFrames,
    Resolution, SplitError,
};

fn split(world: &World) -> Result<(), SplitError> {
    world.vm.split_block(page(0), Level::L2)
}

/// Two CPUs split one block at once.
///
/// Rule: under the lock the entry is looked at again, and the loser's table goes back. Taken out by
/// `22-split-of-what-was-seen.patch` and `22-spare-not-given-back.patch`.
#[test]
fn race_22_two_splits_of_one_block() {
    explore(|| {
        let world = World::new(small());
        let block = world.map_block();
        let results = <[_; 2]>::from(world.race(split, split));
        for result in results {
            assert!(matches!(
                result,
                Ok(()) | Err(SplitError::NoBlock | SplitError::Busy)
            ));
        }
        assert!(results.contains(&Ok(())));
        assert_eq!(
            world.machine.frames().outstanding(),
            2,
            "root and one table"
        );
        assert_eq!(world.where_is(0), Some(block));
        world.end();
    });
}

/// An unmap has two blocks to split and gets a frame for one, while a guest uses what is to stay.
///
/// Rule: what may fail comes before what cannot be undone. Taken out by
/// `23-no-split-beforehand.patch`.
#[test]
fn race_23_no_frame_for_the_second_split() {
    explore(|| {
        let world = World::new(small());
        world.map_block();
        let second = world.filled_block();
        let mapped = world
            .vm
            .map_block(page(2), second, Attributes::RAM, DirtyState::Dirty);
        assert_eq!(mapped, Ok(()));
        world.machine.frames().fail_nth(2);
        let unmap = |world: &World| {
            let middle = IpaRange::new(page(1), page(3)).expect("a range");
            world.vm.unmap(middle, |leaf| {
                panic!("{leaf:?} was unmapped by a call that failed")
            })
        };
        let (unmapped, seen) = world.race(unmap, |world| {
            let guest = world.machine.enter(&world.vm);
            (world.load(&guest, 1), world.load(&guest, 2))
        });
        assert_eq!(unmapped, Err(OutOfFrames));
        assert_eq!(seen, (11, 10));
        world.end();
    });
}

/// A walk meets the new table at the moment at which it is installed, here without a break.
///
/// Rule: a new table is complete before it can be seen. Taken out by
/// `24-table-seen-before-its-parts.patch` and `24-table-not-released.patch`.
#[test]
fn race_24_a_walk_of_a_table_that_was_just_installed() {
    explore(|| {
        let setup = Setup {
            direct_size_change: true,
            ..small()
        };
        let world = World::new(setup);
        world.map_block();
        let (result, seen) = world.race(split, |world| {
            let guest = world.machine.enter(&world.vm);
            guest.read(page(1))
        });
        assert_eq!(result, Ok(()));
        assert_eq!(seen, Ok(11), "garbage was walked");
        world.end();
    });
}

/// A reader looks into a table at the moment at which a fault installs it, holding no lock.
///
/// Rule: what is stored before a table can be seen is seen with it. Taken out by
/// `24-read-unordered.patch`.
#[test]
fn race_24_a_reader_of_a_table_that_was_just_installed() {
    explore(|| {
        let world = World::new(small());
        let (pa, seen) = world.race(|world| world.map(0, 10), |world| world.where_is(0));
        assert!(seen.is_none_or(|seen| seen == pa));
        world.end();
    });
}

/// A block made by a collapse is split when no frame is left.
///
/// Rule: the collapse keeps its old table for that, and lets nobody have it before it has given the
/// old pages back. Taken out by `26-nothing-kept-for-the-split.patch` and
/// `26-kept-table-used-while-claimed.patch`.
#[test]
fn race_26_no_frame_for_splitting_a_collapsed_block() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        // The deposit is there from now on.
        assert_eq!(world.collapse(ANYTHING), Ok(()));
        world.vm.synchronize();
        assert_eq!(split(&world), Ok(()));
        // Nobody else allocates, so every allocation from now on is the split's.
        world.machine.frames().fail_nth(1);
        let (first, collapsed) = world.race(split, |world| world.collapse(ANYTHING));
        assert_eq!(collapsed, Ok(()));
        assert_ne!(first, Err(SplitError::OutOfFrames));
        if first != Ok(()) {
            assert_eq!(split(&world), Ok(()));
        }
        world.end();
    });
}

/// A page is unmapped, and its memory used for something else, when the block that it was part of
/// is out of the entry but not yet out of a vCPU's TLB.
///
/// Rule: the parts of a block change only after its invalidation has completed. Taken out by
/// `44-parts-unlocked-during-the-flush.patch`.
#[test]
fn race_44_a_part_is_released_before_its_block_is_flushed() {
    explore(|| {
        let setup = Setup {
            cpus: 3,
            direct_size_change: true,
            ..small()
        };
        let world = World::new(setup);
        world.map_block();
        world.machine.enter_on(2, &world.vm).prefetch(page(0));
        let unmap_and_store = |world: &World| {
            world.unmap(only(1));
            world.machine.enter_on(2, &world.vm).write(page(1), 5)
        };
        let (stored, _) = world.race(unmap_and_store, split);
        assert!(stored.is_err());
        let resolution = world
            .vm
            .resolve_fault(page(1), Access::Write, DirtyGranule::Leaf);
        assert_eq!(resolution, Resolution::Unmapped);
        world.unmap(region());
        world.end();
    });
}
