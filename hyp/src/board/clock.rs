//! The time of day, as guests' clocks show it.
//!
//! The board's clock is read once; from there on the counter tells how much time has gone by.

use core::sync::atomic::{AtomicU32, Ordering};

use platform::{Board, timer};

/// What the time was, in seconds since 1970, when the counter was at zero; it wraps round. On a
/// board without a clock the counter began in 1970.
static BEGIN: AtomicU32 = AtomicU32::new(0);

/// RTCDR: the offset of the register that has the time (Arm DDI 0224).
const DATA: u64 = 0;

/// Reads the board's clock. Called once, with EL2's tables in use.
pub(crate) fn start(board: &Board<'_>) {
    let Some(registers) = board.clock else { return };
    let data = (registers.base + DATA) as *const u32;
    // SAFETY: EL2's tables map the registers of the board's PL031 as devices, at their own address.
    // Nothing else uses them, and reading this one has no effect.
    let now = unsafe { data.read_volatile() };
    BEGIN.store(now.wrapping_sub(elapsed()), Ordering::Relaxed);
}

/// The time in seconds since 1970; it wraps round in 2106.
pub(crate) fn seconds() -> u32 {
    BEGIN.load(Ordering::Relaxed).wrapping_add(elapsed())
}

fn elapsed() -> u32 {
    (timer::now() / timer::frequency().max(1)) as u32
}
