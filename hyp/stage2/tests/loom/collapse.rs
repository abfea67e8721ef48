//! Collapsing against faults and other changes: races 11 to 13 and 16 to 19.

use crate::support::world::{ANYTHING, World, collapse_in_place, explore, only, page, small};
use stage2::fake::Setup;
use stage2::{CopyPlan, Rights};

/// Collapses pages 0 and 1 by copying; says whether that was possible.
fn collapse(world: &World) -> bool {
    world.collapse(ANYTHING).is_ok()
}

/// Page 0 is mapped and page 1 is not; a guest stores to page 1 while the two are collapsed.
fn fault_against_collapse(setup: Setup, plan: CopyPlan) {
    let world = World::new(setup);
    world.map(0, 10);
    let collapse = move |world: &World| world.collapse(plan).is_ok();
    world.race(collapse, |world| {
        let guest = world.machine.enter(&world.vm);
        world.store(&guest, 1, 77);
    });
    let guest = world.machine.enter(&world.vm);
    assert_eq!(world.load(&guest, 1), 77, "the fault's page is lost");
    assert_eq!(world.load(&guest, 0), 10);
    world.end();
}

/// A fault finds nothing mapped while a collapse is between break and make.
///
/// Rule: between them stands a marker, never an empty entry. Taken out by
/// `11-empty-between-break-and-make.patch`.
#[test]
fn race_11_a_fault_installs_a_table_under_a_collapse() {
    explore(|| fault_against_collapse(small(), ANYTHING));
}

/// A fault has locked the table just before the collapse takes it away, and fills an entry just
/// after.
///
/// Rule: a holder of the child's lock is drained by taking it. Taken out by
/// `12-holders-not-drained.patch`.
#[test]
fn race_12_a_fault_holds_the_lock_of_a_table_that_is_detached() {
    explore(|| fault_against_collapse(small(), ANYTHING));
}

/// The collapse has looked at all entries when one of them is given to another page.
///
/// Rule: the check and the break are under one hold of the lock. Taken out by
/// `13-unlocked-before-break.patch`.
#[test]
fn race_13_a_page_is_replaced_after_the_survey() {
    explore(|| {
        let world = World::new(small());
        world.map_contiguous();
        let replace = |world: &World| {
            world.unmap(only(1));
            world.map(1, 99)
        };
        let (replaced, _) = world.race(replace, collapse_in_place);
        assert_eq!(world.where_is(1), Some(replaced), "a foreign page is taken");
        world.end();
    });
}

/// As 13, with a copy: the rights of a page change while no lock is held.
///
/// Rule: what was checked before a lock was dropped is checked again. Taken out by
/// `13-survey-not-repeated.patch`.
#[test]
fn race_13_rights_change_after_the_survey() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        let protect = |world: &World| world.vm.protect(only(0), Rights::READ);
        let (_, protected) = world.race(collapse, protect);
        assert_eq!(protected, Ok(()));
        let rights = world.entry(0).descriptor.rights();
        assert_eq!(rights, Rights::READ, "rights were widened");
        world.end();
    });
}

/// A collapse gives up and puts the old table back, while a fault wants a table there.
///
/// Rule: between break and make stands a marker. Taken out by
/// `11-empty-between-break-and-make.patch`.
#[test]
fn race_16_a_collapse_is_undone_under_a_fault() {
    let none_hot = CopyPlan {
        max_empty: 1,
        max_hot: 0,
        rounds: 0,
    };
    explore(move || {
        let setup = Setup {
            hardware_dirty: true,
            ..small()
        };
        let world = World::new(setup);
        world.map(0, 10);
        let collapse = move |world: &World| world.collapse(none_hot).is_ok();
        world.race(collapse, |world| {
            let guest = world.machine.enter(&world.vm);
            world.store(&guest, 0, 5);
            world.store(&guest, 1, 77);
        });
        let guest = world.machine.enter(&world.vm);
        assert_eq!(world.load(&guest, 0), 5);
        assert_eq!(world.load(&guest, 1), 77, "the fault's page is lost");
        world.end();
    });
}

/// A vCPU goes on storing, through what its TLB holds, while the page is copied.
///
/// Rule: before contents are copied, invalidation has completed. Taken out by
/// `17-no-flush-before-the-first-copy.patch` and `17-no-flush-before-the-last-copy.patch`.
#[test]
fn race_17_a_store_while_a_collapse_copies() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        world.machine.enter_on(1, &world.vm).prefetch(page(0));
        world.race(collapse, |world| {
            let guest = world.machine.enter(&world.vm);
            world.store(&guest, 0, 5);
            world.store(&guest, 0, 6);
        });
        let guest = world.machine.enter(&world.vm);
        assert_eq!(world.load(&guest, 0), 6, "a store is lost");
        world.end();
    });
}

/// As before, with a second round of copying while the guest runs, and nothing left for the time
/// when it is held up.
///
/// Rule: as before. Taken out by `17-no-flush-before-the-first-copy.patch`.
#[test]
fn race_17_a_store_while_a_collapse_copies_again() {
    let again = CopyPlan {
        max_empty: 0,
        max_hot: 0,
        rounds: 1,
    };
    explore(move || {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        let collapse = move |world: &World| world.collapse(again).is_ok();
        world.race(collapse, |world| {
            let guest = world.machine.enter(&world.vm);
            world.store(&guest, 0, 5);
            world.store(&guest, 0, 6);
        });
        let guest = world.machine.enter(&world.vm);
        assert_eq!(world.load(&guest, 0), 6, "a store is lost");
        world.end();
    });
}

/// A block is made while a vCPU's TLB holds translations of its pages.
///
/// Rule: break, invalidate, make. Taken out by `18-block-made-before-the-flush.patch`.
#[test]
fn race_18_a_block_is_made_over_cached_pages() {
    explore(|| {
        let world = World::new(small());
        world.map_contiguous();
        world.race(collapse_in_place, |world| {
            let guest = world.machine.enter(&world.vm);
            guest.prefetch(page(0));
            guest.prefetch(page(1));
        });
        world.end();
    });
}

/// A block takes the place of pages that were written, with no break.
///
/// Rule: what went through before goes through all the time. Taken out by
/// `18-block-made-unused.patch`.
#[test]
fn race_18_a_store_while_a_block_takes_the_place_of_its_pages() {
    explore(|| {
        let world = World::new(Setup {
            direct_size_change: true,
            ..small()
        });
        world.map_contiguous();
        world.race(collapse_in_place, |world| {
            let guest = world.machine.enter(&world.vm);
            assert_eq!(guest.write(page(0), 5), Ok(()));
        });
        world.end();
    });
}

/// Two compactors collapse one region, each to a block of its own; a page is written after the
/// first has copied it, and then made to look as if it had been copied last by the second.
///
/// Rule: a table is claimed by one of them. Taken out by `19-claims-not-kept.patch`.
#[test]
fn race_19_two_collapses_of_one_region() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        let (one, other) = world.race(collapse, |world| {
            let guest = world.machine.enter(&world.vm);
            world.store(&guest, 0, 5);
            world.collapse(ANYTHING).is_ok()
        });
        assert!(!(one && other), "both took the pages");
        let guest = world.machine.enter(&world.vm);
        assert_eq!(world.load(&guest, 0), 5, "a store is lost");
        assert_eq!(world.load(&guest, 1), 11);
        world.end();
    });
}
