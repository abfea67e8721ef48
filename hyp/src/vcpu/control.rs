//! The registers by which EL2 controls guests: what traps, and what a guest sees without a trap.
//!
//! Written once on every CPU, since they are the same for all guests; those that belong to one vCPU
//! are written when it is loaded (`super::Vcpu`). Fields are those that the Arm ARM gives for E2H clear.

use core::arch::asm;

use aarch64_cpu::registers::{
    CNTHCTL_EL2, CPTR_EL2, HCR_EL2, ID_AA64DFR0_EL1, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1,
    ID_AA64PFR1_EL1, MDCR_EL2, MIDR_EL1, Readable, Writeable,
};

use hyp::exits::pstate::Features;

use super::interface;
use crate::boot::features;
use crate::machine;

/// Guest memory is translated, EL1 is AArch64, and interrupts, physical and system errors come to EL2.
const HCR_BASE: u64 = hcr::VM | hcr::RW | hcr::AMO | hcr::IMO | hcr::FMO;
/// What a guest does to caches and TLBs of its CPU reaches all CPUs, as its vCPU may move; what would
/// drop dirty lines by set and way cleans them.
const HCR_MAINTENANCE: u64 = hcr::SWIO | hcr::FB | hcr::BSU_INNER;
/// Waiting, SMC, ID registers, auxiliary control, and what is implementation defined or hidden.
const HCR_TRAPS: u64 =
    hcr::TWI | hcr::TWE | hcr::TSC | hcr::TID3 | hcr::TACR | hcr::TIDCP | hcr::TLOR | hcr::TERR;

/// Bits of `HCR_EL2`.
mod hcr {
    pub(super) const VM: u64 = 1 << 0;
    pub(super) const SWIO: u64 = 1 << 1;
    pub(super) const FMO: u64 = 1 << 3;
    pub(super) const IMO: u64 = 1 << 4;
    pub(super) const AMO: u64 = 1 << 5;
    pub(super) const FB: u64 = 1 << 9;
    pub(super) const BSU_INNER: u64 = 0b01 << 10;
    pub(super) const TWI: u64 = 1 << 13;
    pub(super) const TWE: u64 = 1 << 14;
    pub(super) const TID3: u64 = 1 << 18;
    pub(super) const TSC: u64 = 1 << 19;
    pub(super) const TIDCP: u64 = 1 << 20;
    pub(super) const TACR: u64 = 1 << 21;
    pub(super) const RW: u64 = 1 << 31;
    pub(super) const TLOR: u64 = 1 << 35;
    pub(super) const TERR: u64 = 1 << 36;
    pub(super) const APK: u64 = 1 << 40;
    pub(super) const API: u64 = 1 << 41;
    pub(super) const FWB: u64 = 1 << 46;
    pub(super) const TID5: u64 = 1 << 58;
}

/// Activity monitors, trace, SVE and SME are trapped; FP and SIMD are not. The rest is RES1.
const CPTR: u64 = 1 << 30 | 1 << 20 | 0x33ff;

/// Debug registers, the OS lock and the PMU are trapped.
const MDCR: u64 = mdcr::TDRA | mdcr::TDOSA | mdcr::TDA | mdcr::TPM | mdcr::TPMCR;

/// Bits of `MDCR_EL2`.
mod mdcr {
    pub(super) const TPMCR: u64 = 1 << 5;
    pub(super) const TPM: u64 = 1 << 6;
    pub(super) const TDA: u64 = 1 << 9;
    pub(super) const TDOSA: u64 = 1 << 10;
    pub(super) const TDRA: u64 = 1 << 11;
    pub(super) const TPMS: u64 = 1 << 14;
    pub(super) const TTRF: u64 = 1 << 19;
}

/// Gives this CPU's control registers their values.
pub(crate) fn init_cpu() {
    let features = features();
    let mut hcr = HCR_BASE | HCR_MAINTENANCE | HCR_TRAPS;
    if features.pointer_authentication {
        hcr |= hcr::APK | hcr::API;
    }
    if features.forced_write_back {
        hcr |= hcr::FWB;
    }
    let field = |register: u64, lowest: u32| register >> lowest & 0xf;
    if field(ID_AA64PFR1_EL1.get(), 8) >= 2 {
        // GMID_EL1 goes with FEAT_MTE2, whose other registers are trapped as ATA is clear.
        hcr |= hcr::TID5;
    }
    machine::init_translation();
    HCR_EL2.set(hcr);
    CPTR_EL2.set(CPTR);
    let dfr0 = ID_AA64DFR0_EL1.get();
    let mut mdcr = MDCR;
    if matches!(field(dfr0, 8), 1..0xf) {
        mdcr |= event_counters();
    }
    if field(dfr0, 32) != 0 {
        mdcr |= mdcr::TPMS;
    }
    if field(dfr0, 40) != 0 {
        mdcr |= mdcr::TTRF;
    }
    MDCR_EL2.set(mdcr);
    // Guests use the counters and both timers of EL1 directly; all share one time.
    CNTHCTL_EL2.write(CNTHCTL_EL2::EL1PCTEN::SET + CNTHCTL_EL2::EL1PCEN::SET);
    interface::init_cpu();
    // SAFETY: These registers only concern guests. HSTR_EL2 traps AArch32 registers: none.
    unsafe {
        asm!(
            "msr hstr_el2, xzr",
            "msr cntvoff_el2, xzr",
            "msr vpidr_el2, {midr}",
            midr = in(reg) MIDR_EL1.get(),
            options(nomem, nostack, preserves_flags),
        );
    }
    if field(ID_AA64MMFR1_EL1.get(), 40) != 0 {
        // HCRX_EL2 (FEAT_HCX): nothing that is gated by it.
        // SAFETY: As above, and the register is there.
        unsafe {
            asm!(
                "msr s3_4_c1_c2_2, xzr",
                options(nomem, nostack, preserves_flags)
            )
        };
    }
    if field(ID_AA64MMFR0_EL1.get(), 56) != 0 {
        // HFGRTR, HFGWTR, HFGITR, HDFGRTR and HDFGWTR_EL2 (FEAT_FGT): no fine-grained traps.
        // SAFETY: As above, and the registers are there.
        unsafe {
            asm!(
                "msr s3_4_c1_c1_4, xzr",
                "msr s3_4_c1_c1_5, xzr",
                "msr s3_4_c1_c1_6, xzr",
                "msr s3_4_c3_c1_4, xzr",
                "msr s3_4_c3_c1_5, xzr",
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

/// How many event counters the PMU has: the value that `MDCR_EL2.HPMN` must have for EL2 to leave
/// them alone. Only where there is a PMU.
fn event_counters() -> u64 {
    let pmcr: u64;
    // SAFETY: Reading a register changes nothing, and the caller says that it is there.
    unsafe { asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack, preserves_flags)) };
    pmcr >> 11 & 0x1f
}

/// PSTATE fields that the CPUs have.
pub(crate) fn pstate_features() -> Features {
    let field = |register: u64, lowest: u32| register >> lowest & 0xf;
    Features {
        pan: field(ID_AA64MMFR1_EL1.get(), 20) != 0,
        ssbs: field(ID_AA64PFR1_EL1.get(), 4) != 0,
    }
}
