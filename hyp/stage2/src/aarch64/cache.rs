//! Cache maintenance of memory for guests, to the point of coherency: what a guest with its caches
//! off, as at its start, reads and stores behind them. Needless where FEAT_S2FWB is used.

use core::arch::asm;
use core::ptr::NonNull;

/// Bytes of the smallest data cache line of any level (CTR_EL0.DminLine, in words).
fn line() -> usize {
    let ctr: u64;
    // SAFETY: reading the register has no effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4 << (ctr >> 16 & 0xf)
}

fn for_each_line(start: NonNull<u8>, bytes: usize, maintain: impl Fn(usize)) {
    let (line, start) = (line(), start.as_ptr() as usize);
    (start & !(line - 1)..start + bytes)
        .step_by(line)
        .for_each(maintain);
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
}

/// Cleans memory: what this CPU has stored is what a guest reads whose caches are off. The memory
/// is mapped at `start`.
pub fn clean(start: NonNull<u8>, bytes: usize) {
    for_each_line(start, bytes, |address| {
        // SAFETY: cleaning changes no contents.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) };
    });
}

/// Cleans and invalidates memory: what a guest has stored with its caches off is what this CPU
/// reads. The memory is mapped at `start`.
pub fn clean_and_invalidate(start: NonNull<u8>, bytes: usize) {
    for_each_line(start, bytes, |address| {
        // SAFETY: as above; what is dirty is written back before it is invalidated.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
    });
}

/// Zeroes memory, and cleans it.
///
/// # Safety
///
/// The memory is mapped, writable, and the caller's alone.
pub unsafe fn zero(start: NonNull<u8>, bytes: usize) {
    // SAFETY: as the caller promises.
    unsafe { start.write_bytes(0, bytes) };
    clean(start, bytes);
}
