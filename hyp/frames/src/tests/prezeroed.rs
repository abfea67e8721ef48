//! Blocks of 2 MiB: zeroed ahead, and given back in parts.

use super::super::{Fill, FrameAllocator, NotIsolated, Order, Use};
use super::audit::audit;
use super::{allocator, data, range};
use crate::testing::Arena;
use stage2::Pa;
use std::sync::Barrier;
use std::thread;

const CPU: usize = 0;
/// MiB of memory.
const RAM: u64 = if cfg!(miri) { 6 } else { 12 };

fn block(frames: &FrameAllocator<Arena>, contents: Fill) -> Option<Pa> {
    frames
        .alloc(CPU, Order::BLOCK_2M, contents, data(1, 0))
        .ok()
}

/// Lets a CPU that was asked for a zeroed block be idle, until it has nothing more to do.
fn with_prezeroed_block() -> FrameAllocator<Arena> {
    let frames = allocator(&[range(16, RAM)], 2);
    let first = block(&frames, Fill::Zeroed).unwrap();
    frames.map().scribble(first, 512);
    frames.free(CPU, first, Order::BLOCK_2M).unwrap();
    while frames.prezero(CPU) {}
    assert!(audit(&frames).cached >= 512);
    frames
}

#[test]
fn nothing_is_zeroed_ahead_for_a_cpu_that_asked_for_no_block() {
    let frames = allocator(&[range(16, RAM)], 2);
    block(&frames, Fill::Dirty).unwrap();
    while frames.prezero(CPU) {}
    assert!(audit(&frames).cached < 512);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn a_block_is_handed_out_zeroed_also_if_it_was_not_done() {
    let frames = with_prezeroed_block();
    for pages in [0, 1, 100, 511] {
        let pa = block(&frames, Fill::Zeroed).unwrap();
        assert!(frames.map().is_zero(pa, 512));
        frames.map().scribble(pa, 512);
        frames.free(CPU, pa, Order::BLOCK_2M).unwrap();
        (0..pages).for_each(|_| assert!(frames.prezero(CPU)));
        audit(&frames);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn a_block_ahead_is_memory_for_everybody() {
    for order in [Order::PAGE, Order::new(6).unwrap(), Order::BLOCK_2M] {
        let frames = with_prezeroed_block();
        let (cpu, used) = (1, Use::Hypervisor);
        let all = || {
            std::iter::from_fn(|| frames.alloc(cpu, order, Fill::Dirty, used).ok())
                .collect::<Vec<Pa>>()
        };
        let taken = all();
        assert!(frames.usage().cached < 512, "order {order}");
        for pa in &taken {
            frames.free(cpu, *pa, order).unwrap();
        }
        // Without one there would be no more.
        assert_eq!(all().len(), taken.len(), "order {order}");
    }
}

#[test]
fn a_block_ahead_is_not_isolated_and_not_kept_where_memory_is_short() {
    let frames = with_prezeroed_block();
    let ahead = (16..16 + RAM).step_by(2).map(|mib| Pa::new(mib << 20));
    let whole = ahead.filter(|pa| frames.isolate(*pa).err() == Some(NotIsolated::Whole));
    assert!(whole.count() >= 1);
    while block(&frames, Fill::Dirty).is_some() {}
    while frames.prezero(CPU) {}
    assert!(audit(&frames).cached < 512);
}

#[test]
fn a_guests_block_is_freed_frame_by_frame_or_whole() {
    let frames = allocator(&[range(16, 6)], 1);
    let before = audit(&frames);
    let pa = frames
        .alloc(CPU, Order::BLOCK_2M, Fill::Dirty, data(1, 0x200))
        .unwrap();
    let page = |index: u64| pa.offset(index << 12);
    frames.free(CPU, page(7), Order::PAGE).unwrap();
    assert_eq!(audit(&frames).data, 511);
    assert!(
        frames.free(CPU, page(7), Order::PAGE).is_err(),
        "freed twice"
    );
    assert_eq!(frames.use_of(page(8)), Some(data(1, 0x208)));
    assert!(frames.free_whole(CPU, pa).is_err(), "a frame is missing");
    let rest = (0..512).map(|index| (index != 7).then(|| page(index)));
    frames.free_run(CPU, data(1, 0x200), rest);
    assert_eq!(audit(&frames).data, 0);
    for broken in [false, true] {
        let pa = block(&frames, Fill::Dirty).unwrap();
        if broken {
            frames.split(pa, Order::BLOCK_2M).unwrap();
        }
        frames.free_whole(CPU, pa).unwrap();
        assert!(frames.free_whole(CPU, pa).is_err(), "freed twice");
    }
    // Not a guest's: it stays one.
    let own = frames
        .alloc(CPU, Order::BLOCK_2M, Fill::Dirty, Use::Hypervisor)
        .unwrap();
    assert!(frames.free(CPU, own.offset(0x1000), Order::PAGE).is_err());
    frames.free(CPU, own, Order::BLOCK_2M).unwrap();
    frames.drain_caches();
    assert_eq!(audit(&frames).free_blocks, before.free_blocks);
}

#[test]
fn two_cpus_give_back_parts_of_one_block() {
    let frames = &allocator(&[range(16, 4)], 2);
    let before = audit(frames);
    for round in 0..if cfg!(miri) { 2 } else { 300 } {
        let pa = block(frames, Fill::Dirty).unwrap();
        let start = &Barrier::new(2);
        thread::scope(|scope| {
            for cpu in 0..2 {
                scope.spawn(move || {
                    start.wait();
                    for page in (0..512).filter(|page| (page + round) % 2 == cpu) {
                        let page = pa.offset(page as u64 * 4096);
                        frames.free(cpu, page, Order::PAGE).unwrap();
                    }
                });
            }
        });
        frames.drain_caches();
        assert_eq!(audit(frames).free_blocks, before.free_blocks);
    }
}
