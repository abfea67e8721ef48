//! Physical interrupts: EL2's timer, messages between CPUs, the console, and those that are a
//! guest's.
//!
//! The first two carry nothing but the news that there is something to do: see [`ipi`].

use log::warn;
use platform::board::{FIRST_PPI, FIRST_SPI};
use platform::gic::{self, IntId};
use platform::timer;

use super::Vcpu;
use crate::board::{board, ipi, wiring};
use crate::percpu;
use crate::vm::input;

/// More interrupts than a CPU has sources.
const MOST_AT_ONCE: usize = 32;

/// Makes this CPU take the interrupts that EL2 uses.
///
/// # Errors
///
/// What the interrupt controller says.
pub(crate) fn init_cpu(gic: &gic::Gic) -> Result<(), gic::Error> {
    let cpu = percpu::this().mpidr();
    gic.init_cpu(cpu)?;
    timer::disable();
    gic.enable_private(cpu, ipi::kick_id(), true)?;
    let board = board();
    for interrupt in [
        board.timer.el2_physical,
        board.gic.maintenance_interrupt,
        board.timer.el1_virtual,
        board.timer.el1_physical,
    ] {
        gic.enable_private(cpu, IntId::ppi(interrupt - FIRST_PPI), true)?;
    }
    Ok(())
}

/// Has the CPU that calls this take the console's interrupt.
///
/// # Errors
///
/// What the interrupt controller says.
pub(crate) fn enable_console(gic: &gic::Gic) -> Result<(), gic::Error> {
    let interrupt = IntId::spi(board().uart.interrupt - FIRST_SPI);
    gic.enable_shared(percpu::this().mpidr(), interrupt)
}

/// Serves pending interrupts of this CPU. `vcpu` is the one whose registers the CPU has, if any:
/// whose guest they have interrupted, or for whose long work EL2 looks for them.
///
/// At most so many, since other VMs' vCPUs can send messages as fast as these are served: what is
/// pending still interrupts the guest again, or ends the WFI of an idle CPU, after others had a
/// chance to run.
pub(crate) fn serve(vcpu: Option<&Vcpu>) {
    for _ in 0..MOST_AT_ONCE {
        let Some(interrupt) = gic::acknowledge() else {
            return;
        };
        if forward(vcpu, interrupt) {
            gic::drop_priority(interrupt);
        } else {
            handle(vcpu, interrupt.raw_value());
            gic::end(interrupt);
        }
    }
}

/// Hands an interrupt on if it is the guest's.
fn forward(vcpu: Option<&Vcpu>, interrupt: IntId) -> bool {
    let intid = interrupt.raw_value();
    match vcpu.zip(wiring().to_virtual(intid)) {
        Some((vcpu, guests)) => {
            vcpu.forward(guests);
            true
        }
        None => false,
    }
}

/// Does what is to be done before a level-sensitive interrupt may come again.
fn handle(vcpu: Option<&Vcpu>, intid: u32) {
    let board = board();
    if intid == board.timer.el2_physical {
        // The scheduler sets it again.
        timer::disable();
    } else if intid == board.gic.maintenance_interrupt {
        if let Some(vcpu) = vcpu {
            vcpu.maintain();
        }
    } else if intid == board.uart.interrupt {
        input::receive();
    } else if intid != ipi::KICK && wiring().to_virtual(intid).is_none() {
        warn!("interrupt {intid} came although nobody enabled it");
    }
}
