//! Mapping several pages by one call, while others change their table, races 13 and 14 as they meet
//! it; and mapping memory that may be revoked: race 50.

use crate::support::world::{World, explore, free_tables, only, page, small};
use loom::sync::{Arc, Mutex};
use stage2::{Attributes, DirtyState, MapWithError};

/// A call finds the entries of two pages empty, and a fault fills one of them.
///
/// Rule: an entry is filled where it is empty under the lock. Taken out by
/// `13-run-over-what-is-there.patch`.
#[test]
fn race_13_a_fault_amid_a_run() {
    explore(|| {
        let world = World::new(small());
        let (memory, faulted) = world.race(World::map_both, |world| {
            let frame = world.memory(1);
            let pa = frame.pa();
            let mapped = world.map_when_free(1, frame);
            mapped.is_ok().then_some(pa)
        });
        assert_eq!(world.where_is(0), Some(memory[0]));
        let expected = faulted.unwrap_or(memory[1]);
        assert_eq!(world.where_is(1), Some(expected), "two have the page");
    });
}

/// A table looks empty, and two pages are mapped in it by one call before it is taken away.
///
/// Rule: what is filled is counted under the lock. Taken out by `14-run-not-counted.patch`.
#[test]
fn race_14_a_run_is_mapped_in_a_table_that_looked_empty() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        world.unmap(only(0));
        let (memory, _) = world.race(World::map_both, free_tables);
        let mapped = [0, 1].map(|n| world.where_is(n));
        assert_eq!(mapped, memory.map(Some), "a live mapping is freed");
        world.end();
    });
}

/// A fault maps memory that its owner revokes.
///
/// Rule: the frame is looked up under the lock of the table that gets the entry. Taken out by
/// `50-frame-looked-up-before-the-lock.patch`.
#[test]
fn race_50_memory_is_revoked_while_a_fault_maps_it() {
    explore(|| {
        let world = World::new(small());
        let backing = Arc::new(Mutex::new(Some(world.memory(10))));
        let looked_at = backing.clone();
        let take = |backing: &Mutex<Option<_>>| backing.lock().expect("nobody panics").take();
        let map = |world: &World| {
            let frame = || take(&looked_at).ok_or("revoked");
            world
                .vm
                .map_page_with(page(0), Attributes::RAM, DirtyState::Dirty, frame)
        };
        let (mapped, revoked) = world.race(map, move |world| {
            let mut revoked = take(&backing);
            let unmapped = world.vm.unmap(only(0), |leaf| revoked = Some(leaf.frame));
            assert_eq!(unmapped, Ok(()));
            revoked
        });
        assert!(matches!(mapped, Ok(()) | Err(MapWithError::Withheld(_))));
        let frame = revoked.expect("memory is mapped after it was revoked");
        world.machine.data().release(frame);
        assert_eq!(world.where_is(0), None);
        world.end();
    });
}
