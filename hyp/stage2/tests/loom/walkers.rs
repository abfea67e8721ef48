//! Walkers, which are no CPUs: races 56 to 58, and what other races come to where a walker is late.
//!
//! A late walker finds a store when a DSB has completed it, and its CPU has executed one since; not
//! before.

use crate::support::world::{
    ANYTHING, World, collapse_in_place, explore, explore_with, free_tables, late, only, page,
    region,
};
use stage2::fake::{FakeMachine, Fault, Setup, Walks};
use stage2::{Access, DirtyGranule, Environment, Level, Resolution, Tlb, unload};
use std::sync::Arc;

/// A page is unmapped when the VM has never run, and so nothing is invalidated; it runs for the
/// first time at that moment, and its walker is late.
///
/// Rule: a DSB stands between the change and the look for a VMID, and one between the giving of a
/// VMID and the walks under it. Taken out by `56-changed-without-a-dsb.patch` and
/// `56-activated-without-a-dsb.patch`, made a barrier among CPUs by `56-changed-behind-a-dmb.patch`
/// and `56-activated-behind-a-dmb.patch`.
#[test]
fn race_56_a_vm_first_runs_while_a_page_is_unmapped() {
    explore(|| {
        let world = World::new(late());
        world.map(0, 10);
        unmap_against_entry(&world);
        world.end();
    });
}

/// Unmaps page 0 while CPU 1 loads the VM and uses the page.
fn unmap_against_entry(world: &World) {
    let unmap = |world: &World| world.unmap(only(0));
    world.race(unmap, |world| {
        let guest = world.machine.enter(&world.vm);
        let _ = guest.write(page(0), 5);
    });
    let guest = world.machine.enter_on(1, &world.vm);
    assert!(guest.write(page(0), 6).is_err(), "a translation is left");
}

/// VMs on a machine with three VMIDs.
fn crowd<const N: usize>() -> [World; N] {
    let machine = Arc::new(FakeMachine::new(Setup {
        vmid_bits: 2,
        table_frames: 8,
        ..late()
    }));
    std::array::from_fn(|n| World::beside(&machine, 1 + n as u32))
}

/// As 56, where the VM has had a VMID, which is another VM's by now: the invalidation goes to that
/// one.
///
/// Rule: as for 56. Taken out by `56-changed-without-a-dsb.patch` and
/// `56-activated-without-a-dsb.patch`, made a barrier among CPUs by
/// `56-activated-behind-a-dmb.patch`.
#[test]
fn race_57_a_vm_gets_another_number_while_a_page_is_unmapped() {
    explore(|| {
        let [a, b, c, d] = crowd();
        a.map(0, 10);
        let machine = &a.machine;
        let before = machine.enter_on(1, &a.vm).vmid();
        machine.enter_on(1, &b.vm);
        machine.enter_on(1, &c.vm);
        // The fourth begins a new generation.
        assert_eq!(machine.enter_on(0, &d.vm).vmid(), before);
        unmap_against_entry(&a);
    });
}

/// A CPU goes from VM `a` to VM `b` when a new generation begins, in which a third VM gets the
/// number of `a`. The walks that the CPU began for `a` are still under way.
///
/// Rule: a CPU waits for its walks before the number of what it ran is reserved no longer. Taken
/// out by `57-walks-not-awaited.patch`.
#[test]
fn race_57_a_walk_goes_on_under_a_number_that_is_anothers() {
    explore_with(2, || {
        let [a, b, c, d] = crowd();
        a.map(0, 10);
        let machine = a.machine.clone();
        machine.enter_on(0, &b.vm);
        machine.enter_on(1, &a.vm);
        machine.enter_on(0, &c.vm);
        let walker = {
            let machine = machine.clone();
            loom::thread::spawn(move || machine.walk_on(1, page(0)))
        };
        let d_too = d.clone();
        a.race(move |_| d_too.enter(), move |_| b.enter());
        walker.join().unwrap();
        machine.walk_on(1, page(0));
        let guest = machine.enter_on(1, &d.vm);
        let seen = guest.read(page(0));
        assert_eq!(
            seen,
            Err(Fault::Translation(Level::L2)),
            "another VM's page"
        );
    });
}

/// A CPU lets go of a VM, which is then destroyed. The walks that it began are still under way.
///
/// Rule: a CPU waits for its walks before it says that it has nothing loaded. Taken out by
/// `58-unloaded-without-waiting.patch`.
#[test]
fn race_58_a_walk_outlives_its_vm() {
    explore(|| {
        let world = World::new(late());
        world.map(0, 10);
        world.machine.enter_on(1, &world.vm);
        let machine = world.machine.clone();
        let unload_there = |world: &World| {
            let _cpu = world.machine.on_cpu(1);
            unload(&*world.machine);
        };
        unload_there(&world);
        let walker = loom::thread::spawn(move || machine.walk_on(1, page(0)));
        let World { machine, vm } = world;
        let vm = Arc::into_inner(vm).expect("the last user");
        let ended = vm.destroy(|leaf| machine.data().release(leaf.frame));
        assert!(ended.is_ok());
        walker.join().unwrap();
        machine.walk_on(1, page(0));
    });
}

