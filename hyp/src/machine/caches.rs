//! Cache maintenance by line.

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use stage2::{PAGE_SIZE, Pa};

/// CTR_EL0: how the caches are made (Arm ARM D19.2.34).
fn cache_type() -> u64 {
    let value;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// CTR_EL0.IDC: instruction fetches see stores without cleaning.
const IDC: u64 = 1 << 28;
/// CTR_EL0.DIC: instruction caches follow what is cleaned by themselves.
const DIC: u64 = 1 << 29;

/// Bytes of the smallest data cache line of any level (CTR_EL0.DminLine, in words).
pub(super) fn line() -> u64 {
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
pub(super) fn clean(page: Pa) {
    for_each_line(page, |address| {
        // SAFETY: cleaning changes no contents; EL2 maps all RAM at its own address.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) }
    });
}

/// Cleans a page to the point of unification, for instruction fetches.
pub(super) fn clean_to_unification(page: Pa) {
    for_each_line(page, |address| {
        // SAFETY: as above.
        unsafe { asm!("dc cvau, {}", in(reg) address, options(nostack, preserves_flags)) }
    });
}

/// Cleans and invalidates a page to the point of coherency.
pub(super) fn clean_and_invalidate(page: Pa) {
    for_each_line(page, |address| {
        // SAFETY: as above; what is dirty is written back before it is invalidated.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) }
    });
}

/// Invalidates the instruction caches of all CPUs, unless they follow the data caches by themselves.
pub(super) fn invalidate_instructions() {
    if cache_type() & DIC == 0 {
        // SAFETY: invalidating instruction caches changes nothing but time.
        unsafe {
            asm!(
                "dsb ish",
                "ic ialluis",
                "dsb ish",
                "isb",
                options(nostack, preserves_flags)
            )
        }
    }
}

/// Whether stores are visible to instruction fetches without cleaning (CTR_EL0.IDC).
pub(super) fn data_is_unified() -> bool {
    cache_type() & IDC != 0
}
