//! A guest that waits.

use hyp::exits::syndrome::Wait;
use platform::timer;

use super::{Frame, interrupts, skip_instruction};
use crate::sched;
use crate::vcpu::Vcpu;

/// Emulates WFI, WFE, WFIT or WFET. All of them may end for no reason (Arm ARM D1.6).
pub(super) fn instruction(frame: &Frame, esr: u64) {
    let vcpu = frame.vcpu;
    skip_instruction(esr);
    match Wait::new(esr) {
        Wait::Event => sched::yield_now(),
        Wait::Interrupt => for_interrupt(vcpu, None),
        // The guest's virtual counter is the physical one.
        Wait::InterruptUntil(register) => for_interrupt(vcpu, Some(frame.register(register))),
    }
}

/// Waits for an interrupt, also if the guest has masked it, and at the longest until the counter reaches `end`.
pub(super) fn for_interrupt(vcpu: &Vcpu, end: Option<u64>) {
    vcpu.begin_wait();
    loop {
        // Before it is asked for interrupts: a timer that fires in between is one, or was seen to run.
        let timer = vcpu.next_timer();
        if vcpu.vm().is_stopping()
            || vcpu.has_interrupt()
            || end.is_some_and(|end| timer::now() >= end)
        {
            break;
        }
        match timer.into_iter().chain(end).min() {
            Some(deadline) => sched::sleep_until(deadline),
            None => sched::park(),
        }
    }
    // A timer's interrupt can be taken here as well as right after the guest is entered.
    interrupts::serve(Some(vcpu));
    sched::after_interrupt();
}
