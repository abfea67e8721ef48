//! Asynchronous errors of a guest's: it takes them as virtual SError interrupts.
//!
//! `HCR_EL2.VSE` makes one pending, and the hardware clears it when the guest takes it; what it
//! says is in `VSESR_EL2` (FEAT_RAS), one of the registers that are switched. `HCR_EL2` is the
//! CPU's, so VSE is set while the vCPU is on it.

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{HCR_EL2, ReadWriteable, Readable};
use arch::system_error::{Remedy, Source, SystemError};
use core::arch::asm;
use log::error;

use super::{Exit, Vcpu};
use crate::el2::serror;
use crate::sched;

/// Whether a virtual SError of a vCPU is pending; while the vCPU is on a CPU, `HCR_EL2.VSE` knows
/// better. Touched by its own thread only.
pub(super) struct VirtualError(AtomicBool);

impl VirtualError {
    pub(super) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    fn set(&self, pending: bool) {
        self.0.store(pending, Ordering::Relaxed);
    }

    fn is_pending(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Vcpu {
    /// An asynchronous error came while the vCPU's thread was on this CPU.
    ///
    /// # Panics
    ///
    /// If what is wrong may be anywhere.
    #[cold]
    pub(crate) fn meets(&self, error: SystemError) {
        let (vm, index) = (self.vm().index(), self.index);
        match error.remedy(Source::Guest) {
            Remedy::Stop => panic!("{error}, while vm{vm} vcpu{index} was on the CPU"),
            Remedy::GoOn => self.tell(error, "nothing was lost"),
            Remedy::Inject(syndrome) => {
                self.tell(error, "the guest is told");
                self.counters.count(Exit::Injected);
                if serror::has_ras() {
                    // SAFETY: VSESR_EL2 is there, and has no effect but what the guest is told.
                    unsafe {
                        asm!("msr s3_4_c5_c2_3, {}", in(reg) syndrome, options(nomem, nostack, preserves_flags));
                    }
                }
                self.virtual_error.set(true);
                HCR_EL2.modify(HCR_EL2::VSE::SET);
                // It ends a WFI. The thread may be about to park for one, having found nothing that
                // does.
                if let Some(thread) = self.thread() {
                    sched::wake(thread);
                }
            }
        }
    }

    fn tell(&self, error: SystemError, outcome: &str) {
        if let Some(leave) = self.vm().may_log() {
            let (vm, index) = (self.vm().index(), self.index);
            error!("vm{vm} vcpu{index}: {error}: {outcome}{leave}");
        }
    }

    /// Whether the guest has a virtual error to take. Only on the vCPU's own thread, while it is on
    /// a CPU.
    pub(super) fn has_error(&self) -> bool {
        self.virtual_error.is_pending() && HCR_EL2.is_set(HCR_EL2::VSE)
    }

    /// Gives the vCPU the errors of what its thread has done on this CPU, which it is about to
    /// leave.
    pub(super) fn take_errors(&self) {
        if let Some(error) = serror::drain() {
            self.meets(error);
        }
    }

    /// Takes a virtual error that the guest has not taken with it, off this CPU.
    pub(super) fn withdraw_error(&self) {
        if self.virtual_error.is_pending() {
            self.virtual_error.set(HCR_EL2.is_set(HCR_EL2::VSE));
            HCR_EL2.modify(HCR_EL2::VSE::CLEAR);
        }
    }

    /// Makes a virtual error that the guest has not taken pending on this CPU.
    pub(super) fn present_error(&self) {
        if self.virtual_error.is_pending() {
            HCR_EL2.modify(HCR_EL2::VSE::SET);
        }
    }

    /// A vCPU that starts has none.
    pub(super) fn clear_error(&self) {
        self.withdraw_error();
        self.virtual_error.set(false);
    }
}
