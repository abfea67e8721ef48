//! Calls that work on this guest's own stage-2 tables: Tessera has them with the boot argument
//! `table-calls=on`. Nothing of what memory holds is changed by them.

use crate::{psci, span::Span};

// Vendors' hypervisor services, fast, 64-bit (Arm DEN 0028).
const LOG: u32 = 0xc600_0010;
const CLEAN: u32 = LOG + 1;
const COLLECT: u32 = LOG + 2;
const SPLIT: u32 = LOG + 3;
const COLLAPSE_IN_PLACE: u32 = LOG + 4;
const COLLAPSE_BY_COPYING: u32 = LOG + 5;
const MOVE: u32 = LOG + 6;
const GRACE: u32 = LOG + 7;
/// The call behind [`yield_cpu`].
pub const YIELD_CPU: u32 = LOG + 8;
const COST: u32 = LOG + 9;

/// What [`cost`] asks the cost of.
#[derive(Clone, Copy)]
pub enum Step {
    /// Allocating a frame.
    Allocate = 0,
    /// Allocating a frame and zeroing it.
    AllocateZeroed = 1,
    /// Copying a page.
    Copy = 2,
}

/// The pages of one range that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// How many.
    pub count: u64,
    /// A bit for each page of the range, the first one's the lowest.
    pub pages: [u64; 8],
}

impl Dirty {
    /// Whether page number `page` of the range was written.
    pub fn has(&self, page: usize) -> bool {
        self.pages[page / 64] >> (page % 64) & 1 == 1
    }
}

/// Whether there are such calls.
pub fn are_there() -> bool {
    done(YIELD_CPU, 0, 0)
}

/// Switches dirty logging on or off.
pub fn log(on: bool) -> bool {
    done(LOG, on.into(), 0)
}

/// Takes what was written in `range`, at most 2 MiB, for seen.
pub fn clean(range: Span) -> bool {
    done(CLEAN, range.start, range.size())
}

/// What was written in `range`, at most 2 MiB, since this or [`clean`] was called last.
pub fn collect(range: Span) -> Option<Dirty> {
    let [count, pages @ ..] = psci::call64(COLLECT, range.start, range.size());
    let pages = *pages.first_chunk()?;
    (count as i64 >= 0).then_some(Dirty { count, pages })
}

/// Splits the block round `ipa`.
pub fn split(ipa: u64) -> bool {
    done(SPLIT, ipa, 0)
}

/// Collapses the region round `ipa`, whose pages lie in order.
pub fn collapse_in_place(ipa: u64) -> bool {
    done(COLLAPSE_IN_PLACE, ipa, 0)
}

/// Copies the region round `ipa` to a block, as if its first `stores` pages were stored to after
/// they were copied; returns for how many ticks stores were held up at most.
pub fn collapse_by_copying(ipa: u64, stores: u64) -> Option<u64> {
    ticks(COLLAPSE_BY_COPYING, ipa, stores)
}

/// Moves the page at `ipa` to another frame; meanwhile others get the CPU `turns` times.
pub fn move_page(ipa: u64, turns: u64) -> bool {
    done(MOVE, ipa, turns)
}

/// Waits for a grace period.
pub fn await_grace() -> bool {
    done(GRACE, 0, 0)
}

/// Lets another vCPU have this one's CPU.
pub fn yield_cpu() {
    done(YIELD_CPU, 0, 0);
}

/// The ticks that `count` times `step` takes.
pub fn cost(step: Step, count: u64) -> Option<u64> {
    ticks(COST, step as u64, count)
}

fn done(function: u32, first: u64, second: u64) -> bool {
    psci::call64(function, first, second)[0] == 0
}

fn ticks(function: u32, first: u64, second: u64) -> Option<u64> {
    let [status, ticks, ..] = psci::call64(function, first, second);
    (status == 0).then_some(ticks)
}
