//! The vectors: a probe's abort goes back to the probe, everything else ends the guest with a report.

use aarch64_cpu::registers::{ESR_EL1, FAR_EL1, MPIDR_EL1, Readable};
use aarch64_rt::{ExceptionHandlers, RegisterStateRef};

use crate::probe;

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
}
