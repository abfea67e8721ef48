//! Messages between CPUs.
//!
//! They carry nothing but the news that there is something to do: a CPU that gets one leaves its
//! guest, or its WFI, and looks at its queues, its timer and the state of its VM.

use platform::gic::{self, IntId};

use super::board;
use crate::percpu::{self, PER_CPU};

/// The SGI that is the message.
pub(crate) const KICK: u32 = 0;

/// The same, for the interrupt controller.
pub(crate) fn kick_id() -> IntId {
    IntId::sgi(KICK)
}

/// Makes CPU `cpu` look at its queues: it leaves its guest, or its WFI.
pub(crate) fn kick(cpu: usize) {
    gic::send_sgi(PER_CPU[cpu].mpidr(), KICK);
}

/// Makes all other CPUs leave their guests.
pub(crate) fn kick_others() {
    let here = percpu::this().index();
    for cpu in (0..board().cpus.len()).filter(|&cpu| cpu != here) {
        kick(cpu);
    }
}
