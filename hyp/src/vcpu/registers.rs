//! The system registers of EL1 and EL0 that a guest owns, and how they are saved and loaded.
//!
//! They stay in the CPU while EL2 runs, which does not use them. They are saved when their vCPU's
//! thread leaves the CPU, and loaded when it comes to a CPU that does not hold them (any more).

/// Defines a structure of 64-bit registers with a save and a load function.
macro_rules! system_registers {
    ($(#[$meta:meta])* $structure:ident { $($field:ident: $register:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        pub(in crate::vcpu) struct $structure {
            $(pub(in crate::vcpu) $field: u64,)*
        }

        impl $structure {
            /// All zero.
            pub(in crate::vcpu) const ZERO: Self = Self { $($field: 0,)* };

            /// Copies this CPU's registers here.
            pub(in crate::vcpu) fn save(&mut self) {
                $(
                    // SAFETY: Reading a register changes nothing.
                    unsafe {
                        core::arch::asm!(
                            concat!("mrs {}, ", $register),
                            out(reg) self.$field,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                )*
            }

            /// Copies these values to this CPU's registers.
            ///
            /// They take effect when a guest is entered.
            pub(in crate::vcpu) fn load(&self) {
                $(
                    // SAFETY: The registers have no effect at EL2 (E2H is clear), so Rust's view of
                    // memory does not change.
                    unsafe {
                        core::arch::asm!(
                            concat!("msr ", $register, ", {}"),
                            in(reg) self.$field,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                )*
            }
        }
    };
}

pub(super) use system_registers;

system_registers! {
    /// What every Armv8.0 CPU has, the timers' excepted.
    System {
        sp_el0: "sp_el0",
        sp_el1: "sp_el1",
        elr: "elr_el1",
        spsr: "spsr_el1",
        sctlr: "sctlr_el1",
        cpacr: "cpacr_el1",
        ttbr0: "ttbr0_el1",
        ttbr1: "ttbr1_el1",
        tcr: "tcr_el1",
        mair: "mair_el1",
        amair: "amair_el1",
        vbar: "vbar_el1",
        esr: "esr_el1",
        far: "far_el1",
        afsr0: "afsr0_el1",
        afsr1: "afsr1_el1",
        contextidr: "contextidr_el1",
        tpidr_el0: "tpidr_el0",
        tpidrro_el0: "tpidrro_el0",
        tpidr_el1: "tpidr_el1",
        par: "par_el1",
        csselr: "csselr_el1",
        cntkctl: "cntkctl_el1",
    }
}

system_registers! {
    /// The keys of FEAT_PAuth.
    PointerKeys {
        ia_low: "s3_0_c2_c1_0",
        ia_high: "s3_0_c2_c1_1",
        ib_low: "s3_0_c2_c1_2",
        ib_high: "s3_0_c2_c1_3",
        da_low: "s3_0_c2_c2_0",
        da_high: "s3_0_c2_c2_1",
        db_low: "s3_0_c2_c2_2",
        db_high: "s3_0_c2_c2_3",
        ga_low: "s3_0_c2_c3_0",
        ga_high: "s3_0_c2_c3_1",
    }
}

system_registers! {
    /// The timers of EL1. A timer that is loaded raises interrupts also while EL2 runs.
    Timers {
        virtual_control: "cntv_ctl_el0",
        virtual_compare: "cntv_cval_el0",
        physical_control: "cntp_ctl_el0",
        physical_compare: "cntp_cval_el0",
    }
}

impl System {
    /// EL1 after reset: MMU and caches off, the RES1 bits of `SCTLR_EL1` set.
    pub(super) const RESET: Self = Self {
        sctlr: 0x30d0_0800,
        ..Self::ZERO
    };
}

impl Timers {
    /// Takes the timers' interrupts away from this CPU.
    pub(super) fn disable() {
        Self::ZERO.load();
    }
}
