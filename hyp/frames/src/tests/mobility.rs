//! What cannot be moved stays together.

use super::super::{Fill, FrameAllocator, Order, Setup, State, Use};
use super::audit::audit;
use super::threads::Numbers;
use super::{MIB, allocator, data, range, with};
use crate::testing::Arena;
use stage2::Pa;
use std::collections::BTreeSet;

const CPUS: usize = 2;
/// Frames of a 2 MiB block.
const BLOCK: usize = 512;
/// The most tables there are.
const TABLES: usize = 600;

/// Memory of which all is soon in use: less of it may be where that takes long.
fn small(cpus: usize) -> FrameAllocator<Arena> {
    let setup = Setup {
        ram: &[range(16, 4)],
        reserved: &[],
        cpus,
        limit: cfg!(miri).then_some(MIB / 2),
    };
    with(&setup).expect("room for the metadata")
}

/// How many 2 MiB blocks these pin that nothing pinned from the start.
fn pinned(frames: &FrameAllocator<Arena>, fixed: &[Pa]) -> usize {
    let blocks: BTreeSet<_> = fixed.iter().map(|pa| pa.get() >> 21).collect();
    let whole = |number: &&u64| {
        let first = Pa::new(**number << 21);
        let pages = (0..BLOCK as u64).map(|page| first.offset(page << 12));
        let mut states = pages.filter_map(|pa| frames.frame(pa).map(|frame| frame.state()));
        !states.any(|state| matches!(state, State::Permanent | State::Absent))
    };
    blocks.iter().filter(whole).count()
}

fn page(frames: &FrameAllocator<Arena>, cpu: usize, used: Use) -> Option<Pa> {
    // Clearing memory is slow where it is interpreted, and nobody looks at it here.
    let contents = [Fill::Zeroed, Fill::Dirty][usize::from(cfg!(miri))];
    frames.alloc(cpu, Order::PAGE, contents, used).ok()
}

/// Data and tables come and go on two CPUs, in any order, while up to `most` frames are in use.
/// Returns both, and the most blocks that were pinned.
fn mixed(frames: &FrameAllocator<Arena>, most: usize, steps: usize) -> (Vec<Pa>, Vec<Pa>, usize) {
    let (mut datas, mut fixed, mut peak) = (Vec::new(), Vec::new(), 0);
    let mut numbers = Numbers(most as u64);
    for step in 0..steps {
        let cpu = numbers.below(CPUS);
        let (of, used, limit) = match numbers.below(8) {
            0 => (&mut fixed, Use::Table, TABLES),
            _ => (&mut datas, data(1, step as u64), most - TABLES),
        };
        // Towards the limit, and up and down when it is reached.
        if of.len() < limit && numbers.below(3) != 0 {
            of.extend(page(frames, cpu, used));
        } else if !of.is_empty() {
            let pa = of.swap_remove(numbers.below(of.len()));
            frames.free(cpu, pa, Order::PAGE).unwrap();
        }
        if numbers.below(64) == 0 {
            frames.prezero(cpu);
        }
        if step % 256 == 0 {
            peak = peak.max(pinned(frames, &fixed));
        }
    }
    (datas, fixed, peak)
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn tables_stay_together_among_data_that_comes_and_goes() {
    let frames = &allocator(&[range(16, 32)], CPUS);
    let total = frames.usage().total;
    let (datas, fixed, peak) = mixed(frames, total * 9 / 10, 60_000);
    assert!(datas.len() > total / 2 && fixed.len() > BLOCK, "too little");
    // The block that has the metadata is half free; the rest, and what the CPUs keep at hand, is
    // less than a block.
    assert_eq!(peak, 1, "blocks that have been pinned");
    audit(frames);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn tables_take_few_blocks_also_where_data_is_everywhere() {
    let frames = &allocator(&[range(16, 32)], CPUS);
    let mut datas: Vec<Pa> = core::iter::from_fn(|| page(frames, 0, data(1, 0))).collect();
    let mut numbers = Numbers(7);
    for _ in 0..datas.len() / 8 {
        let pa = datas.swap_remove(numbers.below(datas.len()));
        frames.free(0, pa, Order::PAGE).unwrap();
    }
    frames.drain_caches();
    let fixed: Vec<Pa> = (0..450)
        .filter_map(|step| page(frames, step % CPUS, Use::Table))
        .collect();
    assert_eq!(fixed.len(), 450);
    // An eighth of each block is free.
    let least = fixed.len().div_ceil(BLOCK / 8);
    let pinned = pinned(frames, &fixed);
    assert!(pinned <= least + 2, "{pinned} blocks instead of {least}");
    audit(frames);
}

#[test]
fn either_takes_what_is_the_others_before_there_is_none() {
    for (first, second) in [(data(1, 0), Use::Table), (Use::Table, data(1, 0))] {
        let frames = &small(CPUS);
        let total = frames.usage().total;
        let kept = page(frames, 0, first).unwrap();
        let mut all: Vec<Pa> = core::iter::from_fn(|| page(frames, 1, second)).collect();
        assert_eq!(all.len(), total - 1);
        for pa in all.drain(..).chain([kept]) {
            frames.free(0, pa, Order::PAGE).unwrap();
        }
        let again = core::iter::from_fn(|| page(frames, 1, first)).count();
        assert_eq!(again, total);
        assert_eq!(audit(frames).cached, 0);
    }
}

#[test]
fn what_a_cpu_has_of_the_other_kind_is_taken_before_caches_are_emptied() {
    let frames = &small(CPUS);
    let mut all: Vec<Pa> = core::iter::from_fn(|| page(frames, 0, Use::Table)).collect();
    // Each CPU gets one frame back, of a block for what is fixed.
    for cpu in 0..CPUS {
        let pa = all.pop().expect("a frame for each CPU");
        frames.free(cpu, pa, Order::PAGE).unwrap();
    }
    assert_eq!(audit(frames).cached, CPUS);
    page(frames, 0, data(1, 0)).expect("a frame is free");
    assert_eq!(audit(frames).cached, 1, "the other CPU keeps what it has");
}

#[test]
fn zeroing_ahead_ends_where_only_blocks_of_the_other_kind_are_left() {
    for used in [Use::Table, data(1, 0)] {
        let frames = &small(1);
        let all: Vec<Pa> = core::iter::from_fn(|| page(frames, 0, used)).collect();
        for pa in all.iter().skip(all.len() / 2) {
            frames.free(0, *pa, Order::PAGE).unwrap();
        }
        frames.drain_caches();
        let rounds = (0..2 * all.len()).take_while(|_| frames.prezero(0));
        assert!(
            rounds.count() < 128,
            "a CPU zeroes the same frames again and again"
        );
        audit(frames);
    }
}
