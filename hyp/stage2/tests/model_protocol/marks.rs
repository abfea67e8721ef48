//! Access flag, dirty state and stale permissions: races 46, 48 and 49.

use crate::support::{World, explore, only, page, small};
use stage2::Access;
use stage2::fake::Setup;

/// Two vCPUs fault on one page that is clean; the one that comes second has the old entry in its TLB.
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
/// Rule: a live entry changes only by an atomic operation. Taken out by `49-store-over-the-hardware.patch`.
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
                let _ = world.vm.resolve_fault(page(0), Access::Read, false);
            }
        });
        assert!(world.entry(0).descriptor.is_written(), "dirt is lost");
        world.end();
    });
}
