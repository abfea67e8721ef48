//! The generic timer: the counter that gives the time, and EL2's own physical timer.
//!
//! Arm ARM, "The Generic Timer in AArch64 state". Every CPU has its own CNTHP; the functions act on
//! that of the CPU they are called on. The counter is the same on all CPUs.

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTHP_CTL_EL2, CNTPCT_EL0, Readable, Writeable};

/// The counter's frequency in Hz, as the firmware programmed it.
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}

/// The physical counter now, in ticks of [`frequency`].
///
/// The `isb` keeps the read from being done early (Arm ARM, `CNTPCT_EL0`).
pub fn now() -> u64 {
    barrier::isb(barrier::SY);
    CNTPCT_EL0.get()
}

/// Asks for this CPU's EL2 timer interrupt when the counter reaches `deadline` ticks, at once if
/// that is past. Replaces an earlier deadline.
pub fn set_deadline(deadline: u64) {
    // SAFETY: Writing the compare value changes when this CPU's EL2 timer fires, and nothing else.
    unsafe { asm!("msr cnthp_cval_el2, {}", in(reg) deadline, options(nomem, nostack)) };
    CNTHP_CTL_EL2.write(CNTHP_CTL_EL2::ENABLE::SET + CNTHP_CTL_EL2::IMASK::CLEAR);
    barrier::isb(barrier::SY);
}

/// Withdraws this CPU's EL2 timer interrupt.
pub fn disable() {
    CNTHP_CTL_EL2.write(CNTHP_CTL_EL2::ENABLE::CLEAR + CNTHP_CTL_EL2::IMASK::SET);
    barrier::isb(barrier::SY);
}