/// A walker sets access flags in the pages of a table that becomes a block, and that is freed when
/// the block goes.
///
/// Rule: a table is detached, then invalidated, then it waits for readers, and then it is something
/// else: so the last mark has been set before. Taken out by `58-kept-before-the-flush.patch`.
#[test]
fn race_58_a_walker_marks_a_table_that_was_detached() {
    explore(|| {
        let world = World::new(Setup {
            hardware_dirty: true,
            ..late()
        });
        world.map_contiguous();
        world.machine.enter_on(1, &world.vm).prefetch(page(0));
        world.vm.age(region(), |_, _| {});
        let machine = world.machine.clone();
        let walker = loom::thread::spawn(move || machine.walk_on(1, page(1)));
        assert!(collapse_in_place(&world));
        world.unmap(region());
        walker.join().unwrap();
        world.end();
    });
}

/// As 58, with a table that has become empty.
///
/// Rule: as before. Taken out by `38-freed-before-the-flush.patch` and
/// `39-leaf-hint-for-a-table.patch`.
#[test]
fn race_38_a_late_walker_is_in_a_table_that_is_freed() {
    explore(|| {
        let world = World::new(late());
        world.map(0, 10);
        world.unmap(only(0));
        world.machine.enter_on(1, &world.vm).prefetch(page(0));
        let machine = world.machine.clone();
        let walker = loom::thread::spawn(move || machine.walk_on(1, page(0)));
        free_tables(&world);
        walker.join().unwrap();
        world.machine.walk_on(1, page(0));
        world.end();
    });
}

/// A walker finds a new table at once, and of its contents what must be found.
///
/// Rule: a table is complete before the store, with release, of what names it. Taken out by
/// `24-table-seen-before-its-parts.patch` and `24-table-not-released.patch`.
#[test]
fn race_24_a_walker_finds_a_new_table_and_old_contents() {
    explore(|| {
        let world = World::new(Setup {
            direct_size_change: true,
            walks: Walks::OldestLeaves,
            ..late()
        });
        world.map_block();
        let split = |world: &World| world.vm.split_block(page(0), Level::L2);
        let (result, seen) = world.race(split, |world| {
            let guest = world.machine.enter(&world.vm);
            guest.read(page(1))
        });
        assert_eq!(result, Ok(()));
        assert_eq!(seen, Ok(11), "garbage was walked");
        world.end();
    });
}

/// What a call has made is there when it returns: no walk that begins later misses it, on whatever
/// CPU.
///
/// Rule: a DSB follows the store. Taken out by `56-root-without-a-dsb.patch`,
/// `56-mapped-without-a-dsb.patch`, `56-run-mapped-without-a-dsb.patch`,
/// `56-split-without-a-dsb.patch`, `56-collapsed-without-a-dsb.patch`,
/// `56-copied-without-a-dsb.patch`, `56-moved-without-a-dsb.patch` and
/// `56-resolved-without-a-dsb.patch`.
#[test]
fn race_56_what_was_made_is_found() {
    explore(|| {
        let world = World::new(late());
        // What was in the frames of the next VM's tables.
        World::beside(&world.machine, 2).fill_and_end();
        let other = World::beside(&world.machine, 3);
        assert_eq!(seen_late(&other, 0), Err(Fault::Translation(Level::L2)));

        world.map(0, 10);
        assert_eq!(seen_late(&world, 0), Ok(10));
        world.unmap(only(0));
        world.map_both();
        assert_eq!(seen_late(&world, 1), Ok(21));
        let from = world.where_is(1).expect("a page");
        assert_eq!(world.migrate(1, from), Ok(()));
        assert_eq!(seen_late(&world, 1), Ok(21));
        assert_eq!(world.collapse(ANYTHING), Ok(()));
        assert_eq!(seen_late(&world, 0), Ok(20));
        assert_eq!(world.vm.split_block(page(0), Level::L2), Ok(()));
        assert_eq!(seen_late(&world, 1), Ok(21));
        assert!(collapse_in_place(&world));
        assert_eq!(seen_late(&world, 0), Ok(20));

        world.vm.write_protect(region());
        let guest = world.machine.enter(&world.vm);
        assert!(guest.write(page(0), 5).is_err());
        let resolution = world
            .vm
            .resolve_fault(page(0), Access::Write, DirtyGranule::Leaf);
        assert_eq!(resolution, Resolution::Resolved);
        assert_eq!(guest.write(page(0), 5), Ok(()));
        world.unmap(region());
    });
}

/// What CPU 1 loads from the `n`-th page, by a walk that begins now.
fn seen_late(world: &World, n: u64) -> Result<u64, Fault> {
    {
        let _cpu = world.machine.on_cpu(1);
        world.machine.tlb().publish();
    }
    world.machine.enter_on(1, &world.vm).read(page(n))
}
