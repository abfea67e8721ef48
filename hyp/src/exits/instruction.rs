//! Loads and stores of devices' registers of which the syndrome does not say enough: the
//! instruction does.
//!
//! It is read from the guest's memory by a walk of the guest's tables in software. What the guest
//! has made of it or of the tables meanwhile does no harm: see [`emulate`].

use core::fmt;

use aarch64_cpu::registers::{
    CPACR_EL1, ELR_EL2, Readable, SCTLR_EL1, SP_EL0, SP_EL1, SPSR_EL2, Writeable,
};
use arch::LoadStore;
use arch::emulate::{self, Aborted, Guest};
use arch::pstate::{has_vectors, is_aarch32, is_big_endian, is_el0, uses_sp_el0};
use arch::stage1::Untranslated;
use arch::syndrome::Abort;
use log::info;
use memory::peek::Unreadable;

use super::stage1_walk;
use crate::vcpu::{self, Frame};
use crate::vm::Vm;

/// What became of a load or store.
pub(super) enum Fetched {
    /// It has been carried out.
    Done,
    /// Its instruction, or a table of the guest's above it, is being moved: later it can be read.
    Busy,
    /// The guest's tables do not lead to the instruction any more.
    Gone,
    /// It is none that is known, or cannot be read, or no device answers it.
    Nowhere,
}

/// Carries out the load or store at `ELR_EL2`, which aborted at the virtual address `far` and at
/// `ipa`.
pub(super) fn carry_out(frame: &mut Frame, abort: Abort, far: u64, ipa: u64) -> Fetched {
    let (vm, pc, spsr) = (frame.vcpu.vm(), ELR_EL2.get(), SPSR_EL2.get());
    if is_aarch32(spsr) {
        return unknown(vm, format_args!("an AArch32 instruction"), ipa);
    }
    let word = match stage1_walk::instruction(vm, pc) {
        Ok(word) => word,
        Err(Untranslated::Unread(Unreadable::Busy)) => return Fetched::Busy,
        Err(Untranslated::Invalid) => return Fetched::Gone,
        Err(Untranslated::Unread(Unreadable::Outside | Unreadable::Failed)) => {
            return unknown(vm, format_args!("an instruction that cannot be read,"), ipa);
        }
    };
    let aborted = Aborted {
        abort,
        far,
        is_el0: is_el0(spsr),
        has_vectors: has_vectors(spsr, CPACR_EL1.get()),
    };
    let mut access = OnCpu { frame, ipa };
    let known = LoadStore::decode(word).and_then(|instruction| {
        let address = emulate::address(&instruction, &access);
        let before = aborted.allows(&instruction, address)?;
        Some((instruction, before))
    });
    let Some((instruction, before)) = known else {
        return unknown(vm, format_args!("the instruction {word:#010x}"), ipa);
    };
    // All of the access is within the page.
    access.ipa -= before;
    let big_endian = is_big_endian(spsr, SCTLR_EL1.get());
    match emulate::carry_out(&instruction, &mut access, big_endian) {
        Some(()) => Fetched::Done,
        None => Fetched::Nowhere,
    }
}

/// Says, once in a VM's life, that an access to a device is not carried out.
#[cold]
fn unknown(vm: &Vm, what: fmt::Arguments<'_>, ipa: u64) -> Fetched {
    // Limited as all lines are that a guest brings about: a VM that is made anew has a first one
    // again.
    if vm.is_first_unknown_access()
        && let Some(leave) = vm.may_log()
    {
        info!(
            "vm{}: {what} at {:#x} accesses a device, at {ipa:#x}, in a way that is not emulated: external abort; there \
             will be no more lines of this{leave}",
            vm.index(),
            ELR_EL2.get(),
        );
    }
    Fetched::Nowhere
}

/// The guest whose registers this CPU holds, with a device's registers at `ipa`.
struct OnCpu<'f> {
    frame: &'f mut Frame,
    ipa: u64,
}

impl Guest for OnCpu<'_> {
    fn general(&self, number: usize) -> u64 {
        self.frame.register(number)
    }

    fn set_general(&mut self, number: usize, value: u64) {
        self.frame.set_register(number, value);
    }

    fn stack_pointer(&self) -> u64 {
        if uses_sp_el0(SPSR_EL2.get()) {
            SP_EL0.get()
        } else {
            SP_EL1.get()
        }
    }

    fn set_stack_pointer(&mut self, value: u64) {
        if uses_sp_el0(SPSR_EL2.get()) {
            SP_EL0.set(value);
        } else {
            SP_EL1.set(value);
        }
    }

    fn vector(&self, number: usize) -> u128 {
        vcpu::vector(number)
    }

    fn set_vector(&mut self, number: usize, value: u128) {
        vcpu::set_vector(number, value);
    }

    fn load(&mut self, offset: u64, size: u32) -> Option<u64> {
        let vcpu = self.frame.vcpu;
        vcpu.vm().device_read(vcpu, self.ipa + offset, size)
    }

    fn store(&mut self, offset: u64, size: u32, value: u64) -> Option<()> {
        let vcpu = self.frame.vcpu;
        vcpu.vm().device_write(vcpu, self.ipa + offset, size, value)
    }
}
