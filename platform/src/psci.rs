//! The client side of PSCI: the firmware that starts CPUs and stops the machine.
//!
//! Arm DEN 0022, Power State Coordination Interface. Nothing here is owned or locked: the firmware
//! orders calls itself.

use smccc::{Call, Hvc, Smc, psci};

use crate::board::{Conduit, Mpidr};

pub use smccc::psci::Error;

impl Conduit {
    /// Starts the CPU `cpu` at physical address `entry`, at EL2 with its MMU off and `context` in
    /// x0.
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

    /// Makes the call `function` of 32 bits with one argument, and returns its result.
    ///
    /// # Safety
    ///
    /// The call must not change what Rust relies on: memory that is in use, or where this CPU goes
    /// on.
    pub unsafe fn call32(self, function: u32, argument: u32) -> i32 {
        let arguments = [argument, 0, 0, 0, 0, 0, 0];
        let [result, ..] = match self {
            Self::Smc => Smc::call32(function, arguments),
            Self::Hvc => Hvc::call32(function, arguments),
        };
        result as i32
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

/// Stops this CPU for good, at low power.
pub fn park() -> ! {
    loop {
        aarch64_cpu::asm::wfe();
    }
}
