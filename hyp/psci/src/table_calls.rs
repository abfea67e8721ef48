//! Calls by which a guest has its own stage-2 tables worked on: for measurements, and for tests in
//! which the guest knows best what must come of it. There are none unless the boot argument
//! `table-calls` says so.
//!
//! In the range of vendors' hypervisor services (Arm DEN 0028), 64-bit, arguments in x1 to x3,
//! answer in x0 and where said in x1 to x8: zero or more, or a negative error of PSCI's.
//! NOT_SUPPORTED where guests may not; INVALID_PARAMETERS where arguments make no sense or are not
//! the guest's RAM; DENIED where it could not be done, since no frame was left or what is there is
//! of another kind.
//!
//! Decides what a call means; `memory::compaction::requests` does it. Each call's work is bounded:
//! by 2 MiB (copied a few times), or by [`MOST_TURNS`], or by [`MOST_FRAMES`].

use crate::range::bounded_range;
use stage2::{Ipa, IpaRange};

/// x1 is 1: what is written is logged from now on; 0: no more.
pub const LOG: u32 = FIRST;
/// Takes all stores to the range (x1 its IPA, x2 its size in bytes) for seen: nothing in it is
/// dirty.
pub const CLEAN: u32 = FIRST + 1;
/// Collects what was written in the range, as of [`CLEAN`]. x0: how many pages; x1 to x8: a bit for
/// each page from the range's first on, the lowest first.
pub const COLLECT: u32 = FIRST + 2;
/// Splits the 2 MiB block that maps x1.
pub const SPLIT: u32 = FIRST + 3;
/// Collapses the pages of the 2 MiB region round x1, which lie in order in one block, where they
/// are.
pub const COLLAPSE_IN_PLACE: u32 = FIRST + 4;
/// Copies the pages of the 2 MiB region round x1 to a new block, as if its first x2 pages were
/// stored to after they were copied. x1: for how long at most a store to the region would have been
/// held up, in ticks.
pub const COLLAPSE_BY_COPYING: u32 = FIRST + 5;
/// Moves the page at x1 to another frame. Halfway, the other threads get the CPU x2 times.
pub const MOVE: u32 = FIRST + 6;
/// Waits for a grace period.
pub const GRACE: u32 = FIRST + 7;
/// Gives the CPU to another thread, if one waits for it.
pub const YIELD_CPU: u32 = FIRST + 8;
/// What x2 times the [`Step`] with the number x1 costs. x1: ticks.
pub const COST: u32 = FIRST + 9;

/// The first of these calls.
pub const FIRST: u32 = 0xc600_0010;
/// The last of these calls.
pub const LAST: u32 = COST;

/// Pages of a region of 2 MiB.
const PAGES: u64 = stage2::ENTRIES as u64;
/// The most turns that others get during a [`MOVE`].
pub const MOST_TURNS: u64 = 4096;
/// The most frames of one [`COST`].
pub const MOST_FRAMES: usize = 64;

/// What [`COST`] tells the cost of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// 0: a frame is allocated that need not be zeroed.
    Allocate,
    /// 1: a frame is allocated and zeroed.
    AllocateZeroed,
    /// 2: a page is copied, as a collapse does it; of an odd number one is not.
    Copy,
}

/// A call with arguments that make sense, though they need not be RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableCall {
    /// [`LOG`].
    Log(bool),
    /// [`CLEAN`].
    Clean(IpaRange),
    /// [`COLLECT`].
    Collect(IpaRange),
    /// [`SPLIT`].
    Split(Ipa),
    /// [`COLLAPSE_IN_PLACE`].
    CollapseInPlace(Ipa),
    /// [`COLLAPSE_BY_COPYING`], with the number of pages stored to.
    CollapseByCopying(Ipa, u64),
    /// [`MOVE`], with the others' turns.
    Move(Ipa, u64),
    /// [`GRACE`].
    Grace,
    /// [`YIELD_CPU`].
    YieldCpu,
    /// [`COST`], with the number of frames.
    Cost(Step, usize),
}

impl TableCall {
    /// The call with the guest's x0 to x3; none if arguments make no sense.
    pub fn new([function, first, second, _]: [u64; 4]) -> Option<Self> {
        let range = || bounded_range(first, second);
        let ipa = Ipa::new(first);
        Some(match function as u32 {
            LOG => Self::Log(match first {
                0 => false,
                1 => true,
                _ => return None,
            }),
            CLEAN => Self::Clean(range()?),
            COLLECT => Self::Collect(range()?),
            SPLIT => Self::Split(ipa),
            COLLAPSE_IN_PLACE => Self::CollapseInPlace(ipa),
            COLLAPSE_BY_COPYING if second <= PAGES => Self::CollapseByCopying(ipa, second),
            MOVE if second <= MOST_TURNS => Self::Move(ipa, second),
            GRACE => Self::Grace,
            YIELD_CPU => Self::YieldCpu,
            COST => {
                let step = match first {
                    0 => Step::Allocate,
                    1 => Step::AllocateZeroed,
                    2 => Step::Copy,
                    _ => return None,
                };
                let count = usize::try_from(second).ok()?;
                Self::Cost(step, Some(count).filter(|&count| count <= MOST_FRAMES)?)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: u32, first: u64, second: u64) -> Option<TableCall> {
        TableCall::new([function.into(), first, second, 7])
    }

    #[test]
    fn ranges_are_whole_pages_and_bounded() {
        let range = IpaRange::new(Ipa::new(0x4000_1000), Ipa::new(0x4020_1000)).unwrap();
        assert_eq!(
            call(COLLECT, 0x4000_1000, 2 << 20),
            Some(TableCall::Collect(range))
        );
        for (ipa, size) in [
            (0x4000_1000, 0),
            (0x4000_1001, 4096),
            (0x4000_1000, (2 << 20) + 4096),
            (u64::MAX - 4095, 4096),
            (u64::MAX - 4095, 8192),
        ] {
            assert_eq!(call(CLEAN, ipa, size), None);
            assert_eq!(call(COLLECT, ipa, size), None);
        }
    }

    #[test]
    fn work_is_bounded() {
        assert_eq!(
            call(MOVE, 0x4000_0000, MOST_TURNS),
            Some(TableCall::Move(Ipa::new(0x4000_0000), MOST_TURNS))
        );
        assert_eq!(call(MOVE, 0x4000_0000, MOST_TURNS + 1), None);
        assert_eq!(
            call(COLLAPSE_BY_COPYING, 0x4000_0000, 512),
            Some(TableCall::CollapseByCopying(Ipa::new(0x4000_0000), 512))
        );
        assert_eq!(call(COLLAPSE_BY_COPYING, 0x4000_0000, 513), None);
        assert_eq!(call(COST, 2, 64), Some(TableCall::Cost(Step::Copy, 64)));
        assert_eq!(call(COST, 2, 65), None);
        assert_eq!(call(COST, 2, u64::MAX), None);
    }

    #[test]
    fn what_has_no_meaning_is_no_call() {
        assert_eq!(call(LOG, 2, 0), None);
        assert_eq!(call(COST, 3, 1), None);
        assert_eq!(call(LAST + 1, 0, 0), None);
        assert_eq!(call(FIRST - 1, 0, 0), None);
    }
}
