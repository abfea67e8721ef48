//! How RAM is taken over.

use super::super::{FrameAllocator, InitError, Order, Setup, State};
use super::audit::audit;
use super::{MIB, allocator, range, with};
use crate::testing::Arena;
use core::ops::Range;
use stage2::Pa;

#[test]
fn ranges_need_no_order_and_may_have_holes() {
    let ram = [range(64, 4), range(16, 8), range(25, 1)];
    let allocator = allocator(&ram, 2);
    let usage = audit(&allocator);
    let metadata = 13 * MIB - usage.total as u64 * 4096;
    assert!(metadata < MIB / 2, "a 64th of the RAM, and the caches");
    let state = |mib: u64| {
        allocator
            .frame(Pa::new(mib * MIB))
            .map(|frame| frame.state())
    };
    assert_eq!(state(16), Some(State::Permanent), "the metadata");
    assert!(matches!(state(25), Some(State::Free { .. })));
    assert_eq!(state(24), None, "the hole in a 2 MiB block");
    assert_eq!(state(30), None, "the hole between regions");
    assert_eq!(state(68), None, "behind all");
}

#[test]
fn only_whole_frames_are_used() {
    let base = 16 * MIB;
    let ram = [Pa::new(base + 0x800)..Pa::new(base + 4 * MIB - 0x400)];
    let pages = [Pa::new(base)..Pa::new(base + 4 * MIB)];
    let setup = Setup {
        ram: &ram,
        reserved: &[],
        cpus: 1,
        limit: None,
    };
    // SAFETY: the arena has all pages that the setup's range touches.
    let allocator = unsafe { FrameAllocator::new(Arena::new(&pages), &setup) }.unwrap();
    audit(&allocator);
    assert!(allocator.frame(Pa::new(base)).is_none());
    assert!(allocator.frame(Pa::new(base + 4 * MIB - 0x1000)).is_none());
    assert!(allocator.frame(Pa::new(base + 0x1000)).is_some());
}

#[test]
fn what_is_reserved_is_left_alone() {
    let reserved = [
        Pa::new(17 * MIB + 1)..Pa::new(17 * MIB + 2),
        range(15, 1),
        range(19, 100),
        range(18, 0),
    ];
    let setup = Setup {
        ram: &[range(16, 4)],
        reserved: &reserved,
        cpus: 1,
        limit: None,
    };
    let allocator = with(&setup).unwrap();
    audit(&allocator);
    let state = |pa| allocator.frame(Pa::new(pa)).unwrap().state();
    assert_eq!(state(17 * MIB), State::Permanent);
    assert_ne!(state(17 * MIB + 0x1000), State::Permanent);
    assert_eq!(state(19 * MIB), State::Permanent);
}

#[test]
fn the_limit_caps_what_is_handed_out() {
    let setup = Setup {
        ram: &[range(16, 8)],
        reserved: &[],
        cpus: 1,
        limit: Some(3 * MIB + 5),
    };
    let allocator = with(&setup).unwrap();
    assert_eq!(audit(&allocator).total as u64, 3 * MIB / 4096);
    assert_eq!(
        allocator.frame(Pa::new(23 * MIB)).unwrap().state(),
        State::Permanent
    );
}

#[test]
fn setups_that_cannot_work_are_errors() {
    let none: &[Range<Pa>] = &[];
    let fails = |ram: &[Range<Pa>], reserved: &[Range<Pa>], limit| {
        with(&Setup {
            ram,
            reserved,
            cpus: 1,
            limit,
        })
        .err()
    };
    assert_eq!(fails(none, none, None), Some(InitError::NoRam));
    assert_eq!(
        fails(&[range(16, 2)], none, Some(0)),
        Some(InitError::NoRam)
    );
    let full = fails(&[range(16, 2)], &[range(0, 100)], None);
    assert!(matches!(full, Some(InitError::NoRoomForMetadata { .. })));
    let many: Vec<_> = (0..17).map(|i| range(16 + 4 * i, 1)).collect();
    assert_eq!(fails(&many, none, None), Some(InitError::TooManyRanges));
    for error in [
        full.unwrap(),
        InitError::NoRam,
        InitError::TooManyRanges,
        InitError::TooMuchRam,
    ] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
#[cfg_attr(miri, ignore = "32768 frames of metadata take too long")]
fn a_gigabyte_is_one_block_where_it_is_aligned() {
    let allocator = allocator(&[range(1000, 1100)], 1);
    let usage = audit(&allocator);
    assert_eq!(usage.free_blocks[usize::from(Order::BLOCK_1G.get())], 1);
}
