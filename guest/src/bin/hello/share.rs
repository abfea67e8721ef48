//! Measures how much of a CPU this machine gets: work of a known number of instructions, by the
//! counter.
//!
//! Only where instructions take a known time: QEMU's `-icount shift=0`, at one a nanosecond.

use core::arch::asm;

use guest::{println, time};

/// Instructions of the work: enough for some hundred slices of the scheduler.
const INSTRUCTIONS: u64 = 60_000_000;

/// Works, and panics if that was less than `least` percent of what the CPU did meanwhile.
pub(crate) fn run(least: u64) {
    let start = time::now();
    // SAFETY: the loop counts a register down.
    unsafe {
        asm!(
            "2:",
            "subs {left}, {left}, #1",
            "b.ne 2b",
            left = inout(reg) INSTRUCTIONS / 2 => _,
            options(nomem, nostack),
        );
    }
    let nanoseconds = (time::now() - start) * 1_000_000_000 / time::frequency();
    let share = INSTRUCTIONS * 100 / nanoseconds.max(1);
    println!("share: {share} % of the CPU");
    assert!(share >= least, "less than {least} % of the CPU");
    assert!(
        share <= 100,
        "more work than there was time for: is this without -icount?"
    );
}
