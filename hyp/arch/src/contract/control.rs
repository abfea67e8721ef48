//! The controls: bits of EL2's registers that decide what guests reach.
//!
//! Polarity is Arm's: most traps are on where the bit is set, and those of later years, and all
//! that gate a feature, where it is clear. What is yet to be defined will be of the second kind, so
//! zero hides it.

use super::feature::{self, ALWAYS};
use super::{Guest, Machine, ROWS};
use crate::encoding::Encoding;
use crate::id::{Ids, Needs};

/// A bit, or a field, of a register of EL2, and the value it has while guests run.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// The register's and the bit's name.
    pub name: &'static str,
    /// The register.
    pub register: El2,
    /// The bits that are set.
    pub set: u64,
    /// The bits that are clear.
    pub clear: u64,
    /// When the bits in [`set`](Self::set) are; they are reserved otherwise, or give nothing.
    pub when: When,
}

/// When a bit is set.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// On a CPU that has this.
    Has(Needs),
    /// If all CPUs have this.
    AllHave(Needs),
    /// If guests are shown this.
    Shown(Needs),
    /// On a CPU whose `CTR_EL0` is not what all have in common.
    CacheTypesDiffer,
}

impl When {
    fn met(&self, cpu: &Ids, machine: &Machine) -> bool {
        match self {
            Self::Has(needs) => needs.met(cpu),
            Self::AllHave(needs) => needs.met(&machine.common),
            Self::Shown(needs) => needs.met(&machine.guest),
            Self::CacheTypesDiffer => cpu.cache_type() != machine.common.cache_type(),
        }
    }
}

