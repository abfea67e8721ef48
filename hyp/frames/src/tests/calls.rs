//! Each call, and what it refuses.

use super::super::{Fill, Order, OutOfFrames, State, Use, VmId};
use super::audit::audit;
use super::{allocator, data, range, reserved};
use stage2::{Ipa, Pa};

const CPU: usize = 0;

#[test]
fn a_frame_knows_its_vm_and_address() {
    let frames = allocator(&[range(16, 4)], 1);
    let used = data(7, 0x40123);
    let pa = frames.alloc(CPU, Order::PAGE, Fill::Dirty, used).unwrap();
    assert_eq!(frames.use_of(pa.offset(0xfff)), Some(used));
    frames.change_use(CPU, pa, used, reserved(7, 9)).unwrap();
    assert_eq!(frames.use_of(pa), Some(reserved(7, 9)));
    assert_eq!(audit(&frames).reserved, 1);
    frames.free(CPU, pa, Order::PAGE).unwrap();
    assert_eq!(frames.use_of(pa), None);
}

#[test]
fn each_frame_of_a_block_has_its_own_address() {
    let frames = allocator(&[range(16, 8)], 1);
    let pa = frames
        .alloc(CPU, Order::BLOCK_2M, Fill::Dirty, data(1, 0x400))
        .unwrap();
    assert_eq!(
        frames.use_of(pa.offset(511 << 12)),
        Some(data(1, 0x400 + 511))
    );
    let free = frames
        .alloc(CPU, Order::BLOCK_2M, Fill::Dirty, data(1, 0))
        .unwrap();
    frames.free(CPU, free, Order::BLOCK_2M).unwrap();
    assert_eq!(frames.use_of(free.offset(0x1000)), None);
}

#[test]
fn a_block_can_be_split_freed_in_part_and_joined() {
    let frames = allocator(&[range(16, 2)], 1);
    let order = Order::new(4).unwrap();
    let pa = frames
        .alloc(CPU, order, Fill::Dirty, reserved(1, 0x400))
        .unwrap();
    frames.split(pa, order).unwrap();
    assert!(frames.free(CPU, pa, order).is_err(), "no longer one block");
    for page in 0..16 {
        let (at, place) = (pa.offset(page << 12), 0x400 + page);
        frames
            .change_use(CPU, at, reserved(1, place), data(1, place))
            .unwrap();
        let joined = frames.join(pa, order);
        assert_eq!(
            joined.is_ok(),
            page == 15,
            "joined when all frames are alike"
        );
    }
    assert_eq!(audit(&frames).data, 16);
    assert!(frames.join(pa, order).is_err(), "joined already");
    frames.split(pa, order).unwrap();
    frames.free(CPU, pa.offset(5 << 12), Order::PAGE).unwrap();
    assert!(frames.join(pa, order).is_err());
    let unaligned = pa.offset(8 << 12);
    assert!(frames.join(unaligned, order).is_err());
    assert_eq!(audit(&frames).data, 15);
}

#[test]
fn freeing_what_is_not_allocated_is_refused() {
    let frames = allocator(&[range(16, 8)], 1);
    let order = Order::new(3).unwrap();
    let pa = frames.alloc(CPU, order, Fill::Dirty, Use::Table).unwrap();
    let before = frames.usage();
    for (address, order) in [
        (pa, Order::PAGE),
        (pa, Order::BLOCK_2M),
        (pa.offset(0x1000), Order::PAGE),
        (pa.offset(1), order),
        (Pa::new(0), Order::PAGE),
        (Pa::new(u64::MAX), order),
        (Pa::new(16 << 20), Order::PAGE),
    ] {
        assert_eq!(frames.free(CPU, address, order).unwrap_err().pa, address);
    }
    assert_eq!(frames.usage(), before);
    frames.free(CPU, pa, order).unwrap();
    assert!(frames.free(CPU, pa, order).is_err(), "freed twice");

    let page = frames
        .alloc(CPU, Order::PAGE, Fill::Dirty, Use::Table)
        .unwrap();
    frames.free(CPU, page, Order::PAGE).unwrap();
    let twice = frames.free(CPU, page, Order::PAGE).unwrap_err();
    assert_eq!(twice.found, State::Cached { order: Order::PAGE });
    assert!(!twice.to_string().is_empty());
    audit(&frames);
}

