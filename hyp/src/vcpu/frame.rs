//! A guest's general-purpose registers while EL2 runs.

use core::mem::offset_of;

use super::Vcpu;

/// A guest's general-purpose registers.
#[repr(C, align(16))]
pub(crate) struct Frame {
    /// x0 to x30, and a zero for XZR: so that a register's number, whatever a CPU supposes of it,
    /// is in range.
    pub(crate) x: [u64; 32],
    /// Whose they are.
    pub(crate) vcpu: &'static Vcpu,
}

const _: () = assert!(size_of::<Frame>() == 272 && offset_of!(Frame, vcpu) == 256);

impl Frame {
    /// Register `number`, up to 31, which is zero.
    pub(crate) fn register(&self, number: usize) -> u64 {
        self.x[number % 32]
    }

    /// Sets register `number`, up to 31, which stays zero.
    pub(crate) fn set_register(&mut self, number: usize, value: u64) {
        self.x[number % 32] = value;
        self.x[31] = 0;
    }
}

unsafe extern "C" {
    // Defined by `crate::exits`, where guests come from.
    /// Enters the guest with the registers in the frame, and with `ELR_EL2` and `SPSR_EL2` as they
    /// are.
    ///
    /// # Safety
    ///
    /// `frame` must be the first field of a [`Frame`] on the current thread's stack, and the thread
    /// be that of its vCPU, whose registers are loaded and whose VM may be entered.
    pub(crate) fn guest_enter(frame: *const [u64; 32]) -> !;
}