macro_rules! registers {
    ($(
        $(#[$doc:meta])*
        $variant:ident = $name:literal $encoding:tt $(if $needs:ident)? $(, base $base:literal)?;
    )*) => {
        /// A register whose value the contract knows, and that every CPU is given. Those of EL2
        /// control guests; the others are EL1's, are out of guests' reach, and would act all the
        /// same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum El2 {
            $($(#[$doc])* $variant,)*
        }

        impl El2 {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// As Arm calls it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is called in instructions.
            pub const fn encoding(self) -> Encoding {
                match self { $(Self::$variant => encoding($encoding),)* }
            }

            /// What the CPU must have for it to be there.
            pub const fn needs(self) -> Needs {
                match self { $(Self::$variant => registers!(@needs $($needs)?),)* }
            }

            /// The bits that are set whatever the controls are: those that are RES1.
            pub const fn base(self) -> u64 {
                match self { $(Self::$variant => 0 $(+ $base)?,)* }
            }
        }
    };
    (@needs) => { ALWAYS };
    (@needs $needs:ident) => { feature::$needs };
}

const fn encoding((op0, op1, crn, crm, op2): (u32, u32, u32, u32, u32)) -> Encoding {
    Encoding::new(op0, op1, crn, crm, op2)
}

registers! {
    /// Hypervisor configuration.
    Hcr = "HCR_EL2" (3, 4, 1, 1, 0);
    /// Hypervisor configuration, extended.
    Hcrx = "HCRX_EL2" (3, 4, 1, 2, 2) if HCX;
    /// Traps of FP, SIMD, SVE, SME, trace and activity monitors. With E2H clear bits 13, 9 and 7 to
    /// 0 are RES1.
    Cptr = "CPTR_EL2" (3, 4, 1, 1, 2), base 0x22ff;
    /// Traps of debug and performance monitors. `HPMN` must name all event counters: the code that
    /// writes the register adds it.
    Mdcr = "MDCR_EL2" (3, 4, 1, 1, 1);
    /// Traps of AArch32 registers: none.
    Hstr = "HSTR_EL2" (3, 4, 1, 1, 3);
    /// Traps of timers and counters.
    Cnthctl = "CNTHCTL_EL2" (3, 4, 14, 1, 0);
    /// What virtual time is behind: nothing, guests share the physical one.
    Cntvoff = "CNTVOFF_EL2" (3, 4, 14, 0, 3);
    /// Fine-grained traps.
    Hfgrtr = "HFGRTR_EL2" (3, 4, 1, 1, 4) if FGT;
    /// Fine-grained traps.
    Hfgwtr = "HFGWTR_EL2" (3, 4, 1, 1, 5) if FGT;
    /// Fine-grained traps.
    Hfgitr = "HFGITR_EL2" (3, 4, 1, 1, 6) if FGT;
    /// Fine-grained traps.
    Hdfgrtr = "HDFGRTR_EL2" (3, 4, 3, 1, 4) if FGT;
    /// Fine-grained traps.
    Hdfgwtr = "HDFGWTR_EL2" (3, 4, 3, 1, 5) if FGT;
    /// Fine-grained traps.
    Hfgrtr2 = "HFGRTR2_EL2" (3, 4, 3, 1, 2) if FGT2;
    /// Fine-grained traps.
    Hfgwtr2 = "HFGWTR2_EL2" (3, 4, 3, 1, 3) if FGT2;
    /// Fine-grained traps.
    Hfgitr2 = "HFGITR2_EL2" (3, 4, 3, 1, 7) if FGT2;
    /// Fine-grained traps.
    Hdfgrtr2 = "HDFGRTR2_EL2" (3, 4, 3, 1, 0) if FGT2;
    /// Fine-grained traps.
    Hdfgwtr2 = "HDFGWTR2_EL2" (3, 4, 3, 1, 1) if FGT2;
    /// Memory partitioning: EL2's own partition, and traps.
    Mpam2 = "MPAM2_EL2" (3, 4, 10, 5, 0) if MPAM;
    /// The partition of EL1.
    Mpam1 = "MPAM1_EL1" (3, 0, 10, 5, 0) if MPAM;
    /// The partition of EL0.
    Mpam0 = "MPAM0_EL1" (3, 0, 10, 5, 1) if MPAM;
    /// The interrupt controller by system registers, for EL2 and below.
    IccSre = "ICC_SRE_EL2" (3, 4, 12, 9, 5), base 0b111;
    /// The OS lock: open, else nothing of the following has an effect for anybody.
    Oslar = "OSLAR_EL1" (2, 0, 1, 0, 4);
    /// The OS double lock: open.
    Osdlr = "OSDLR_EL1" (2, 0, 1, 3, 4);
    /// Interrupts of the channel to an external debugger: off.
    Mdccint = "MDCCINT_EL1" (2, 0, 0, 2, 0);
    /// Breakpoints, watchpoints and software step: off, but while a vCPU is on the CPU that has
    /// them on.
    Mdscr = "MDSCR_EL1" (2, 0, 0, 2, 2);
    /// Trace filters of EL1 and EL0: nothing may be traced.
    Trfcr1 = "TRFCR_EL1" (3, 0, 1, 2, 1) if TRF;
    /// Trace filters of EL2.
    Trfcr2 = "TRFCR_EL2" (3, 4, 1, 2, 1) if TRF;
}

const fn set(name: &'static str, register: El2, bits: u64) -> Control {
    Control {
        name,
        register,
        set: bits,
        clear: 0,
        when: When::Has(ALWAYS),
    }
}

const fn clear(name: &'static str, register: El2, bits: u64) -> Control {
    Control {
        clear: bits,
        ..set(name, register, 0)
    }
}

impl Control {
    const fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    /// Set on CPUs that have this, and reserved on others.
    const fn has(self, needs: Needs) -> Self {
        self.when(When::Has(needs))
    }
}

// What rows name.

pub(super) const TID1: Control = set("HCR_EL2.TID1", El2::Hcr, 1 << 16).has(feature::SME);
pub(super) const TID2: Control =
    set("HCR_EL2.TID2", El2::Hcr, 1 << 17).when(When::CacheTypesDiffer);
pub(super) const TID3: Control = set("HCR_EL2.TID3", El2::Hcr, 1 << 18);
pub(super) const TIDCP: Control = set("HCR_EL2.TIDCP", El2::Hcr, 1 << 20);
pub(super) const TACR: Control = set("HCR_EL2.TACR", El2::Hcr, 1 << 21);
pub(super) const TLOR: Control = set("HCR_EL2.TLOR", El2::Hcr, 1 << 35).has(feature::LOR);
pub(super) const TERR: Control = set("HCR_EL2.TERR", El2::Hcr, 1 << 36).has(feature::RAS);
pub(super) const ENSCXT: Control = clear("HCR_EL2.EnSCXT", El2::Hcr, 1 << 53);
pub(super) const ATA: Control = clear("HCR_EL2.ATA", El2::Hcr, 1 << 56);
pub(super) const TID5: Control = set("HCR_EL2.TID5", El2::Hcr, 1 << 58).has(feature::MTE2);

pub(super) const TCR2EN: Control = clear("HCRX_EL2.TCR2En", El2::Hcrx, 1 << 14);
pub(super) const SCTLR2EN: Control = clear("HCRX_EL2.SCTLR2En", El2::Hcrx, 1 << 15);
pub(super) const ENFPM: Control = clear("HCRX_EL2.EnFPM", El2::Hcrx, 1 << 23);
pub(super) const SRMASKEN: Control = clear("HCRX_EL2.SRMASKEn", El2::Hcrx, 1 << 26);

pub(super) const TZ: Control = set("CPTR_EL2.TZ", El2::Cptr, 1 << 8);
pub(super) const TSM: Control = set("CPTR_EL2.TSM", El2::Cptr, 1 << 12);
pub(super) const TTA: Control = set("CPTR_EL2.TTA", El2::Cptr, 1 << 20);
pub(super) const TAM: Control = set("CPTR_EL2.TAM", El2::Cptr, 1 << 30);

pub(super) const TPMCR: Control = set("MDCR_EL2.TPMCR", El2::Mdcr, 1 << 5);
pub(super) const TPM: Control = set("MDCR_EL2.TPM", El2::Mdcr, 1 << 6);
pub(super) const TDA: Control = set("MDCR_EL2.TDA", El2::Mdcr, 1 << 9);
pub(super) const TDOSA: Control = set("MDCR_EL2.TDOSA", El2::Mdcr, 1 << 10);
pub(super) const TDRA: Control = set("MDCR_EL2.TDRA", El2::Mdcr, 1 << 11);
pub(super) const E2PB: Control = clear("MDCR_EL2.E2PB", El2::Mdcr, 0b11 << 12);
pub(super) const TPMS: Control = set("MDCR_EL2.TPMS", El2::Mdcr, 1 << 14).has(feature::SPE);
pub(super) const ENSPM: Control = clear("MDCR_EL2.EnSPM", El2::Mdcr, 1 << 15);
pub(super) const TTRF: Control = set("MDCR_EL2.TTRF", El2::Mdcr, 1 << 19).has(feature::TRF);
pub(super) const E2TB: Control = clear("MDCR_EL2.E2TB", El2::Mdcr, 0b11 << 24);
pub(super) const ENSTEPOP: Control = clear("MDCR_EL2.EnSTEPOP", El2::Mdcr, 1 << 50);

/// A fine-grained trap of reads that is on while its bit is clear; the register for writes has it
/// in the same place.
const fn untrapped(name: &'static str, register: El2, bit: u32) -> Control {
    clear(name, register, 1 << bit).has(feature::FGT)
}

pub(super) const NACCDATA: Control = untrapped("HFGRTR_EL2.nACCDATA_EL1", El2::Hfgrtr, 50);
pub(super) const NGCS_EL0: Control = untrapped("HFGRTR_EL2.nGCS_EL0", El2::Hfgrtr, 52);
pub(super) const NGCS_EL1: Control = untrapped("HFGRTR_EL2.nGCS_EL1", El2::Hfgrtr, 53);
pub(super) const NSMPRI: Control = untrapped("HFGRTR_EL2.nSMPRI_EL1", El2::Hfgrtr, 54);
pub(super) const NTPIDR2: Control = untrapped("HFGRTR_EL2.nTPIDR2_EL0", El2::Hfgrtr, 55);
pub(super) const NPIRE0: Control = untrapped("HFGRTR_EL2.nPIRE0_EL1", El2::Hfgrtr, 57);
pub(super) const NPIR: Control = untrapped("HFGRTR_EL2.nPIR_EL1", El2::Hfgrtr, 58);
pub(super) const NPOR_EL0: Control = untrapped("HFGRTR_EL2.nPOR_EL0", El2::Hfgrtr, 59);
pub(super) const NPOR_EL1: Control = untrapped("HFGRTR_EL2.nPOR_EL1", El2::Hfgrtr, 60);
pub(super) const NS2POR: Control = untrapped("HFGRTR_EL2.nS2POR_EL1", El2::Hfgrtr, 61);
pub(super) const NMAIR2: Control = untrapped("HFGRTR_EL2.nMAIR2_EL1", El2::Hfgrtr, 62);
pub(super) const NAMAIR2: Control = untrapped("HFGRTR_EL2.nAMAIR2_EL1", El2::Hfgrtr, 63);
pub(super) const NBRB: Control = clear("HDFGRTR_EL2.nBRB*", El2::Hdfgrtr, 0b111 << 59);
pub(super) const PMBIDR: Control =
    set("HDFGRTR_EL2.PMBIDR_EL1", El2::Hdfgrtr, 1 << 63).has(feature::SPE);
pub(super) const TRBIDR: Control =
    set("HDFGRTR_EL2.TRBIDR_EL1", El2::Hdfgrtr, 1 << 51).has(feature::TRBE);
/// All of FEAT_FGT2's traps are on while their bits are clear.
pub(super) const FGT2_READ: Control = clear("HFGRTR2_EL2", El2::Hfgrtr2, u64::MAX);
pub(super) const FGT2_DEBUG: Control = clear("HDFGRTR2_EL2", El2::Hdfgrtr2, u64::MAX);

pub(super) const SRE_ENABLE: Control = clear("ICC_SRE_EL2.Enable", El2::IccSre, 1 << 3);

pub(super) const TRAP_MPAM0: Control = set("MPAM2_EL2.TRAPMPAM0EL1", El2::Mpam2, 1 << 48);
pub(super) const TRAP_MPAM1: Control = set("MPAM2_EL2.TRAPMPAM1EL1", El2::Mpam2, 1 << 49);
pub(super) const ENMPAMSM: Control = clear("MPAM2_EL2.EnMPAMSM", El2::Mpam2, 1 << 50);
/// Of CPUs that have no other trap of `MPAMIDR_EL1`, `MPAMHCR_EL2` has one: see [`super::el1`].
pub(super) const MPAM_TIDR: Control = set("MPAM2_EL2.TIDR", El2::Mpam2, 1 << 58);

/// What is decided for guests beside registers.
const OTHERS: &[Control] = &[
    // Guest memory is translated, EL1 is AArch64, and interrupts, physical and system errors come
    // to EL2.
    set("HCR_EL2.VM", El2::Hcr, 1 << 0),
    set("HCR_EL2.FMO", El2::Hcr, 1 << 3),
    set("HCR_EL2.IMO", El2::Hcr, 1 << 4),
    set("HCR_EL2.AMO", El2::Hcr, 1 << 5),
    set("HCR_EL2.RW", El2::Hcr, 1 << 31),
    clear("HCR_EL2.TGE", El2::Hcr, 1 << 27),
    // Debug exceptions are EL1's, so EL2 is never stepped and meets no breakpoint.
    clear("MDCR_EL2.TDE", El2::Mdcr, 1 << 8),
    clear("HCR_EL2.E2H", El2::Hcr, 1 << 34),
    clear("HCR_EL2.NV", El2::Hcr, 1 << 42),
    // What a guest does to caches and TLBs of its CPU reaches all CPUs, as its vCPU may move; what
    // would drop dirty lines by set and way cleans them.
    set("HCR_EL2.SWIO", El2::Hcr, 1 << 1),
    set("HCR_EL2.FB", El2::Hcr, 1 << 9),
    set("HCR_EL2.BSU", El2::Hcr, 0b01 << 10),
    // Waiting, and calls of the firmware.
    set("HCR_EL2.TWI", El2::Hcr, 1 << 13),
    set("HCR_EL2.TWE", El2::Hcr, 1 << 14),
    set("HCR_EL2.TSC", El2::Hcr, 1 << 19),
    clear("HCR_EL2.HCD", El2::Hcr, 1 << 29),
    // Pointer authentication, keys and instructions.
    set("HCR_EL2.APK", El2::Hcr, 1 << 40).when(When::Shown(feature::PAUTH)),
    set("HCR_EL2.API", El2::Hcr, 1 << 41).when(When::Shown(feature::PAUTH)),
    // Stage 2 makes all memory write-back.
    set("HCR_EL2.FWB", El2::Hcr, 1 << 46).when(When::AllHave(feature::S2FWB)),
    // Features that it gates are hidden: no loads and stores of 64 bytes, no transactions, no copy
    // instructions.
    clear("HCRX_EL2", El2::Hcrx, !(1 << 6)),
    // Non-maskable interrupts are hidden, so nothing may mask them.
    set("HCRX_EL2.TALLINT", El2::Hcrx, 1 << 6).has(feature::NMI),
    clear("CPTR_EL2.TFP", El2::Cptr, 1 << 10),
    // Guests use the counters and both timers of EL1 directly; all share one time.
    set("CNTHCTL_EL2.EL1PCTEN", El2::Cnthctl, 1 << 0),
    set("CNTHCTL_EL2.EL1PCEN", El2::Cnthctl, 1 << 1),
];

/// What rows name of themselves, and what is decided beside them.
pub const CONTROLS: [&[Control]; 1] = [OTHERS];

/// All controls, those of rows as often as they are named.
pub(super) fn all() -> impl Iterator<Item = &'static Control> {
    let of_row = |guest: &'static Guest| match guest {
        Guest::Emulated(controls)
        | Guest::Modelled(controls)
        | Guest::Hidden(controls)
        | Guest::HiddenOrOwn(controls, _) => *controls,
        _ => &[],
    };
    let rows = ROWS.into_iter().flatten();
    let controls = rows.map(move |row| of_row(&row.guest));
    controls.chain(CONTROLS).flatten()
}

/// The value of `register` on a CPU that has `cpu`, in this machine.
pub fn control_value(register: El2, cpu: &Ids, machine: &Machine) -> u64 {
    all()
        .filter(|control| control.register == register && control.when.met(cpu, machine))
        .fold(register.base(), |value, control| value | control.set)
}
