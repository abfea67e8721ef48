//! The CPU that runs this.

use core::arch::asm;

use super::abilities::{Abilities, IdRegisters};
use super::abort::Abort;
use super::instructions::Instructions;
use super::tlbi::Operation;
use crate::addr::Ipa;

/// The instructions, executed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

/// Executes an instruction that has no result.
macro_rules! execute {
    ($instruction:literal $(, $operand:expr)?) => {
        // SAFETY: it changes no memory and no register but what `Instructions` says.
        unsafe { asm!($instruction $(, in(reg) $operand)?, options(nostack, preserves_flags)) }
    };
}

/// Reads a register.
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading it has no effect.
        unsafe {
            asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags))
        };
        value
    }};
}

// SAFETY: each method is the instruction that it is named after. The range forms are written as
// SYS, since the assembler takes their names from Armv8.4 on; their operands are encoded by `tlbi`,
// which uses them only with FEAT_TLBIRANGE.
unsafe impl Instructions for Cpu {
    #[inline(always)]
    fn dsb_ishst(&self) {
        execute!("dsb ishst");
    }
    #[inline(always)]
    fn dsb_nshst(&self) {
        execute!("dsb nshst");
    }
    #[inline(always)]
    fn dsb_ish(&self) {
        execute!("dsb ish");
    }
    #[inline(always)]
    fn dsb_nsh(&self) {
        execute!("dsb nsh");
    }
    #[inline(always)]
    fn isb(&self) {
        execute!("isb");
    }
    #[inline(always)]
    fn tlbi(&self, operation: Operation, leaves: bool) {
        match (operation, leaves) {
            (Operation::Single(x), true) => execute!("tlbi ipas2le1is, {}", x),
            (Operation::Single(x), false) => execute!("tlbi ipas2e1is, {}", x),
            (Operation::Range(x), true) => execute!("sys #4, c8, c0, #6, {}", x),
            (Operation::Range(x), false) => execute!("sys #4, c8, c0, #2, {}", x),
            (Operation::All, _) => execute!("tlbi vmalls12e1is"),
        }
    }
    #[inline(always)]
    fn tlbi_leaf_local(&self, operand: u64) {
        execute!("tlbi ipas2le1, {}", operand);
    }
    #[inline(always)]
    fn tlbi_stage1(&self) {
        execute!("tlbi vmalle1is");
    }
    #[inline(always)]
    fn tlbi_stage1_local(&self) {
        execute!("tlbi vmalle1");
    }
    #[inline(always)]
    fn tlbi_vmid_local(&self) {
        execute!("tlbi vmalls12e1");
    }
    #[inline(always)]
    fn tlbi_all(&self) {
        execute!("tlbi alle1is");
    }
    #[inline(always)]
    fn ic_ialluis(&self) {
        execute!("ic ialluis");
    }
    #[inline(always)]
    fn vttbr(&self) -> u64 {
        read!("vttbr_el2")
    }
    #[inline(always)]
    fn set_vttbr(&self, value: u64) {
        execute!("msr vttbr_el2, {}", value);
    }
}

impl Abilities {
    /// What the CPU that runs this can do. For a machine whose CPUs differ, [decode](Self::decode)
    /// what they have in common.
    pub fn detect() -> Self {
        Self::decode(&IdRegisters {
            mmfr0: read!("id_aa64mmfr0_el1"),
            mmfr1: read!("id_aa64mmfr1_el1"),
            // ID_AA64MMFR2_EL1: the assembler takes its name from Armv8.2 on.
            mmfr2: read!("s3_0_c0_c7_2"),
            isar0: read!("id_aa64isar0_el1"),
            ctr: read!("ctr_el0"),
        })
    }
}

/// The data or instruction abort that has just brought this CPU from a guest to EL2, and its guest
/// physical address, if that [is reported](Abort::is_reported).
pub fn reported_fault() -> (Abort, Option<Ipa>) {
    let abort = Abort::new(read!("esr_el2"));
    let ipa = || abort.reported_ipa(read!("hpfar_el2"), read!("far_el2"));
    (abort, abort.is_reported().then(ipa))
}