#[test]
fn changing_what_is_something_else_is_refused() {
    let frames = allocator(&[range(16, 4)], 1);
    let pa = frames
        .alloc(CPU, Order::PAGE, Fill::Dirty, data(1, 1))
        .unwrap();
    assert!(frames.change_use(CPU, pa, data(1, 2), Use::Table).is_err());
    assert!(frames.change_use(CPU, pa, data(2, 1), Use::Table).is_err());
    assert!(
        frames
            .change_use(CPU, Pa::new(0), data(1, 1), Use::Table)
            .is_err()
    );
    assert!(frames.split(pa, Order::BLOCK_2M).is_err());
    assert_eq!(frames.use_of(pa), Some(data(1, 1)));
}

#[test]
fn zeroed_means_zeroed_whoever_had_it() {
    let frames = allocator(&[range(16, 4)], 1);
    let map = frames.map();
    for order in [Order::PAGE, Order::new(4).unwrap()] {
        let dirty = frames.alloc(CPU, order, Fill::Dirty, data(1, 1)).unwrap();
        map.scribble(dirty, order.frames());
        frames.free(CPU, dirty, order).unwrap();
        let pa = frames.alloc(CPU, order, Fill::Zeroed, data(2, 1)).unwrap();
        assert_eq!(pa, dirty, "what was freed last is used first");
        assert!(map.is_zero(pa, order.frames()));
    }
}

#[test]
fn a_frame_cleared_ahead_is_used_for_zeroed() {
    let frames = allocator(&[range(16, 4)], 1);
    assert!(frames.prezero(CPU));
    while frames.prezero(CPU) {}
    assert!(!frames.prezero(5), "no such CPU");
    let zeroed = frames.usage().cached;
    let pa = frames
        .alloc(CPU, Order::PAGE, Fill::Zeroed, Use::Table)
        .unwrap();
    assert!(frames.map().is_zero(pa, 1));
    assert_eq!(frames.usage().cached, zeroed - 1);
    frames.free_zeroed(CPU, pa).unwrap();
    assert_eq!(
        frames.alloc(CPU, Order::PAGE, Fill::Zeroed, Use::Table),
        Ok(pa)
    );
    audit(&frames);
}

#[test]
fn running_out_is_an_error_and_ends_when_something_is_freed() {
    let frames = allocator(&[range(16, 2)], 2);
    let total = frames.usage().total;
    let fill = || -> Vec<Pa> {
        core::iter::from_fn(|| frames.alloc(1, Order::PAGE, Fill::Dirty, data(1, 1)).ok()).collect()
    };
    let all = fill();
    assert_eq!(all.len(), total);
    let error = frames
        .alloc(0, Order::PAGE, Fill::Zeroed, Use::Table)
        .unwrap_err();
    assert_eq!(error, OutOfFrames { order: Order::PAGE });
    assert!(!error.to_string().is_empty());
    assert_eq!(audit(&frames).low_water, 0);
    // Freed into one CPU's cache, needed by the other, and by one without a cache.
    frames.free(0, all[0], Order::PAGE).unwrap();
    assert_eq!(
        frames.alloc(1, Order::PAGE, Fill::Dirty, Use::Table),
        Ok(all[0])
    );
    frames.free(0, all[0], Order::PAGE).unwrap();
    assert_eq!(
        frames.alloc(99, Order::PAGE, Fill::Dirty, Use::Table),
        Ok(all[0])
    );
    frames.free(99, all[0], Order::PAGE).unwrap();
    for &pa in &all[1..] {
        frames.free(0, pa, Order::PAGE).unwrap();
    }
    assert_eq!(fill().len(), total);
}

#[test]
fn freeing_everything_restores_the_blocks() {
    let frames = allocator(&[range(16, 3), range(21, 3)], 3);
    let before = audit(&frames);
    let count = if cfg!(miri) { 100 } else { 600 };
    let all: Vec<Pa> = (0..count)
        .map(|i| {
            frames
                .alloc(i % 3, Order::PAGE, Fill::Dirty, Use::Hypervisor)
                .unwrap()
        })
        .collect();
    assert_eq!(audit(&frames).hypervisor, count);
    for (i, &pa) in all.iter().enumerate() {
        frames.free((i / 7) % 3, pa, Order::PAGE).unwrap();
    }
    frames.drain_caches();
    let after = audit(&frames);
    assert_eq!(after.free_blocks, before.free_blocks);
    assert!(after.low_water < before.low_water);
    assert!(after.to_string().contains("hypervisor"));
}

#[test]
fn uses_carry_the_widest_addresses() {
    let frames = allocator(&[range(16, 4)], 1);
    let used = Use::Data {
        vm: VmId(u16::MAX),
        ipa: Ipa::new((1 << 52) - 4096),
    };
    let pa = frames.alloc(CPU, Order::PAGE, Fill::Dirty, used).unwrap();
    assert_eq!(frames.use_of(pa), Some(used));
}
