//! The client side of PSCI: the firmware that starts CPUs and stops the machine.
//!
//! Arm DEN 0022, Power State Coordination Interface. Nothing here is owned or locked: the firmware
//! orders calls itself.

use smccc::{Call, Hvc, Smc, arch, psci};

use crate::board::{Conduit, Mpidr};

pub use smccc::psci::Error;

impl Conduit {
    /// Starts the CPU `cpu` at physical address `entry`, at EL2 with its MMU off and `context` in x0.
    ///
    /// # Errors
    ///
    /// The firmware's reason; the CPU is then as it was.
    ///
    /// # Safety
    ///
    /// `entry` must be code that may run on a CPU with MMU and caches off, given `context`.
    pub unsafe fn cpu_on(self, cpu: Mpidr, entry: u64, context: u64) -> Result<(), Error> {
        match self {
            Self::Smc => psci::cpu_on::<Smc>(cpu.raw(), entry, context),
            Self::Hvc => psci::cpu_on::<Hvc>(cpu.raw(), entry, context),
        }
    }

    /// What the firmware says of the architecture's call `function`, on this CPU: `SMCCC_ARCH_FEATURES`, or
    /// NOT_SUPPORTED where there is no such question.
    pub fn architecture_feature(self, function: u32) -> i32 {
        let answer = match self {
            Self::Smc => ask::<Smc>(function),
            Self::Hvc => ask::<Hvc>(function),
        };
        // Answers that are no errors are small.
        answer.map_or_else(i32::from, |answer| answer as i32)
    }

    /// Has the firmware keep loads on this CPU from bypassing older stores: `ARCH_WORKAROUND_2`, which
    /// [`Self::architecture_feature`] must have said is needed.
    pub fn stop_store_bypass(self) {
        // Where it is offered it does not fail (DEN 0070).
        let _ = match self {
            Self::Smc => arch::arch_workaround_2::<Smc>(true),
            Self::Hvc => arch::arch_workaround_2::<Hvc>(true),
        };
    }

    /// Switches the machine off. If the firmware refuses, this CPU waits for ever.
    pub fn system_off(self) -> ! {
        let _refused = match self {
            Self::Smc => psci::system_off::<Smc>(),
            Self::Hvc => psci::system_off::<Hvc>(),
        };
        park()
    }

    /// Restarts the machine. If the firmware refuses, this CPU waits for ever.
    pub fn system_reset(self) -> ! {
        let _refused = match self {
            Self::Smc => psci::system_reset::<Smc>(),
            Self::Hvc => psci::system_reset::<Hvc>(),
        };
        park()
    }
}

/// `SMCCC_ARCH_FEATURES` of `function`. That there is this call has to be asked for first, in two steps, since
/// firmware of old may do anything with functions that it does not know (DEN 0028, appendix B).
fn ask<C: Call>(function: u32) -> Result<u32, arch::Error> {
    const VERSION_1_1: arch::Version = arch::Version { major: 1, minor: 1 };
    psci::psci_features::<C>(arch::SMCCC_VERSION).map_err(|_| arch::Error::NotSupported)?;
    if arch::version::<C>()? < VERSION_1_1 {
        return Err(arch::Error::NotSupported);
    }
    arch::features::<C>(function)
}

/// Stops this CPU for good, at low power.
pub fn park() -> ! {
    loop {
        aarch64_cpu::asm::wfe();
    }
}
