//! Taking tables away, and whole VMs: races 14, 35 to 39 and 41.
//!
//! 37 in part, *against the order only by try-lock*: nothing in the crate locks against the order.
//! For its users there is `Unlocked::try_lock`, which the model checker cannot follow: its own
//! try-lock waits for the lock once another thread has taken it. See `scenario/races.rs`.

use crate::support::world::{
    ANYTHING, World, collapse_in_place, explore, free_tables, only, page, small,
};
use stage2::fake::Copier;
use stage2::{CopyPages, Environment, GuestPage, Unmapped, Unreadable};
use std::sync::Arc;

/// A table looks empty, and a page is mapped in it before it is taken away.
///
/// Rule: it is found empty under the locks under which it is detached. Taken out by
/// `14-empty-before-the-lock.patch`.
#[test]
fn race_14_a_page_is_mapped_in_a_table_that_looked_empty() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.unmap(only(0));
        let (pa, _) = world.race(|world| world.map(0, 20), free_tables);
        assert_eq!(world.where_is(0), Some(pa), "a live mapping is freed");
        world.end();
    });
}

/// A fault finds a table there, so it brings none; when it comes to install its page the table is
/// gone.
///
/// Rule: what was seen without the lock is seen again under it. Taken out by
/// `35-table-thought-to-be-there.patch`.
#[test]
fn race_35_a_table_is_gone_that_a_fault_relied_on() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.unmap(only(0));
        let (pa, _) = world.race(|world| world.map(0, 20), free_tables);
        let guest = world.machine.enter(&world.vm);
        assert_eq!(guest.read(page(0)), Ok(20));
        assert_eq!(world.where_is(0), Some(pa));
        world.end();
    });
}

/// A table is emptied and freed while a collapse works on it.
#[test]
fn race_36_a_free_and_a_collapse_of_one_table() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        let unmap = |world: &World| {
            world.unmap(only(0));
            free_tables(world)
        };
        world.race(unmap, |world| world.collapse(ANYTHING));
        assert_eq!(world.where_is(0), None);
        world.end();
    });
}

/// As before, and the table is emptied while its pages are copied, when the collapse holds no lock.
/// Another table in its place would be taken for the one that was looked at.
///
/// Rule: a claimed table stays in its place, and that is seen under the parent's lock. Taken out by
/// `36-claim-not-seen.patch`.
#[test]
fn race_36_a_table_is_emptied_while_its_pages_are_copied() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        let data = world.machine.data();
        let mut contents = EmptiedMeanwhile {
            world: &world,
            copier: data.copier(),
        };
        let block = world.block();
        let collapsed = (world.vm).collapse_by_copying(page(0), block, ANYTHING, &mut contents);
        data.release(collapsed.expect_err("its table is empty").frame);
        assert_eq!(world.where_is(0), None);
        world.end();
    });
}

/// Copies, and unmaps page 0 behind each copy.
struct EmptiedMeanwhile<'w> {
    world: &'w World,
    copier: Copier<'w>,
}

impl CopyPages for EmptiedMeanwhile<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.copier.copy(from, to)?;
        self.world.unmap(only(0));
        assert_eq!(free_tables(self.world), 0, "a claimed table was detached");
        Ok(())
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.copier.release(leaf);
    }
}

/// Two CPUs free one empty table.
///
/// Rule: the second one sees it under the parent's lock. Taken out by
/// `36-slot-not-seen-under-the-lock.patch`.
#[test]
fn race_36_two_frees_of_one_table() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.unmap(only(0));
        let (one, other) = world.race(free_tables, free_tables);
        assert_eq!(one + other, 1, "freed twice");
        world.end();
    });
}

/// Two collapses of one region each want the locks of parent and child.
///
/// Rule: parent before child. Taken out by `37-child-before-parent.patch`.
#[test]
fn race_37_parent_and_child_are_locked_in_one_order() {
    explore(|| {
        let world = World::new(small());
        world.map_contiguous();
        world.race(|world| world.collapse(ANYTHING), collapse_in_place);
        let guest = world.machine.enter(&world.vm);
        assert_eq!((world.load(&guest, 0), world.load(&guest, 1)), (10, 11));
        world.end();
    });
}

/// A vCPU's walk cache holds a table that is taken away.
fn table_freed_under_the_walker() {
    let world = World::new(small());
    world.map(0, 10);
    world.unmap(only(0));
    world.race(free_tables, |world| {
        let guest = world.machine.enter(&world.vm);
        for _ in 0..2 {
            assert!(guest.read(page(0)).is_err());
        }
    });
    let guest = world.machine.enter_on(1, &world.vm);
    assert!(guest.read(page(0)).is_err());
    world.end();
}

/// A table is freed while the hardware still walks it.
///
/// Rule: detach, invalidate, grace period, free. Taken out by `38-freed-before-the-flush.patch`.
#[test]
fn race_38_a_table_is_freed_under_the_walker() {
    explore(table_freed_under_the_walker);
}

/// As 38, and the invalidation is told that a leaf was taken away.
///
/// Rule: no leaf hint for a table. Taken out by `39-leaf-hint-for-a-table.patch`.
#[test]
fn race_39_a_walk_cache_outlives_its_table() {
    explore(table_freed_under_the_walker);
}

/// The VM ends while a compaction step and a vCPU are still about.
///
/// Rule: only the last user destroys it (the type takes the value; a documentation test of
/// `Stage2` shows that a walker keeps it from being given away), and nothing of it stays in a TLB.
/// Taken out by `41-destroyed-without-a-flush.patch`.
#[test]
fn race_41_the_vm_ends_under_compaction() {
    explore(|| {
        let world = World::new(small());
        world.map_contiguous();
        world.race(collapse_in_place, |world| {
            let guest = world.machine.enter(&world.vm);
            assert_eq!(world.load(&guest, 1), 11);
        });
        let World { vm, machine } = world;
        let vm = Arc::into_inner(vm).expect("the last user");
        machine.leave_all();
        let ended = vm.destroy(|leaf| machine.data().release(leaf.frame));
        assert!(ended.is_ok());
        assert_eq!(machine.tlb().cached(1), 0, "a translation outlives its VM");
        assert_eq!(machine.frames().outstanding(), 0);
        assert_eq!(machine.data().outstanding(), 0);
    });
}
