//! Faults in different regions of 2 MiB write no cache line that the other uses: counted,
//! instruction by instruction, on the production source. That is what lets it scale to more CPUs
//! than a test has.
#![cfg(all(target_arch = "x86_64", target_os = "linux", not(loom), not(miri)))]
#![allow(
    dead_code,
    reason = "this test uses some of the benchmark's parts only"
)]

mod arena;
mod gate;
mod lean;
mod lines;
mod ours;
mod plain;
mod step;
mod subject;

use lines::{Counted, Where, counted};
use ours::Ours;
use plain::{Exclusive, Plain, SideBySide};
use subject::{Operation, Subject};

/// Where tables are there. (A region's first fault makes one: that writes shared lines, once.)
const PAGES: [Operation; 4] = [
    Operation::Unmap,
    Operation::Map,
    Operation::Lock,
    Operation::Walk,
];

fn lines_of<S: Subject>(second: Where) -> Vec<usize> {
    of_each::<S>(second, |counted| counted.shared.lines)
}

fn of_each<S: Subject>(second: Where, what: impl Fn(Counted) -> usize) -> Vec<usize> {
    let counted = counted::<S>(&PAGES, second).into_iter();
    counted.map(|each| what(each.expect("counted"))).collect()
}

#[test]
fn two_regions_share_no_line() {
    assert_eq!(lines_of::<Ours>(Where::NextRegion), [0, 0, 0, 0]);
}

/// What the count is worth: it sees the lock of a table, and a lock for all.
#[test]
fn locks_are_seen() {
    assert_eq!(lines_of::<Ours>(Where::SameRegion), [1, 1, 1, 0]);
    let one_lock = [lines_of::<Plain<Exclusive>>, lines_of::<Plain<SideBySide>>];
    for of in one_lock {
        assert_eq!(of(Where::NextRegion), [1, 1, 1, 1]);
    }
}

/// A read section is announced behind a fence, and a table's lock taken by one locked instruction;
/// letting both go waits for nothing. Counting, statistics and entries take no further one.
#[test]
fn a_call_waits_for_its_stores_twice() {
    let waits = of_each::<Ours>(Where::NextRegion, |counted| counted.cost.waiting);
    assert_eq!(waits, [2, 2, 2, 1]);
}
