//! Finding and locking tables: races 1 to 10.
//!
//! Some of these races have no test because there is nothing to interleave:
//!
//! - 6, *the table from one load, the lock from a second*: `Slot::resolve` makes both from the one
//!   value that it is given, and a table's lock is not to be had in any other way.
//! - 8, *the parent is loaded twice*: the load returns a value, not a reference, from an atomic
//!   that the compiler may not read again, and all that follows takes the value.
//! - 1 in part: entries are reached through a `Reader` alone, which is a read section; 7 in part:
//!   an `Unlocked` table has no method that writes. Documentation tests of `lookup` show that
//!   neither compiles.

use crate::support::world::{
    ANYTHING, World, collapse_in_place, explore, explore_with, free_tables, only, page, small,
};
use stage2::fake::Setup;
use stage2::lookup::Absent;
use stage2::stats::Counter;
use stage2::{
    Access, Attributes, DirtyGranule, DirtyState, EntryKind, Environment, Ipa, Level, MapError,
    Resolution, SplitError,
};

/// A reader has a table in hand while it is emptied, detached and freed.
///
/// Rule: a frame is freed a grace period after it was detached. Taken out by
/// `01-no-grace-period.patch`, and the reader's half of it by `01-unannounced-section.patch`,
/// `01-unfenced-section.patch`, `01-section-ends-unordered.patch` and
/// `01-end-seen-unordered.patch`.
#[test]
fn race_01_a_table_is_freed_under_its_reader() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 1);
        let look = |world: &World| {
            let reader = world.vm.read();
            let root = reader.root(page(0)).expect("a root");
            if let Ok(table) = root.slot(page(0)).map() {
                let _ = table.get(0);
                let _ = table.get(1);
            }
        };
        world.race(look, |world| {
            world.unmap(only(0));
            free_tables(world);
        });
        world.end();
    });
}

/// As 1, and the reader has gone and come back when the grace period looks: what it read the first
/// time must be over all the same.
///
/// Rule: a waiter that sees a section is past all that the ones before it have read. Taken out by
/// `01-section-begins-unordered.patch`.
#[test]
fn race_01_a_reader_comes_back() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 1);
        world.unmap(only(0));
        let look_twice = |world: &World| {
            for _ in 0..2 {
                assert_eq!(world.where_is(0), None);
            }
        };
        world.race(look_twice, free_tables);
        world.end();
    });
}

/// A grace period is awaited by one CPU, and another one, which relies on its having ended, frees a
/// table that the first one has looked at.
///
/// Rule: who is told that a grace period has passed is past all that was read before its end. (No
/// patch shows it: with two threads the fence in front of the look at the slots orders all that
/// there is.)
#[test]
fn race_01_the_end_of_a_grace_period_that_another_cpu_has_seen() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 1);
        world.unmap(only(0));
        let look_and_wait = |world: &World| {
            assert_eq!(world.where_is(0), None);
            world.vm.synchronize();
        };
        world.race(look_and_wait, free_tables);
        world.end();
    });
}

/// An unmap has the table, not yet its lock, when a collapse makes a block of it.
///
/// Rule: after locking, the parent entry is loaded again. Taken out by `02-no-recheck.patch`.
#[test]
fn race_02_collapse_between_map_and_lock() {
    explore(|| {
        let world = World::new(small());
        world.map_contiguous();
        world.race(|world| world.unmap(only(1)), collapse_in_place);
        assert_eq!(world.where_is(1), None, "the unmap went to a dead table");
        assert!(world.where_is(0).is_some());
        world.end();
    });
}

/// As 2, but the table is freed, and by the time at which it is locked another one stands in its
/// place.
///
/// Rule: the re-check compares the whole value. Taken out by
/// `03-recheck-asks-only-for-a-table.patch`.
#[test]
fn race_03_another_table_comes_between_map_and_lock() {
    explore_with(2, || {
        let world = World::new(Setup { cpus: 3, ..small() });
        world.map(0, 1);
        world.unmap(only(0));
        let other = world.clone();
        let free = loom::thread::spawn(move || {
            let _cpu = other.machine.on_cpu(2);
            free_tables(&other)
        });
        let lock = |world: &World| {
            let reader = world.vm.read();
            let root = reader.root(page(0)).expect("a root");
            if let Ok(table) = root.slot(page(0)).map_nolock()
                && let Ok(table) = table.lock()
            {
                let named = root.kind(0);
                assert_eq!(
                    named,
                    EntryKind::Table(table.pa()),
                    "a dead table is locked"
                );
            }
        };
        world.race(lock, |world| world.map(1, 2));
        free.join().unwrap();
        world.end();
    });
}

/// A table is freed and comes back in the same slot, as the same value, while another CPU waits for
/// its lock.
///
/// Rule: a frame is freed a grace period after it was detached. Taken out by
/// `01-no-grace-period.patch`.
#[test]
fn race_04_a_table_comes_back_in_its_slot() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 1);
        world.unmap(only(0));
        let lock = |world: &World| {
            let reader = world.vm.read();
            let root = reader.root(page(0)).expect("a root");
            if let Ok(unlocked) = root.slot(page(0)).map_nolock()
                && let Ok(table) = unlocked.lock()
            {
                let _ = table.get(0);
            }
        };
        world.race(lock, |world| {
            free_tables(world);
            world.map(1, 2);
        });
        assert!(world.where_is(1).is_some());
        world.end();
    });
}

