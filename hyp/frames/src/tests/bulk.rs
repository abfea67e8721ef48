//! Freeing many frames at once.

use super::super::{Fill, FrameAllocator, Order, State};
use super::audit::audit;
use super::threads::Numbers;
use super::{MIB, allocator, data, range};
use crate::testing::Arena;
use stage2::Pa;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const CPU: usize = 0;

/// Allocates frames and returns them sorted, each used as `data(1, n)` where n is its place in
/// `order` of the sorted ones.
fn allocated(
    frames: &FrameAllocator<Arena>,
    count: usize,
    order: impl Fn(&mut Vec<Pa>),
) -> Vec<Pa> {
    let alloc = |_| frames.alloc(CPU, Order::PAGE, Fill::Dirty, data(1, 0));
    let mut all: Vec<Pa> = (0..count).map(alloc).collect::<Result<_, _>>().unwrap();
    all.sort();
    order(&mut all);
    for (page, pa) in (0..).zip(&all) {
        frames
            .change_use(CPU, *pa, data(1, 0), data(1, page))
            .unwrap();
    }
    all
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn runs_go_back_in_any_order() {
    let rising: fn(&mut Vec<Pa>) = |_| {};
    let falling: fn(&mut Vec<Pa>) = |all| all.reverse();
    let scattered: fn(&mut Vec<Pa>) = |all| {
        let mut numbers = Numbers(7);
        (1..all.len()).for_each(|i| all.swap(i, numbers.below(i + 1)));
    };
    for order in [rising, falling, scattered] {
        // With a hole in memory, and for a CPU that has no cache as well.
        for cpu in [CPU, 9] {
            let frames = allocator(&[range(16, 3), range(22, 4)], 1);
            let before = audit(&frames);
            let all = allocated(&frames, 1200, order);
            frames.free_run(cpu, data(1, 0), all.iter().copied().map(Some));
            assert_eq!(audit(&frames).data, 0);
            frames.drain_caches();
            assert_eq!(audit(&frames).free_blocks, before.free_blocks);
        }
    }
}

#[test]
fn where_there_is_no_frame_the_address_goes_on() {
    const COUNT: usize = if cfg!(miri) { 100 } else { 300 };
    let frames = allocator(&[range(16, 4)], 1);
    let all = allocated(&frames, COUNT, |_| {});
    let every = |step: usize, part: usize| {
        let chosen = move |(at, pa): (usize, &Pa)| (at % step == part).then_some(*pa);
        all.iter().enumerate().map(chosen).collect::<Vec<_>>()
    };
    frames.free_run(CPU, data(1, 0), every(2, 1).into_iter());
    assert_eq!(audit(&frames).data, COUNT / 2);
    frames.free_run(CPU, data(1, 0), every(2, 0).into_iter());
    assert_eq!(audit(&frames).data, 0);
}

#[test]
fn what_is_used_otherwise_stays() {
    let frames = allocator(&[range(16, 4)], 1);
    let all = allocated(&frames, 40, |_| {});
    frames
        .change_use(CPU, all[20], data(1, 20), data(2, 20))
        .unwrap();
    let run = || all.iter().copied().map(Some);
    frames.free_run(CPU, data(1, 0), run());
    assert_eq!(frames.use_of(all[20]), Some(data(2, 20)));
    assert_eq!(audit(&frames).data, 1);
    // A second time, and from where there is no RAM.
    frames.free_run(CPU, data(1, 0), run());
    frames.free_run(CPU, data(1, 0), [Some(Pa::new(MIB)), None].into_iter());
    assert_eq!(audit(&frames).data, 1);
}

#[test]
fn an_isolation_keeps_a_run_that_is_its_whole_block() {
    let frames = allocator(&[range(16, 6)], 1);
    let block = frames
        .alloc(CPU, Order::BLOCK_2M, Fill::Dirty, data(1, 0))
        .unwrap();
    frames.split(block, Order::BLOCK_2M).unwrap();
    // Only a block of which something is free can be isolated.
    frames.free(CPU, block, Order::PAGE).unwrap();
    frames.drain_caches();
    let isolation = frames.isolate(block).unwrap();
    let rest = (1..512).map(|page| Some(block.offset(page << 12)));
    frames.free_run(CPU, data(1, 1), rest);
    audit(&frames);
    let block = isolation.finish(data(2, 0)).expect("all of it is held");
    let whole = State::Allocated {
        used: data(2, 0),
        order: Order::BLOCK_2M,
    };
    assert_eq!(frames.frame(block).unwrap().state(), whole);
    // No frame was free when this one began: the run comes back as one block of 2 MiB.
    frames.split(block, Order::BLOCK_2M).unwrap();
    let isolation = frames.isolate(block).unwrap();
    frames.free_run(
        CPU,
        data(2, 0),
        (0..512).map(|page| Some(block.offset(page << 12))),
    );
    audit(&frames);
    assert_eq!(isolation.held(), 512);
    drop(isolation);
    audit(&frames);
}

#[test]
fn isolations_lose_no_frame_of_a_run() {
    let frames = &allocator(&[range(16, 4)], 2);
    let (before, ended) = (audit(frames), &AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut numbers = Numbers(3);
            for _ in 0..if cfg!(miri) { 3 } else { 3000 } {
                let all = allocated(frames, 1 + numbers.below(90), |_| {});
                frames.free_run(CPU, data(1, 0), all.into_iter().map(Some));
            }
            ended.store(true, Ordering::Relaxed);
        });
        let mut block = 16;
        while !ended.load(Ordering::Relaxed) {
            block = 34 - block;
            if let Ok(isolation) = frames.isolate(Pa::new(block * MIB)) {
                assert!(isolation.held() <= 512);
            }
            thread::yield_now();
        }
    });
    frames.drain_caches();
    assert_eq!(audit(frames).free_blocks, before.free_blocks);
}
