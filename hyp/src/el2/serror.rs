//! Asynchronous errors (SError interrupts): EL2 runs with them masked, and looks for them before
//! anybody else runs.
//!
//! An error that a guest has caused, or EL2 while it worked for it, may come when the guest has
//! left already. As long as the same thread stays on the CPU nothing need be done: the error is
//! pending, and is taken when that guest is entered again, since no guest can mask what goes to
//! EL2. So no exit pays for this. Before the thread leaves the CPU it drains them ([`drain`]):
//! - with FEAT_RAS, ESB waits for the errors of everything before it, and puts one that is pending
//!   into `DISR_EL1`;
//! - else DSB is the best there is, and one that is pending by then is taken in a window
//!   (`super::recover`).
//!
//! Whose errors they are and what becomes of them: [`arch::system_error`].
//!
//! Beyond this: an error that the hardware reports later still (a dirty line that is written back
//! long after), or that firmware keeps for itself (`SCR_EL3.EA`).

use core::arch::asm;

use arch::system_error::{Remedy, Source, SystemError};
use log::warn;

use super::recover;

/// `ID_AA64PFR0_EL1.RAS`.
const RAS_SHIFT: u32 = 28;
/// `ISR_EL1.A`: an asynchronous error is pending.
const PENDING: u64 = 1 << 8;

/// Whether this CPU has FEAT_RAS. CPUs of one machine may differ.
pub(crate) fn has_ras() -> bool {
    let features: u64;
    // SAFETY: Reading an ID register has no effect.
    unsafe {
        asm!("mrs {}, id_aa64pfr0_el1", out(reg) features, options(nomem, nostack, preserves_flags))
    };
    features >> RAS_SHIFT & 0xf != 0
}

/// The error, if there is one, of what this CPU has done so far. After this there is none left of
/// that.
pub(crate) fn drain() -> Option<SystemError> {
    if has_ras() {
        return drain_deferred();
    }
    let pending: u64;
    // SAFETY: Barriers, and a register that is only read.
    unsafe {
        asm!("dsb sy", "isb", "mrs {}, isr_el1", out(reg) pending, options(nostack, preserves_flags))
    };
    if pending & PENDING == 0 {
        return None;
    }
    match recover::take_system_error() {
        // Gone by itself.
        0 => None,
        esr => Some(SystemError::taken(esr)),
    }
}

/// As [`drain`], with FEAT_RAS.
fn drain_deferred() -> Option<SystemError> {
    let deferred: u64;
    // SAFETY: ESB (HINT 16) defers what is pending, as it is masked, to DISR_EL1, which at EL2 is
    // no guest's. The MRS sees what the ESB has put there (Arm ARM, `DISR_EL1`).
    unsafe {
        asm!("hint #16", "mrs {}, s3_0_c12_c1_1", out(reg) deferred, options(nostack, preserves_flags))
    };
    let error = SystemError::deferred(deferred)?;
    set_deferred(0);
    Some(error)
}

/// Sets `DISR_EL1`.
fn set_deferred(disr: u64) {
    // SAFETY: The register only says what an ESB has found; see above.
    unsafe {
        asm!("msr s3_0_c12_c1_1, {}", in(reg) disr, options(nomem, nostack, preserves_flags))
    };
}

/// Deals with the errors of the hypervisor's own thread that leaves this CPU.
pub(crate) fn drain_own() {
    if let Some(error) = drain() {
        own(error);
    }
}

#[cold]
fn own(error: SystemError) {
    match error.remedy(Source::Hypervisor) {
        Remedy::GoOn => warn!("{error}: nothing was lost"),
        Remedy::Inject(_) | Remedy::Stop => panic!("{error}, of the hypervisor's own"),
    }
}

/// Drops what firmware, or whatever ran here before, has left pending, so that it is not the first
/// guest's.
pub(crate) fn drop_former() {
    if let Some(error) = drain() {
        warn!("{error}, pending since before the hypervisor started");
    }
}

/// Makes this CPU find `error` when it looks for errors next, as if the hardware had reported it:
/// for tests, on machines that have none. Without FEAT_RAS nothing can be left for later, so it is
/// taken, and returned, at once.
pub(crate) fn plant(error: SystemError) -> Option<SystemError> {
    if has_ras() {
        set_deferred(error.as_deferred());
        return None;
    }
    let esr = recover::take_planted_system_error(error.as_taken());
    Some(SystemError::taken(esr))
}
