//! The registers by which EL2 controls guests: what traps, and what a guest sees without a trap.
//!
//! Written once on every CPU, since they are the same for all guests; those that belong to one vCPU
//! are written when it is loaded (`super::Vcpu`). Their values come from the contract
//! ([`arch::contract`]).

use core::arch::asm;

use aarch64_cpu::registers::{MIDR_EL1, Readable};
use arch::contract::{El2, control_value};
use arch::id::{Ids, index};

use arch::pstate::Features;

use super::{debugging, interface, registers};
use crate::cpu::{features, id_registers, ids_of_this_cpu};
use crate::mm;

/// Gives this CPU's control registers their values, whatever firmware has left there.
pub(crate) fn init_cpu() {
    let (ids, machine) = (ids_of_this_cpu(), id_registers());
    mm::init_translation();
    write_all(&ids, |register| {
        let value = control_value(register, &ids, machine);
        match register {
            El2::Mdcr => value | event_counters(&ids),
            _ => value,
        }
    });
    if El2::Mpam2.needs().met(&ids) {
        init_partitions();
    }
    registers::init_cpu(&ids, machine);
    interface::init_cpu();
    debugging::init_cpu(&ids);
    // SAFETY: The register only concerns guests.
    unsafe {
        asm!(
            "msr vpidr_el2, {midr}",
            midr = in(reg) MIDR_EL1.get(),
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// Writes each register of [`El2::ALL`] that this CPU has.
fn write_all(ids: &Ids, value: impl Fn(El2) -> u64) {
    macro_rules! write_each {
        ($($number:literal)*) => {
            $(if $number < El2::ALL.len() {
                const REGISTER: El2 = El2::ALL[if $number < El2::ALL.len() { $number } else { 0 }];
                if REGISTER.needs().met(ids) {
                    let value = value(REGISTER);
                    // SAFETY: The register only concerns guests, and this CPU has it.
                    unsafe {
                        asm!(
                            "msr S{op0}_{op1}_C{crn}_C{crm}_{op2}, {value}",
                            value = in(reg) value,
                            op0 = const REGISTER.encoding().op0(),
                            op1 = const REGISTER.encoding().op1(),
                            crn = const REGISTER.encoding().crn(),
                            crm = const REGISTER.encoding().crm(),
                            op2 = const REGISTER.encoding().op2(),
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                }
            })*
        };
    }
    const { assert!(El2::ALL.len() <= 32) };
    write_each!(
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    );
}

/// How many event counters the PMU has: the value that `MDCR_EL2.HPMN` must have for EL2 to leave
/// them alone. None without a PMU of Arm's.
fn event_counters(ids: &Ids) -> u64 {
    let pmu_version = ids.get(index(5, 0)) >> 8 & 0xf;
    if !matches!(pmu_version, 1..0xf) {
        return 0;
    }
    let pmcr: u64;
    // SAFETY: Reading a register changes nothing, and there is a PMU.
    unsafe { asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack, preserves_flags)) };
    pmcr >> 11 & 0x1f
}

/// Hides the sizes of memory partitions where `MPAM2_EL2` has no trap for that, and has guests'
/// partitions be their real ones. Only on a CPU with FEAT_MPAM.
fn init_partitions() {
    /// `MPAMIDR_EL1.HAS_HCR`.
    const HAS_HCR: u64 = 1 << 17;
    /// `MPAMHCR_EL2.TRAP_MPAMIDR_EL1`.
    const TRAP_MPAMIDR: u64 = 1 << 31;
    let sizes: u64;
    // SAFETY: Reading the register changes nothing, and there is FEAT_MPAM.
    unsafe {
        asm!("mrs {}, s3_0_c10_c4_4", out(reg) sizes, options(nomem, nostack, preserves_flags))
    };
    if sizes & HAS_HCR != 0 {
        // SAFETY: The register, MPAMHCR_EL2, is there and only concerns guests.
        unsafe {
            asm!("msr s3_4_c10_c4_0, {}", in(reg) TRAP_MPAMIDR, options(nomem, nostack, preserves_flags));
        }
    }
}

/// PSTATE fields that the CPUs have.
pub(crate) fn pstate_features() -> Features {
    let features = features();
    Features {
        pan: features.pan,
        ssbs: features.ssbs,
    }
}