/// A table that a collapse has kept is taken back by a split while a reader that found it before
/// the collapse looks at it.
///
/// Rule: a kept table is used a grace period after it was detached. Taken out by
/// `04-kept-table-used-at-once.patch` and `04-moment-not-noted.patch`.
#[test]
fn race_04_a_kept_table_is_taken_back_under_a_reader() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 10);
        let there = world.map(1, 11);
        let collapse_and_split = |world: &World| {
            assert_eq!(world.collapse(ANYTHING), Ok(()));
            world.vm.split_block(page(0), Level::L2)
        };
        let look = |world: &World| {
            let reader = world.vm.read();
            let root = reader.root(page(0)).expect("a root");
            match root.slot(page(0)).map() {
                Ok(table) => {
                    // The reader is interrupted here, and looks at the table again.
                    let _ = table.kind(0);
                    Some(table.kind(1))
                }
                Err(Absent::Bad(_)) => panic!("a table in use is no table"),
                Err(_) => None,
            }
        };
        let (split, seen) = world.race(collapse_and_split, look);
        assert!(matches!(split, Ok(()) | Err(SplitError::Busy)));
        let now = world.where_is(1).expect("still mapped");
        let places = [there, now].map(EntryKind::Leaf);
        assert!(seen.is_none_or(|seen| places.contains(&seen)));
        world.end();
    });
}

/// A table is freed and becomes another VM's while a reader looks into it for its first VM.
///
/// Rule: a frame is freed a grace period after it was detached. Taken out by
/// `01-no-grace-period.patch`.
#[test]
fn race_05_a_table_becomes_another_vms() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 1);
        world.unmap(only(0));
        let other = World::beside(&world.machine, 2);
        let frame = other.memory(2);
        let theirs = frame.pa();
        let look_and_lock = |world: &World| {
            assert_eq!(world.where_is(1), None, "another VM's page was seen");
            let reader = world.vm.read();
            let root = reader.root(page(0)).expect("a root");
            if let Ok(table) = root.slot(page(0)).lock() {
                assert!(table.is_empty(), "another VM's table is locked");
            }
        };
        let vm = other.vm.clone();
        world.race(look_and_lock, move |world| {
            free_tables(world);
            let mapped = vm.map_page(page(1), frame, Attributes::RAM, DirtyState::Dirty);
            assert_eq!(mapped, Ok(()));
        });
        assert_eq!((world.where_is(0), world.where_is(1)), (None, None));
        assert_eq!((other.where_is(0), other.where_is(1)), (None, Some(theirs)));
    });
}

/// An operation unlocks a table, keeps the way back, and locks it again: the table may be gone by
/// then.
///
/// Rule: after locking, the parent entry is loaded again. Taken out by `02-no-recheck.patch`.
#[test]
fn race_07_a_table_is_detached_before_it_is_locked_again() {
    explore(|| {
        let world = World::new(small());
        world.map(0, 1);
        let lock_twice = |world: &World| {
            let reader = world.vm.read();
            let root = reader.root(page(0)).expect("a root");
            if let Ok(locked) = root.slot(page(0)).lock()
                && let Ok(again) = locked.unlock().lock()
            {
                let named = root.kind(0);
                assert_eq!(
                    named,
                    EntryKind::Table(again.pa()),
                    "a dead table is locked"
                );
            }
        };
        world.race(lock_twice, |world| {
            world.unmap(only(0));
            free_tables(world);
        });
        world.end();
    });
}

/// Two faults meet an entry that can't be, here one that names a table at PA 0.
///
/// Rule: a bad entry is cleared, so that nobody can loop on it. Taken out by
/// `09-bad-entry-stays.patch`.
#[test]
fn race_09_a_bad_entry_is_cleared_and_the_faults_end() {
    const TABLE_AT_0: u64 = 0b11;
    explore(|| {
        let world = World::new(small());
        world
            .machine
            .frames()
            .corrupt(world.vm.root(), 0, TABLE_AT_0);
        world.race(|world| world.map(0, 1), |world| world.map(1, 2));
        assert_eq!(world.counted(Counter::BadCleared), 1);
        assert!(world.where_is(0).is_some() && world.where_is(1).is_some());
        world.end();
    });
}

/// After every way in which a call can fail, a grace period still ends.
///
/// Rule: a section ends with its scope. Taken out by `10-error-leaves-the-section-open.patch`.
#[test]
fn race_10_no_error_leaves_its_section_open() {
    explore(|| {
        let world = World::new(small());
        let fail_and_wait = |world: &World| {
            world.map(0, 1);
            let map = |n| {
                let mapped =
                    world
                        .vm
                        .map_page(page(n), world.memory(2), Attributes::RAM, DirtyState::Dirty);
                world.given_back(mapped)
            };
            assert!(matches!(map(0), Err(MapError::Occupied(_))));
            world.machine.frames().fail_nth(1);
            assert_eq!(map(2), Err(MapError::OutOfFrames));
            assert!(world.vm.split_block(page(0), Level::L2).is_err());
            assert!(world.vm.collapse_in_place(page(0), Level::L2).is_err());
            world.vm.synchronize();
        };
        world.race(fail_and_wait, |world| {
            let beyond = Ipa::new(1 << 40);
            assert_eq!(world.vm.query(beyond), None);
            let fault = world
                .vm
                .resolve_fault(page(2), Access::Read, DirtyGranule::Leaf);
            assert_eq!(fault, Resolution::Unmapped);
        });
        world.end();
    });
}
