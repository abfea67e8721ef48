//! Physical interrupts: EL2's timer, and messages between CPUs.
//!
//! None of them carries anything but the news that there is something to do: whoever is interrupted
//! looks at its queues, its timer, and the state of its virtual machine.

use log::warn;
use platform::gic::{self, IntId};
use platform::timer;

use crate::boot;
use crate::percpu::PER_CPU;

/// The SGI by which CPUs tell each other to look at their queues.
const KICK: u32 = 0;

/// The INTID of PPI 0.
const FIRST_PPI: u32 = 16;

/// Makes this CPU take the interrupts that EL2 uses.
///
/// # Errors
///
/// What the interrupt controller says.
pub(crate) fn init_cpu(gic: &gic::Gic) -> Result<(), gic::Error> {
    let cpu = crate::percpu::this().mpidr();
    gic.init_cpu(cpu)?;
    gic.enable_private(cpu, IntId::sgi(KICK), true)?;
    let timer = boot::board().timer.el2_physical;
    timer::disable();
    gic.enable_private(cpu, IntId::ppi(timer - FIRST_PPI), true)
}

/// Makes CPU `cpu` look at its queues: it leaves its guest, or its WFI.
pub(crate) fn kick(cpu: usize) {
    gic::send_sgi(PER_CPU[cpu].mpidr(), KICK);
}

/// Makes all other CPUs leave their guests.
pub(crate) fn kick_others() {
    let here = crate::percpu::this().index();
    for cpu in (0..boot::board().cpus.len()).filter(|&cpu| cpu != here) {
        kick(cpu);
    }
}

/// Acknowledges all pending interrupts of this CPU.
pub(crate) fn serve() {
    let timer = boot::board().timer.el2_physical;
    while let Some(interrupt) = gic::acknowledge() {
        let number = interrupt.raw_value();
        if number == timer {
            // It is level-sensitive; the scheduler sets it again.
            timer::disable();
        } else if number != KICK {
            warn!("interrupt {number} came although nobody enabled it");
        }
        gic::end(interrupt);
    }
}
