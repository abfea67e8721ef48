//! Making a 2 MiB block free.

use super::super::{Cursor, Fill, NotIsolated, Order, Setup, State, Use};
use super::audit::audit;
use super::{MIB, allocator, data, range, with};
use stage2::Pa;

const CPU: usize = 0;

/// So many 2 MiB blocks and their metadata, all allocated as single frames of a guest's data, at
/// page numbers that equal the frames'.
fn full(blocks: u64, cpus: usize) -> (super::FrameAllocator<super::Arena>, Vec<Pa>) {
    let setup = Setup {
        ram: &[range(16, 2 + 2 * blocks)],
        reserved: &[range(17, 1)],
        cpus,
        limit: None,
    };
    let frames = with(&setup).expect("room for the metadata");
    let mut all = Vec::new();
    while let Ok(pa) = frames.alloc(CPU, Order::PAGE, Fill::Dirty, data(1, 0)) {
        frames
            .change_use(CPU, pa, data(1, 0), data(1, pa.get() >> 12))
            .unwrap();
        all.push(pa);
    }
    (frames, all)
}

fn in_block(pa: Pa, block: u64) -> bool {
    pa.get() / (2 * MIB) == block / 2
}

#[test]
fn frames_freed_during_an_isolation_stay_and_become_the_block() {
    let (frames, all) = full(1, 2);
    let (inside, outside): (Vec<Pa>, Vec<Pa>) = all.iter().partition(|pa| in_block(**pa, 18));
    assert_eq!(inside.len(), 512);
    // Some are free before: in the buddy, and in the caches of two CPUs.
    for (i, &pa) in inside.iter().take(200).enumerate() {
        frames.free(i % 2, pa, Order::PAGE).unwrap();
    }
    frames.free(CPU, outside[0], Order::PAGE).unwrap();
    let isolation = frames.isolate(Pa::new(18 * MIB)).unwrap();
    assert_eq!(isolation.held(), 200);
    assert_eq!(isolation.in_use().count(), 312);
    assert_eq!(
        frames.isolate(Pa::new(18 * MIB)).unwrap_err(),
        NotIsolated::Busy
    );
    audit(&frames);

    let pa = frames
        .alloc(1, Order::PAGE, Fill::Dirty, Use::Table)
        .unwrap();
    assert_eq!(pa, outside[0], "the only free frame that is not isolated");
    assert!(
        frames
            .alloc(1, Order::PAGE, Fill::Dirty, Use::Table)
            .is_err()
    );

    let isolation = isolation.finish(Use::Hypervisor).unwrap_err();
    for (pa, used, order) in isolation.in_use().collect::<Vec<_>>() {
        assert_eq!(used, data(1, pa.get() >> 12));
        frames.free(1, pa, order).unwrap();
    }
    audit(&frames);
    let block = isolation.finish(data(3, 512)).unwrap();
    assert_eq!(block, Pa::new(18 * MIB));
    assert_eq!(
        frames.frame(block).unwrap().state(),
        State::Allocated {
            used: data(3, 512),
            order: Order::BLOCK_2M
        }
    );
    audit(&frames);
    frames.free(CPU, block, Order::BLOCK_2M).unwrap();
    assert_eq!(audit(&frames).free, 512);
}

#[test]
fn an_isolation_that_is_dropped_changes_nothing() {
    let (frames, all) = full(1, 1);
    for &pa in all.iter().filter(|pa| in_block(**pa, 18)).step_by(3) {
        frames.free(CPU, pa, Order::PAGE).unwrap();
    }
    frames.drain_caches();
    let before = audit(&frames);
    let isolation = frames.isolate(Pa::new(18 * MIB)).unwrap();
    assert_eq!(audit(&frames).free, 0);
    drop(isolation);
    assert_eq!(
        audit(&frames),
        super::super::Usage {
            low_water: 0,
            ..before
        }
    );
    let pa = frames
        .alloc(CPU, Order::PAGE, Fill::Dirty, Use::Table)
        .unwrap();
    frames.free(CPU, pa, Order::PAGE).unwrap();
    assert!(frames.usage().cached > 0, "caches are used again");
}

#[test]
fn whole_blocks_and_other_addresses_are_not_isolated() {
    let frames = allocator(&[range(16, 8)], 1);
    let isolate = |pa| frames.isolate(Pa::new(pa)).map(drop).unwrap_err();
    assert_eq!(isolate(18 * MIB), NotIsolated::Whole);
    assert_eq!(isolate(22 * MIB), NotIsolated::Whole);
    assert_eq!(isolate(19 * MIB), NotIsolated::NoBlock);
    assert_eq!(isolate(14 * MIB), NotIsolated::NoBlock);
    let pa = frames
        .alloc(CPU, Order::BLOCK_2M, Fill::Dirty, Use::Table)
        .unwrap();
    assert_eq!(isolate(pa.get()), NotIsolated::Whole);
    assert!(!NotIsolated::Whole.to_string().is_empty());
}

#[test]
fn the_block_with_the_fewest_frames_to_move_is_found() {
    let (frames, all) = full(2, 1);
    let mut cursor = Cursor::default();
    assert_eq!(
        frames.find_candidate(&mut cursor, 10, 512),
        None,
        "nothing is free"
    );
    for &pa in &all {
        let keep = if in_block(pa, 18) { 40 } else { 10 };
        if !in_block(pa, 16) && pa.get() >> 12 & 511 >= keep {
            frames.free(CPU, pa, Order::PAGE).unwrap();
        }
    }
    frames.drain_caches();
    let best = frames.find_candidate(&mut cursor, 10, 512).unwrap();
    assert_eq!(
        (best.pa, best.movable, best.fixed),
        (Pa::new(20 * MIB), 10, 0)
    );
    assert_eq!(
        frames.find_candidate(&mut cursor, 10, 9),
        None,
        "more than may be moved"
    );
    // A table in it cannot be moved.
    let pa = Pa::new(20 * MIB);
    let used = data(1, pa.get() >> 12);
    frames.change_use(CPU, pa, used, Use::Table).unwrap();
    let best = frames.find_candidate(&mut cursor, 10, 512).unwrap();
    assert_eq!(
        (best.pa, best.movable, best.free),
        (Pa::new(18 * MIB), 40, 472)
    );
    assert_eq!(frames.survey(Pa::new(20 * MIB)).unwrap().fixed, 1);
    // One block a call: the cursor goes round.
    let found = (0..3)
        .filter_map(|_| frames.find_candidate(&mut cursor, 1, 512))
        .count();
    assert_eq!(found, 1);
}
