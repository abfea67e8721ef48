//! The vectors: a probe's abort goes back to the probe, an interrupt to the handler that was set
//! for it; everything else ends the guest with a report.

use aarch64_cpu::registers::{ESR_EL1, FAR_EL1, MPIDR_EL1, Readable};
use aarch64_rt::{ExceptionHandlers, RegisterStateRef};

use spin::Once;

use crate::probe;

/// What handles interrupts.
static HANDLER: Once<fn()> = Once::new();

/// Has `handler` called for each interrupt, on any vCPU that lets interrupts through. The first
/// handler stays.
pub fn on_interrupt(handler: fn()) {
    HANDLER.call_once(|| handler);
}

struct Vectors;

aarch64_rt::exception_handlers!(Vectors);

impl ExceptionHandlers for Vectors {
    extern "C" fn sync_current(mut state: RegisterStateRef) {
        let (esr, far) = (ESR_EL1.get(), FAR_EL1.get());
        if !probe::recover(&mut state, esr, far) {
            panic!(
                "unexpected exception on MPIDR {:#x}: ESR {esr:#x} FAR {far:#x} ELR {:#x} SPSR {:#x} LR {:#x}",
                MPIDR_EL1.get(),
                state.elr,
                state.spsr,
                // What `aarch64-rt` calls `sp` is x30.
                state.sp,
            );
        }
    }

    extern "C" fn irq_current(_: RegisterStateRef) {
        match HANDLER.get() {
            Some(handler) => handler(),
            None => panic!("an interrupt came that nothing in this guest handles"),
        }
    }
}
