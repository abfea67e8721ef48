//! A guest that waits.

use hyp::exits::syndrome::WAIT_FOR_EVENT;
use platform::timer;

use super::skip_instruction;
use crate::sched;

/// How often a vCPU in WFI looks whether something happened, a second.
const LOOKS_PER_SECOND: u64 = 1000;

/// Emulates WFI, WFE, WFIT or WFET. All of them may end for no reason (Arm ARM D1.6).
pub(super) fn instruction(esr: u64) {
    skip_instruction(esr);
    if esr & WAIT_FOR_EVENT != 0 {
        sched::yield_now();
    } else {
        for_interrupt();
    }
}

/// Waits as for an interrupt. There are no virtual interrupts yet, so the wait is for a while.
pub(super) fn for_interrupt() {
    sched::sleep_until(timer::now() + timer::frequency() / LOOKS_PER_SECOND);
}
