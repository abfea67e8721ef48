//! Notices guests that nothing gets going again, so that a user is told, and does not wait for
//! ever.

use aarch64_cpu::registers::{ELR_EL1, ELR_EL2, ESR_EL1, Readable, SPSR_EL2, VBAR_EL1};
use arch::syndrome::class_of;
use psci::halt::{Cause, Halt, is_at_own_vector, is_endless, is_privileged, is_undefined};

use super::stage1_walk::{self, has_mmu};
use crate::vcpu::Vcpu;

/// `ESR_EL1.EC`: unknown reason, as of undefined instructions.
const UNKNOWN: u64 = 0;

/// A guest was interrupted. Returns when its VM stops, if it never gets on.
#[inline]
pub(super) fn interrupted(vcpu: &Vcpu) {
    if vcpu.watch.interrupted(SPSR_EL2.get(), ELR_EL2.get()) {
        look(vcpu);
    }
}

/// A guest executes WFI or WFE. Returns when its VM stops, if it never gets on.
#[inline]
pub(super) fn waits(vcpu: &Vcpu) {
    let pc = ELR_EL2.get();
    if vcpu.watch.waits(SPSR_EL2.get(), pc) && !look(vcpu) {
        vcpu.watch.goes_on(pc);
    }
}

/// A guest cannot fetch what is at its PC, where nothing is. Returns whether that is its end: when
/// its VM stops.
pub(super) fn cannot_fetch(vcpu: &Vcpu) -> bool {
    // With stage 1, another vCPU may translate the vectors' address later.
    if has_mmu() || !is_at_own_vector(SPSR_EL2.get(), ELR_EL2.get(), VBAR_EL1.get()) {
        return false;
    }
    // What is in ESR_EL1 and ELR_EL1 is yet the exception that led to the vector.
    let at = ELR_EL1.get();
    let undefined = class_of(ESR_EL1.get()) == UNKNOWN;
    let instruction = undefined.then(|| fetch(vcpu, at)).flatten();
    let cause = match instruction.filter(|&instruction| is_privileged(instruction)) {
        Some(instruction) => Cause::Privileged { at, instruction },
        None => Cause::NoVectors,
    };
    // Where its MMU is off and nothing is there is nothing later either.
    halt(vcpu, cause, || true);
    true
}

/// Whether the guest never gets on from where it is; returns then when its VM stops.
#[cold]
#[inline(never)]
fn look(vcpu: &Vcpu) -> bool {
    let Some(cause) = cause(vcpu) else {
        return false;
    };
    halt(vcpu, cause, || self::cause(vcpu).is_some());
    true
}

/// What keeps the guest where it is for ever, unless another vCPU changes that.
fn cause(vcpu: &Vcpu) -> Option<Cause> {
    let (spsr, pc) = (SPSR_EL2.get(), ELR_EL2.get());
    let fetch = |address| fetch(vcpu, address);
    let has_mmu = has_mmu();
    if is_endless(spsr, pc, fetch) {
        return Some(Cause::Loop { has_mmu });
    }
    let is_at_vector = !has_mmu && is_at_own_vector(spsr, pc, VBAR_EL1.get());
    (is_at_vector && fetch(pc).is_some_and(is_undefined)).then_some(Cause::NoVectors)
}

fn halt(vcpu: &Vcpu, cause: Cause, still: impl Fn() -> bool) {
    let halt = Halt {
        vcpu: vcpu.index(),
        pc: ELR_EL2.get(),
        cause,
    };
    vcpu.vm().halt(vcpu, halt, still);
}

/// The instruction at a virtual address of the guest's, if it can be told.
fn fetch(vcpu: &Vcpu, address: u64) -> Option<u32> {
    let aligned = address.is_multiple_of(4);
    aligned.then(|| stage1_walk::instruction(vcpu.vm(), address).ok())?
}
