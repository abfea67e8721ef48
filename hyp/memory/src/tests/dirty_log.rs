//! What is written while logging is on is told, and no more than that.

use crate::compaction::requests::answer;
use crate::compaction::{Compactor, Policy, Stress};
use crate::testing::{GUEST, Host, guest, level_at, machine, page, store};
use crate::{GuestMemory, ReleaseError};
use bootargs::HugePolicy;
use frames::{Fill, Order, Use, VmId};
use psci::table_calls as calls;
use stage2::{IpaRange, Level, PAGE_SIZE};
use std::collections::BTreeSet;

const PAGES: u64 = GUEST / PAGE_SIZE;

fn dirty(memory: &GuestMemory<'_, Host>) -> BTreeSet<u64> {
    let mut pages = BTreeSet::new();
    memory.collect_dirty(memory.ram(), |range| {
        let first = (range.start().get() - page(0).get()) / PAGE_SIZE;
        pages.extend(first..first + range.pages());
    });
    pages
}

#[test]
fn what_was_written_is_told_page_by_page() {
    for huge in [HugePolicy::Always, HugePolicy::Never, HugePolicy::Reserve] {
        let machine = machine();
        let memory = guest(&machine, huge);
        (0..PAGES / 2).for_each(|page| store(&memory, page, 1));
        memory.set_logging(true);
        dirty(&memory);
        let written = BTreeSet::from([0, 1, 511, 700]);
        written.iter().for_each(|&page| store(&memory, page, 2));
        assert_eq!(dirty(&memory), written, "{huge:?}");
        assert_eq!(dirty(&memory), BTreeSet::new(), "{huge:?}");
        memory.destroy();
    }
}

#[test]
fn what_is_mapped_under_logging_counts_as_written() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Always);
    memory.set_logging(true);
    dirty(&memory);
    store(&memory, 3, 1);
    assert_eq!(level_at(&memory, 3), Level::L3, "not 2 MiB for one page");
    assert_eq!(dirty(&memory), BTreeSet::from([3]));
    memory.destroy();
}

#[test]
fn without_logging_blocks_stay_whole() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Always);
    store(&memory, 0, 1);
    dirty(&memory);
    store(&memory, 0, 2);
    assert_eq!(level_at(&memory, 0), Level::L2);
    assert_eq!(dirty(&memory).len(), 512);
    memory.destroy();
}

/// Or else the guest would fault on the same store for ever.
#[test]
fn where_no_frame_is_left_for_a_split_the_block_is_told_as_a_whole() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Always);
    store(&memory, 0, 1);
    memory.set_logging(true);
    dirty(&memory);
    let (allocator, vm) = (machine.allocator(), VmId(1));
    let ipa = page(0);
    let page = || allocator.alloc(0, Order::PAGE, Fill::Dirty, Use::Data { vm, ipa });
    let taken: Vec<_> = std::iter::from_fn(|| page().ok()).collect();
    store(&memory, 3, 2);
    assert_eq!(level_at(&memory, 3), Level::L2);
    assert_eq!(dirty(&memory), (0..512).collect());
    for page in taken {
        allocator
            .free(0, page, Order::PAGE)
            .expect("it was allocated");
    }
    store(&memory, 3, 2);
    assert_eq!(dirty(&memory), BTreeSet::from([3]));
    memory.destroy();
}

#[test]
fn nothing_is_taken_back_while_logging_is_on() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Never);
    store(&memory, 0, 1);
    memory.set_logging(true);
    let range = IpaRange::entry(page(0), Level::L3);
    assert_eq!(memory.release(range), Err(ReleaseError::Logged));
    assert_eq!(level_at(&memory, 0), Level::L3);
    memory.set_logging(false);
    assert_eq!(memory.release(range), Ok(()));
    memory.destroy();
}

#[test]
fn compaction_leaves_logged_memory_alone() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Reserve);
    (0..512).for_each(|page| store(&memory, page, 1));
    let policy = Policy {
        fill: 1,
        step: 4096,
        max_hot: Policy::MAX_HOT,
        rounds: Policy::ROUNDS,
    };
    let mut compactor = Compactor::new(policy);
    memory.set_logging(true);
    compactor.step(&memory);
    assert_eq!(level_at(&memory, 0), Level::L3);
    memory.set_logging(false);
    compactor.step(&memory);
    assert_eq!(level_at(&memory, 0), Level::L2);
    memory.destroy();
}

/// Also where a page of zeros was written with zeros, which stress would take away.
#[test]
#[cfg_attr(miri, ignore = "thousands of pages are copied")]
fn stress_loses_no_dirt() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Always);
    (0..PAGES).for_each(|page| store(&memory, page, page % 3));
    memory.set_logging(true);
    dirty(&memory);
    for seed in 1..40 {
        let mut stress = Stress::new(seed * 0x9e37_79b9);
        let mut written = BTreeSet::new();
        for step in 0..16 {
            let page = (seed * 769 + step * 131) % PAGES;
            store(&memory, page, page % 2);
            written.insert(page);
            stress.step(&memory);
        }
        let dirty = dirty(&memory);
        let lost: Vec<_> = written.difference(&dirty).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
    }
    memory.destroy();
}

#[test]
fn calls_answer_what_was_written() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Always);
    let call = |function: u32, first, second| {
        let mut values = [0; 8];
        let status = answer(&memory, [function.into(), first, second, 0], &mut values);
        (status, values)
    };
    let (start, size) = (page(0).get(), 2 << 20);
    store(&memory, 0, 1);
    assert_eq!(call(calls::LOG, 1, 0).0, 0);
    assert_eq!(call(calls::CLEAN, start, size).0, 0);
    store(&memory, 65, 1);
    let only = (1, [0, 2, 0, 0, 0, 0, 0, 0]);
    assert_eq!(call(calls::COLLECT, start, size), only);
    store(&memory, 65, 1);
    // The same page, from another one on.
    let only = (1, [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        call(calls::COLLECT, page(64).get(), size - 64 * PAGE_SIZE),
        only
    );
    memory.destroy();
}
