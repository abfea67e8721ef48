//! TLB maintenance that a checker of recordings is told of; see [`trace::replay`] for the moment at
//! which each instruction gets its number.

use stage2::aarch64::{Cpu, Instructions, Operation};
use trace::event::{Barrier, Register, Tlbi};

use crate::tracing;

/// The instructions, executed and traced: a TLBI and a register before it takes effect, a barrier
/// after it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traced;

impl Traced {
    fn barrier(barrier: Barrier, execute: fn(&Cpu)) {
        execute(&Cpu);
        tracing::barrier(barrier);
    }

    fn tlbi(tlbi: Tlbi, operand: u64) {
        tracing::tlbi(tlbi, operand, Cpu.vttbr());
    }
}

// SAFETY: each method executes that of `Cpu`, and tracing does nothing to translations.
unsafe impl Instructions for Traced {
    fn dsb_ishst(&self) {
        Self::barrier(Barrier::DsbIshst, Cpu::dsb_ishst);
    }
    fn dsb_nshst(&self) {
        Self::barrier(Barrier::DsbNshst, Cpu::dsb_nshst);
    }
    fn dsb_ish(&self) {
        Self::barrier(Barrier::DsbIsh, Cpu::dsb_ish);
    }
    fn dsb_nsh(&self) {
        Self::barrier(Barrier::DsbNsh, Cpu::dsb_nsh);
    }
    fn isb(&self) {
        Self::barrier(Barrier::Isb, Cpu::isb);
    }
    fn tlbi(&self, operation: Operation, leaves: bool) {
        let (tlbi, operand) = match (operation, leaves) {
            (Operation::Single(x), true) => (Tlbi::Ipas2le1is, x),
            (Operation::Single(x), false) => (Tlbi::Ipas2e1is, x),
            (Operation::Range(x), true) => (Tlbi::Ripas2le1is, x),
            (Operation::Range(x), false) => (Tlbi::Ripas2e1is, x),
            (Operation::All, _) => (Tlbi::Vmalls12e1is, 0),
        };
        Self::tlbi(tlbi, operand);
        Cpu.tlbi(operation, leaves);
    }
    fn tlbi_leaf_local(&self, operand: u64) {
        Self::tlbi(Tlbi::Ipas2le1, operand);
        Cpu.tlbi_leaf_local(operand);
    }
    fn tlbi_stage1(&self) {
        Self::tlbi(Tlbi::Vmalle1is, 0);
        Cpu.tlbi_stage1();
    }
    fn tlbi_stage1_local(&self) {
        Self::tlbi(Tlbi::Vmalle1, 0);
        Cpu.tlbi_stage1_local();
    }
    fn tlbi_vmid_local(&self) {
        Self::tlbi(Tlbi::Vmalls12e1, 0);
        Cpu.tlbi_vmid_local();
    }
    fn tlbi_all(&self) {
        Self::tlbi(Tlbi::Alle1is, 0);
        Cpu.tlbi_all();
    }
    fn ic_ialluis(&self) {
        tracing::fetches_invalidated();
        Cpu.ic_ialluis();
    }
    fn vttbr(&self) -> u64 {
        Cpu.vttbr()
    }
    fn set_vttbr(&self, value: u64) {
        tracing::register(Register::Vttbr, value);
        Cpu.set_vttbr(value);
    }
}
