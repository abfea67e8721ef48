//! A guest that waits.

use arch::syndrome::Wait;
use platform::timer;
use threads::wait::{self, Waiter};

use super::{skip_instruction, stuck};
use crate::sched;
use crate::vcpu::{Frame, Vcpu, physical};

/// Emulates WFI, WFE, WFIT or WFET. All of them may end for no reason (Arm ARM, "Mechanisms for
/// entering a low-power state").
pub(super) fn instruction(frame: &Frame, esr: u64) {
    let vcpu = frame.vcpu;
    stuck::waits(vcpu);
    skip_instruction(esr);
    match Wait::new(esr) {
        Wait::Event => sched::yield_now(),
        Wait::Interrupt => for_interrupt(vcpu, None),
        // The guest's virtual counter is the physical one.
        Wait::InterruptUntil(register) => for_interrupt(vcpu, Some(frame.register(register))),
    }
}

/// Waits for an interrupt, also if the guest has masked it, and at the longest until the counter
/// reaches `end`.
pub(super) fn for_interrupt(vcpu: &Vcpu, end: Option<u64>) {
    wait::for_interrupt(&Thread(vcpu), end);
    // A timer's interrupt can be taken here as well as right after the guest is entered.
    physical::serve(Some(vcpu));
    sched::after_interrupt();
}

/// The vCPU whose thread this is.
struct Thread<'v>(&'v Vcpu);

impl Waiter for Thread<'_> {
    fn begin(&self) {
        self.0.begin_wait();
    }
    fn is_stopping(&self) -> bool {
        self.0.vm().is_stopping()
    }
    fn next_timer(&self) -> Option<u64> {
        self.0.next_timer()
    }
    fn has_interrupt(&self) -> bool {
        self.0.has_interrupt()
    }
    fn now(&self) -> u64 {
        timer::now()
    }
    fn park(&self) {
        sched::park();
    }
    fn sleep_until(&self, deadline: u64) {
        sched::sleep_until(deadline);
    }
}
