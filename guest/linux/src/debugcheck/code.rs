//! What is debugged: functions of which each instruction is known.

use std::arch::naked_asm;
use std::sync::atomic::AtomicU64;

/// How often [`stepped`] goes round.
pub(crate) const ROUNDS: u64 = 8;

/// Bytes of an instruction.
pub(crate) const INSTRUCTION: u64 = 4;

/// What [`stepped`] stores to, once a round.
pub(crate) static WATCHED: AtomicU64 = AtomicU64::new(0);

/// Where in [`stepped`] the loop begins, where it stores, calls the kernel, and ends, and how many
/// instructions there are.
const LOOP: u64 = 2;
pub(crate) const STORE: u64 = 5;
pub(crate) const CALL: u64 = 7;
const LOOP_END: u64 = 9;
pub(crate) const LENGTH: u64 = 11;

/// Goes round `rounds` times, in which it reads the time, loads, stores how often it has to
/// `watched`, and calls the kernel.
#[unsafe(naked)]
pub(crate) extern "C" fn stepped(rounds: u64, watched: *const AtomicU64) {
    naked_asm!(
        "mov x9, x0",
        "mov x10, xzr",
        // LOOP
        "mrs x11, cntvct_el0",
        "ldr x12, [x1]",
        "add x10, x10, #1",
        // STORE
        "str x10, [x1]",
        "mov x8, #172", // getpid
        // CALL
        "svc #0",
        "cmp x10, x9",
        // LOOP_END
        "b.ne . - 7 * 4",
        "ret",
    )
}

/// The instructions of [`stepped`], by number, in the order in which they are executed.
pub(crate) fn trace() -> impl Iterator<Item = u64> {
    let rounds = (0..ROUNDS).flat_map(|_| LOOP..=LOOP_END);
    (0..LOOP).chain(rounds).chain([LENGTH - 1])
}

/// Where instruction number `n` of [`stepped`] is.
pub(crate) fn address(n: u64) -> u64 {
    stepped as *const () as u64 + n * INSTRUCTION
}

/// Adds one: the first instruction is what the kernel executes elsewhere when a probe stands there.
#[unsafe(naked)]
pub(crate) extern "C" fn probed(value: u64) -> u64 {
    naked_asm!("add x0, x0, #1", "ret")
}
