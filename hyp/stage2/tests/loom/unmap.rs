//! Unmapping and protecting against what is between break and make: races 15, 33 and 34.

use crate::support::world::{World, explore, only, page, region, small};
use stage2::fake::Setup;
use stage2::{CopyPlan, Rights};

/// An unmap has cleared one entry when the next one is busy, so it stops there for now.
///
/// Rule: an unmap that stops has first invalidated what was cleared. Taken out by
/// `15-no-flush-when-cut-short.patch`.
#[test]
fn race_15_an_unmap_is_cut_short_by_a_marker() {
    explore(|| {
        let world = World::new(Setup { cpus: 3, ..small() });
        world.map(0, 10);
        let from = world.map(1, 11);
        world.machine.enter_on(2, &world.vm).prefetch(page(0));
        let unmap_and_store = |world: &World| {
            world.unmap(region());
            // Through a translation that is left it would land in memory that was released.
            world.machine.enter_on(2, &world.vm).write(page(0), 5)
        };
        let (stored, _) = world.race(unmap_and_store, move |world| world.migrate(1, from));
        assert!(stored.is_err());
        world.end();
    });
}

/// A page is between break and make of a move when it is unmapped.
///
/// Rule: a walk waits for a marker and never skips it. Taken out by `33-marker-skipped.patch`.
#[test]
fn race_33_an_unmap_meets_a_move() {
    explore(|| {
        let world = World::new(small());
        let from = world.map(0, 10);
        let unmap = |world: &World| world.unmap(only(0));
        world.race(unmap, move |world| world.migrate(0, from));
        assert_eq!(world.where_is(0), None, "mapped after the unmap");
        world.end();
    });
}

/// As 33, one level up: the whole region is between break and make.
///
/// Rule: as for 33. Taken out by `33-marker-skipped.patch`.
#[test]
fn race_33_an_unmap_meets_a_collapse() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.map(1, 11);
        let full = CopyPlan {
            max_empty: 0,
            max_hot: 2,
            rounds: 0,
        };
        let unmap = |world: &World| world.unmap(only(1));
        world.race(unmap, move |world| world.collapse(full));
        assert_eq!(world.where_is(1), None, "mapped after the unmap");
        let guest = world.machine.enter(&world.vm);
        assert_eq!(guest.read(page(0)), Ok(10));
        world.end();
    });
}

/// As 33, and the right to write is taken away.
///
/// Rule: as for 33. Taken out by `33-marker-skipped.patch`.
#[test]
fn race_34_a_protection_meets_a_move() {
    explore(|| {
        let world = World::new(small());
        let from = world.map(0, 10);
        let protect = |world: &World| world.vm.protect(only(0), Rights::READ);
        let (protected, _) = world.race(protect, move |world| world.migrate(0, from));
        assert_eq!(protected, Ok(()));
        assert!(!world.entry(0).descriptor.is_writable(), "still writable");
        world.end();
    });
}
