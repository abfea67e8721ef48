//! Mapping several pages by one call, while others change their table: races 13 and 14 as they meet it.

use crate::support::{World, explore, free_tables, only, small};

/// A call finds the entries of two pages empty, and a fault fills one of them.
///
/// Rule: an entry is filled where it is empty under the lock. Taken out by `13-run-over-what-is-there.patch`.
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
