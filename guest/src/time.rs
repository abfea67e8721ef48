//! Time by the virtual counter, CNTVCT_EL0.

use aarch64_cpu::{
    asm::barrier,
    registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable},
};

/// The counter, read in program order (Arm ARM, `CNTVCT_EL0`: without the barrier it may be read
/// early).
pub fn now() -> u64 {
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Ticks a second.
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get()
}
