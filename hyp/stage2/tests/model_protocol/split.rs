//! Splitting blocks: races 22 to 24 and 26.

use crate::support::{ANYTHING, World, explore, only, page, region, small};
use stage2::fake::Setup;
use stage2::{
    Access, Attributes, Environment, IpaRange, Level, OutOfFrames, Resolution, SplitError,
};

/// Two CPUs split one block at once.
///
/// Rule: under the lock the entry is looked at again, and the loser's table goes back. Taken out by
/// `22-split-of-what-was-seen.patch` and `22-spare-not-given-back.patch`.
#[test]
fn race_22_two_splits_of_one_block() {
    explore(|| {
        let world = World::new(small());
        let block = world.map_block();
        let other = world.on(1, |world| world.vm.split_block(page(0), Level::L2));
        let ours = world.vm.split_block(page(0), Level::L2);
        let results = [ours, other.join().unwrap()];
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
/// Rule: what may fail comes before what cannot be undone. Taken out by `23-no-split-beforehand.patch`.
#[test]
fn race_23_no_frame_for_the_second_split() {
    explore(|| {
        let world = World::new(small());
        world.map_block();
        let second = world.filled_block();
        let mapped = world
            .vm
            .map_block(page(2), Level::L2, second, Attributes::RAM, true);
        assert_eq!(mapped, Ok(()));
        let vcpu = world.on(1, |world| {
            let guest = world.machine.enter(&world.vm);
            (world.load(&guest, 1), world.load(&guest, 2))
        });
        world.machine.frames().fail_nth(2);
        let middle = IpaRange::new(page(1), page(3)).expect("a range");
        let unmapped = world.vm.unmap(middle, |leaf| {
            panic!("{leaf:?} was unmapped by a call that failed")
        });
        assert_eq!(unmapped, Err(OutOfFrames));
        assert_eq!(vcpu.join().unwrap(), (11, 10));
        world.end();
    });
}

/// A walk meets the new table at the moment at which it is installed, here without a break.
///
/// Rule: a new table is complete before it can be seen. Taken out by `24-table-seen-before-its-parts.patch`
/// and `24-table-not-released.patch`.
#[test]
fn race_24_a_walk_of_a_table_that_was_just_installed() {
    explore(|| {
        let setup = Setup {
            direct_size_change: true,
            ..small()
        };
        let world = World::new(setup);
        world.map_block();
        let vcpu = world.on(1, |world| {
            let guest = world.machine.enter(&world.vm);
            assert_eq!(guest.read(page(1)), Ok(11), "garbage was walked");
        });
        assert_eq!(world.vm.split_block(page(0), Level::L2), Ok(()));
        vcpu.join().unwrap();
        world.end();
    });
}

/// A block made by a collapse is split when no frame is left.
///
/// Rule: the collapse keeps its old table for that. Taken out by `26-nothing-kept-for-the-split.patch`.
#[test]
fn race_26_no_frame_for_splitting_a_collapsed_block() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        let collapser = world.on(1, |world| {
            assert_eq!(world.collapse(ANYTHING), Ok(()));
        });
        // Nobody else allocates, so every allocation from now on is the split's.
        world.machine.frames().fail_nth(1);
        let split = world.vm.split_block(page(0), Level::L2);
        assert_ne!(split, Err(SplitError::OutOfFrames));
        collapser.join().unwrap();
        if split != Ok(()) {
            assert_eq!(world.vm.split_block(page(0), Level::L2), Ok(()));
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
        let guest = world.machine.enter_on(2, &world.vm);
        guest.prefetch(page(0));
        let splitter = world.on(1, |world| {
            let _ = world.vm.split_block(page(0), Level::L2);
        });
        world.unmap(only(1));
        assert!(guest.write(page(1), 5).is_err());
        splitter.join().unwrap();
        let resolution = world.vm.resolve_fault(page(1), Access::Write, false);
        assert_eq!(resolution, Resolution::Unmapped);
        world.unmap(region());
        world.end();
    });
}
