//! Exceptions that the hypervisor makes up for a guest.
//!
//! The guest's EL1 finds them as if the hardware had taken them. They are for whatever a guest does
//! that has no meaning: it is the guest's own business then.

use aarch64_cpu::registers::{
    ELR_EL1, ELR_EL2, ESR_EL1, FAR_EL1, Readable, SCTLR_EL1, SPSR_EL1, SPSR_EL2, VBAR_EL1,
    Writeable,
};
use arch::pstate::{at_vector, is_el0, vector};
use arch::syndrome::{Abort, IL, class_of};

use crate::vcpu::pstate_features;

/// `ESR_EL1.EC`: unknown reason, which stands for undefined instructions.
const EC_UNKNOWN: u64 = 0x00;

/// Says that the instruction at `ELR_EL2` is undefined.
pub(crate) fn undefined() {
    take(EC_UNKNOWN << 26 | IL);
}

/// Has EL1 trap the instruction at `ELR_EL2`, of which EL2's syndrome is `esr`.
pub(crate) fn trapped(esr: u64) {
    take(esr);
}

/// Answers a stage-2 abort with a synchronous external abort at the same instruction.
///
/// `esr` and `far` are those of EL2, `status` is the status code for the guest.
pub(crate) fn external_abort(esr: u64, far: u64, status: u64) {
    // From EL1 the class is that from EL0 and one more.
    let class = class_of(esr) | u64::from(!is_el0(SPSR_EL2.get()));
    let kept = Abort::FAR_NOT_VALID | Abort::WRITE | Abort::CACHE_MAINTENANCE;
    FAR_EL1.set(far);
    // IL is set, however long the instruction: without its syndrome (ISV) nothing says so.
    take(class << 26 | IL | (Abort::new(esr) & kept).bits() | status);
}

/// Has the guest's EL1 take an exception with this syndrome when it is entered.
fn take(esr: u64) {
    let spsr = SPSR_EL2.get();
    ESR_EL1.set(esr);
    ELR_EL1.set(ELR_EL2.get());
    SPSR_EL1.set(spsr);
    ELR_EL2.set(vector(VBAR_EL1.get(), spsr));
    SPSR_EL2.set(at_vector(spsr, SCTLR_EL1.get(), pstate_features()));
}
