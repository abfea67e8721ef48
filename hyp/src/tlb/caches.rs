//! Cache maintenance: of data by line, of instructions as a whole.
//!
//! Instructions: *no instruction cache holds anything of a frame that no guest has mapped.* So a
//! frame can be given to any guest without a word to the instruction caches, whatever was executed
//! from it before: what they fetch they fetch anew. It holds because it is true at the start
//! (`super::init`), because EL2 maps RAM execute-never, and because each invalidation of a guest's
//! translations empties the instruction caches as well, once nothing can be fetched through them
//! any more ([`stage2::aarch64`]). A guest sees to what it stores to its own pages.
//!
//! What they then fetch must have got there: data is cleaned to the point of coherency, behind the
//! point of unification. FEAT_S2FWB makes that needless, since with it no cache of data is in front
//! of the point of unification (Arm ARM, `CLIDR_EL1.LoUIS`).

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use stage2::{PAGE_SIZE, Pa};

use crate::cpu::cache_type;

/// Bytes of the smallest data cache line of any level (CTR_EL0.DminLine, in words).
pub(crate) fn line() -> u64 {
    4 << (cache_type() >> 16 & 0xf)
}

#[inline(always)]
fn for_each_line(page: Pa, maintain: impl Fn(u64)) {
    /// The usual line, of which so many are maintained in a round.
    const LINE: u64 = 64;
    const ROUND: u64 = 8;
    let line = line();
    let (mut at, end) = (page.get(), page.get() + PAGE_SIZE);
    if line == LINE {
        while at < end {
            (0..ROUND).for_each(|number| maintain(at + number * LINE));
            at += ROUND * LINE;
        }
    }
    while at < end {
        maintain(at);
        at += line;
    }
    barrier::dsb(barrier::ISH);
}

/// Cleans a page to the point of coherency.
pub(crate) fn clean(page: Pa) {
    for_each_line(page, |address| {
        // SAFETY: cleaning changes no contents; EL2 maps all RAM at its own address.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) }
    });
}

/// Cleans and invalidates a page to the point of coherency.
pub(crate) fn clean_and_invalidate(page: Pa) {
    for_each_line(page, |address| {
        // SAFETY: as above; what is dirty is written back before it is invalidated.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) }
    });
}
