//! Busy markers: races 27 to 32.
//!
//! 27, *the waiter has no reference and what it waits on is freed*: nobody waits on a thing here.
//! A thread that meets a marker lets go of everything, gives the CPU away once, and comes back by
//! address.

use crate::support::world::{ANYTHING, World, explore, free_tables, only, page, small};
use stage2::{
    Access, Attributes, CopyPages, DirtyGranule, DirtyState, EntryKind, GuestPage, MapError,
    Resolution, Unmapped, Unreadable,
};

/// An unmap waits for a marker, and the table in which the marker stood is freed meanwhile.
///
/// Rule: a waiter holds nothing. Taken out by `27-wait-with-the-table-locked.patch`.
#[test]
fn race_27_the_table_of_a_marker_is_freed_under_its_waiter() {
    explore(|| {
        let world = World::new(small());
        let from = world.map(0, 10);
        let unmap = |world: &World| {
            world.unmap(only(0));
            free_tables(world)
        };
        world.race(unmap, move |world| {
            let _ = world.migrate(0, from);
            free_tables(world)
        });
        assert_eq!(world.where_is(0), None);
        world.end();
    });
}

/// A fault sees a marker; by the time it would wait the page is back, and nobody will wake it.
///
/// Rule: nobody sleeps on what was seen before. Taken out by `28-sleep-on-the-marker-seen.patch`.
#[test]
fn race_28_the_page_is_back_before_the_wait() {
    explore(|| {
        let world = World::new(small());
        let from = world.map(0, 10);
        let fault = |world: &World| {
            while world
                .vm
                .resolve_fault(page(0), Access::Read, DirtyGranule::Leaf)
                == Resolution::Busy
            {
                world.yield_now();
            }
        };
        let ((), moved) = world.race(fault, move |world| world.migrate(0, from));
        assert_eq!(moved, Ok(()));
        world.end();
    });
}

/// A fault sees a page, then locks its table; the page is gone by then.
///
/// Rule: what is decided under the lock is decided from what is there under the lock. Taken out by
/// `28-fault-decided-before-the-lock.patch`.
#[test]
fn race_28_the_page_is_gone_before_the_lock() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        let fault = |world: &World| {
            world
                .vm
                .resolve_fault(page(0), Access::Write, DirtyGranule::Leaf)
        };
        world.race(fault, |world| world.unmap(only(0)));
        assert_eq!(world.entry(0).kind(), EntryKind::Empty);
        world.end();
    });
}

/// A vCPU stores, through what its TLB holds, while the page is moved.
///
/// Rule: before contents are copied, invalidation has completed on all CPUs. Taken out by
/// `29-no-flush-before-the-move.patch`.
#[test]
fn race_29_a_store_while_a_page_is_moved() {
    explore(|| {
        let world = World::new(small());
        let from = world.map(0, 10);
        world.machine.enter_on(1, &world.vm).prefetch(page(0));
        let migrate = move |world: &World| world.migrate(0, from);
        world.race(migrate, |world| {
            let guest = world.machine.enter(&world.vm);
            world.store(&guest, 0, 5);
        });
        let guest = world.machine.enter(&world.vm);
        assert_eq!(world.load(&guest, 0), 5, "a store is lost");
        world.end();
    });
}

/// A page is being moved when its region is collapsed.
///
/// Rule: a marker is busy, not a hole. Taken out by `30-marker-taken-for-a-hole.patch`.
#[test]
fn race_30_a_collapse_meets_a_move() {
    explore(|| {
        let world = World::new(small());
        let from = world.map(0, 10);
        world.map(1, 11);
        let collapse = |world: &World| world.collapse(ANYTHING);
        world.race(collapse, move |world| world.migrate(0, from));
        let guest = world.machine.enter(&world.vm);
        assert_eq!((world.load(&guest, 0), world.load(&guest, 1)), (10, 11));
        world.end();
    });
}

/// Dirty logging begins while a page is moved, which then puts the page back as it was.
///
/// Rule: a walk waits for a marker and never skips it. Taken out by `33-marker-skipped.patch`.
#[test]
fn race_31_a_page_comes_back_writable_after_logging_began() {
    explore(|| {
        let world = World::new(small());
        let from = world.map(0, 10);
        let begin_logging = |world: &World| world.vm.write_protect(only(0));
        world.race(begin_logging, move |world| world.migrate(0, from));
        assert!(
            !world.entry(0).descriptor.lets_stores_through(),
            "a store would go unlogged"
        );
        world.end();
    });
}

/// Looks at the region from another CPU whenever a page is copied.
struct Onlooker<'w> {
    world: &'w World,
}

impl CopyPages for Onlooker<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.look();
        self.world.machine.data().copier().copy(from, to)
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.look();
        self.world.machine.data().copier().zero(to);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.world.machine.data().copier().release(leaf);
    }
}

impl Onlooker<'_> {
    fn look(&mut self) {
        if let EntryKind::Busy(_) = self.world.entry(1).kind() {
            let spare = self.world.memory(7);
            let _cpu = self.world.machine.on_cpu(2);
            let mapped = self
                .world
                .vm
                .map_page(page(1), spare, Attributes::RAM, DirtyState::Dirty);
            assert_eq!(self.world.given_back(mapped), Err(MapError::Busy));
            let fault = self
                .world
                .vm
                .resolve_fault(page(1), Access::Read, DirtyGranule::Leaf);
            assert_eq!(fault, Resolution::Busy);
        }
    }
}

/// A region is being collapsed, so a marker stands at level 2, when a fault wants a page in it.
///
/// Rule: a marker is busy at every level, never bad. Taken out by `32-marker-taken-for-bad.patch`.
#[test]
fn race_32_a_fault_below_a_marker() {
    explore(|| {
        let world = World::new(stage2::fake::Setup { cpus: 3, ..small() });
        world.map(0, 10);
        let collapse = |world: &World| {
            let to = world.block();
            let mut onlooker = Onlooker { world };
            let collapsed = world
                .vm
                .collapse_by_copying(page(0), to, ANYTHING, &mut onlooker);
            world.given_back(collapsed)
        };
        let (collapsed, _) = world.race(collapse, |world| {
            // Between the survey and the break, so that the collapse has a page to copy again.
            world
                .vm
                .resolve_fault(page(0), Access::Write, DirtyGranule::Leaf)
        });
        assert_eq!(collapsed, Ok(()));
        world.end();
    });
}
