//! Access flag, dirty state and stale permissions: races 46 to 49.

use crate::support::world::{ANYTHING, World, collapse_in_place, explore, only, page, small};
use stage2::fake::Setup;
use stage2::{Access, DirtyGranule, Level, Resolution};

/// Two vCPUs fault on one page that is clean; the one that comes second has the old entry in its
/// TLB.
///
/// Rule: also a fault that finds nothing to do invalidates its own TLB. Taken out by
/// `46-no-local-flush.patch`.
#[test]
fn race_46_the_second_fault_on_a_clean_page() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.vm.write_protect(only(0));
        let load_and_store = |world: &World| {
            let guest = world.machine.enter(&world.vm);
            world.load(&guest, 0);
            world.store(&guest, 0, 5);
        };
        world.race(load_and_store, load_and_store);
        world.end();
    });
}

/// Two vCPUs store to one clean page, and a ring is to have it once.
///
/// Rule: that a page is written is told by the fault that set the mark. Taken out by
/// `47-each-store-told-as-the-first.patch`.
#[test]
fn race_47_two_stores_to_a_clean_page() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.vm.write_protect(only(0));
        let fault = |world: &World| {
            let mut told = false;
            let note = |level| told = level == Level::L3;
            let answer =
                world
                    .vm
                    .resolve_fault_with(page(0), Access::Write, DirtyGranule::Leaf, note);
            assert_eq!(answer, Resolution::Resolved);
            told
        };
        let (first, second) = world.race(fault, fault);
        assert!(first != second, "the page is told of twice, or never");
        world.end();
    });
}

/// A vCPU stores, through what its TLB holds, after the page was found dirty and made clean.
///
/// Rule: what is collected is true of all stores until the call returns. Taken out by
/// `48-no-flush-after-cleaning.patch`.
#[test]
fn race_48_a_store_after_the_page_was_collected() {
    explore(|| {
        let world = World::new(small());
        let pa = world.map(0, 10);
        world.machine.enter_on(1, &world.vm).prefetch(page(0));
        let collect_and_copy = move |world: &World| {
            world.vm.collect_dirty(only(0), |_| {});
            world.machine.data().read(pa)
        };
        let (copied, ()) = world.race(collect_and_copy, |world| {
            let guest = world.machine.enter(&world.vm);
            world.store(&guest, 0, 5);
        });
        let mut dirty_again = false;
        world.vm.collect_dirty(only(0), |_| dirty_again = true);
        assert!(copied == 5 || dirty_again, "a store went unlogged");
        world.end();
    });
}

/// The hardware marks a page as written while software changes another mark of the entry.
///
/// Rule: a live entry changes only by an atomic operation. Taken out by
/// `49-store-over-the-hardware.patch`.
#[test]
fn race_49_the_hardware_marks_an_entry_that_is_being_aged() {
    explore(|| {
        let setup = Setup {
            hardware_dirty: true,
            ..small()
        };
        let world = World::new(setup);
        world.map(0, 10);
        world.vm.write_protect(only(0));
        let age = |world: &World| world.vm.age(only(0), |_, _| {});
        world.race(age, |world| {
            let guest = world.machine.enter(&world.vm);
            while guest.write(page(0), 5).is_err() {
                let _ = world
                    .vm
                    .resolve_fault(page(0), Access::Read, DirtyGranule::Leaf);
            }
        });
        assert!(world.entry(0).descriptor.is_written(), "dirt is lost");
        world.end();
    });
}

/// The hardware marks a page as written while it is unmapped.
///
/// Rule: an entry that the hardware may mark is taken away by an exchange. Taken out by
/// `49-taken-away-by-a-store.patch`.
#[test]
fn race_49_the_hardware_marks_a_page_that_is_unmapped() {
    explore(|| {
        let setup = Setup {
            hardware_dirty: true,
            ..small()
        };
        let world = World::new(setup);
        world.map(0, 10);
        world.vm.write_protect(only(0));
        let unmap = |world: &World| {
            let mut written = false;
            let unmapped = world.vm.unmap(only(0), |leaf| {
                written = leaf.descriptor.is_written();
                world.machine.data().release(leaf.frame);
            });
            assert_eq!(unmapped, Ok(()));
            written
        };
        let (written, stored) = world.race(unmap, |world| {
            let guest = world.machine.enter(&world.vm);
            guest.write(page(0), 5).is_ok()
        });
        assert_eq!(written, stored, "dirt is lost");
        world.end();
    });
}

/// The hardware marks a page as written while it becomes part of a block where it is.
fn store_against_collapse_in_place(direct_size_change: bool) {
    let world = World::new(Setup {
        hardware_dirty: true,
        direct_size_change,
        ..small()
    });
    world.map_contiguous();
    world.vm.write_protect(only(0));
    world.vm.write_protect(only(1));
    world.machine.enter_on(1, &world.vm).prefetch(page(0));
    let (collapsed, ()) = world.race(collapse_in_place, |world| {
        let guest = world.machine.enter(&world.vm);
        world.store(&guest, 0, 5);
    });
    assert!(collapsed, "marks of use are no reason against a block");
    assert!(world.entry(0).descriptor.is_written(), "dirt is lost");
    // A store to the second page went through without a trace of its own, if there was one since.
    world.vm.synchronize();
    assert_eq!(world.vm.split_block(page(0), Level::L2), Ok(()));
    for n in 0..2 {
        assert!(world.entry(n).descriptor.is_written(), "dirt is lost");
    }
    world.end();
}

/// A vCPU's TLB holds a page of a table that has been taken out of the tree.
///
/// Rule: what the hardware has marked is read after the flush. Taken out by
/// `49-marks-read-before-the-flush.patch`.
#[test]
fn race_49_the_hardware_marks_a_page_that_becomes_part_of_a_block() {
    explore(|| store_against_collapse_in_place(false));
}

/// As before, where a block takes the place of the table at once.
///
/// Rule: as before. Taken out by `49-marks-read-before-the-direct-flush.patch`.
#[test]
fn race_49_the_hardware_marks_a_page_that_becomes_part_of_a_block_at_once() {
    explore(|| store_against_collapse_in_place(true));
}

/// A collapse has made the stores to a page trap, but a TLB does not know that yet, when another
/// thread else wants them to trap and finds nothing to do.
///
/// Rule: what was changed is flushed before the lock is let go. Taken out by
/// `48-flushed-without-the-lock.patch`.
#[test]
fn race_48_two_make_the_stores_to_a_page_trap() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        world.machine.enter_on(1, &world.vm).prefetch(page(0));
        let collapse = |world: &World| world.collapse(ANYTHING).is_ok();
        world.race(collapse, |world| {
            world.vm.trap_stores(only(0));
            let stored = world.machine.enter(&world.vm).write(page(0), 5);
            // To a block that was written stores go through.
            let is_page = world.entry(0).level == Level::L3;
            assert!(!is_page || stored.is_err(), "a store did not trap");
        });
        world.end();
    });
}
