//! A guest that waits.

use hyp::exits::syndrome::WAIT_FOR_EVENT;

use super::{interrupts, skip_instruction};
use crate::sched;
use crate::vcpu::Vcpu;

/// Emulates WFI, WFE, WFIT or WFET. All of them may end for no reason (Arm ARM D1.6).
pub(super) fn instruction(vcpu: &Vcpu, esr: u64) {
    skip_instruction(esr);
    if esr & WAIT_FOR_EVENT != 0 {
        sched::yield_now();
    } else {
        for_interrupt(vcpu);
    }
}

/// Waits for an interrupt, also if the guest has masked it.
pub(super) fn for_interrupt(vcpu: &Vcpu) {
    vcpu.begin_wait();
    while !vcpu.vm().is_stopping() && !vcpu.has_interrupt() {
        match vcpu.next_timer() {
            Some(deadline) => sched::sleep_until(deadline),
            None => sched::park(),
        }
    }
    // A timer's interrupt can be taken here as well as right after the guest is entered.
    interrupts::serve(Some(vcpu));
    sched::after_interrupt();
}
