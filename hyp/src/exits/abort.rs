//! Stage-2 aborts: memory that is not mapped yet, devices, and addresses where nothing is.

use aarch64_cpu::registers::{
    ELR_EL2, FAR_EL2, HPFAR_EL2, PAR_EL1, Readable, SCTLR_EL1, SPSR_EL2, Writeable,
};
use arch::pstate::{is_big_endian, is_el0};
use arch::syndrome::{Abort, Cause, EXTERNAL_ABORT, Transfer};
use devices::board::{DEVICES, RAM_BASE};
use log::{debug, log_enabled};
use memory::{Fault, FaultKind, Outcome};
use stage2::{Access, Ipa, Privilege};
use trace::Category;

use super::instruction::{self, Fetched};
use super::{inject, skip_instruction, stage1_walk, stuck};
use crate::el2::recover::{self, PAR_FAILED};
use crate::vcpu::{Exit, Frame, Vcpu};
use crate::{sched, tlb, tracing};
use psci::power::StopReason;

/// The page offset of an address.
const OFFSET: u64 = 0xfff;
/// `PAR_EL1.PA`: bits 51:12.
const PAR_PAGE: u64 = 0xf_ffff_ffff_f000;

/// Deals with a data abort.
#[inline]
pub(super) fn data(frame: &mut Frame, esr: u64) {
    // What HPFAR_EL2 holds if that does not belong to this abort does no harm.
    if (DEVICES..RAM_BASE).contains(&hpfar_page()) {
        device_abort(frame, esr);
    } else {
        stage2(frame, esr, false);
    }
}

/// Deals with a data abort or, if `fetch`, an instruction abort.
// Always inline, and the two kinds of faults apart: each saves only the registers that it needs.
#[inline(always)]
pub(super) fn stage2(frame: &mut Frame, esr: u64, fetch: bool) {
    match Abort::new(esr).cause() {
        Cause::Translation(_) => translation_fault(frame, esr, fetch),
        Cause::AccessFlag | Cause::Permission => permission_fault(frame, esr, fetch),
        Cause::Conflict => tlb::invalidate_vmid(),
        // The memory system refused an access to memory that is mapped, or worse.
        Cause::Other => inject_external_abort(frame, esr, FAR_EL2.get()),
    }
}

/// Nothing is mapped.
#[inline(never)]
fn translation_fault(frame: &mut Frame, esr: u64, fetch: bool) {
    resolve(
        frame,
        esr,
        fetch,
        FaultKind::Translation(Abort::new(esr).level()),
    );
}

/// Something is mapped, and does not allow the access yet, or never will.
#[inline(never)]
fn permission_fault(frame: &mut Frame, esr: u64, fetch: bool) {
    resolve(
        frame,
        esr,
        fetch,
        FaultKind::Mapped(Abort::new(esr).level()),
    );
}

#[inline(always)]
fn resolve(frame: &mut Frame, esr: u64, fetch: bool, kind: FaultKind) {
    let (abort, far) = (Abort::new(esr), FAR_EL2.get());
    let ipa = match kind {
        FaultKind::Translation(_) => Some(reported_ipa(abort, far)),
        FaultKind::Mapped(_) => faulting_ipa(abort, far),
    };
    let Some(ipa) = ipa else {
        return tables_changed();
    };
    let access = abort.access(fetch.then(privilege));
    let fault = Fault {
        ipa: Ipa::new(ipa),
        access,
        kind,
    };
    let vcpu = frame.vcpu;
    let outcome = vcpu.vm().memory().fault(fault);
    if tracing::wants(Category::Fault) {
        tracing::faulted(fault.ipa, access, kind, outcome);
    }
    match outcome {
        Outcome::Resume => vcpu.counters.count(Exit::Fault),
        Outcome::Busy => {
            vcpu.counters.count(Exit::Fault);
            sched::yield_now();
        }
        Outcome::OutOfMemory => short_of_memory(vcpu, fault),
        Outcome::Outside => access_outside_ram(frame, esr, far, fault),
        Outcome::Mistake => vcpu.vm().stop(vcpu, StopReason::Mistake),
    }
}

/// Lets a guest try again whose tables do not translate the address any more, or cannot be read.
/// What the TLB had of them goes: else the access would find it again, and fault for ever. Without
/// it the guest's own walk comes to the same end, which is an exception of its own.
#[cold]
#[inline(never)]
fn tables_changed() {
    tlb::invalidate_stage1();
}

/// The exception level that the guest is at.
fn privilege() -> Privilege {
    if is_el0(SPSR_EL2.get()) {
        Privilege::User
    } else {
        Privilege::Kernel
    }
}

/// Lets the fault wait for memory, or be the machine's last.
#[cold]
#[inline(never)]
fn short_of_memory(vcpu: &Vcpu, fault: Fault) {
    let vm = vcpu.vm();
    vm.out_of_memory(vcpu, || vm.memory().fault(fault));
}

/// Deals with an access to what is no RAM.
#[inline(never)]
fn access_outside_ram(frame: &mut Frame, esr: u64, far: u64, fault: Fault) {
    let (vcpu, access, ipa) = (frame.vcpu, fault.access, fault.ipa.get());
    let show = || vcpu.vm().show_flash(ipa);
    match Some(access)
        .filter(|access| !access.stores())
        .and_then(|_| show())
    {
        Some(Outcome::Resume) => vcpu.counters.count(Exit::Fault),
        Some(Outcome::Busy) => sched::yield_now(),
        Some(Outcome::OutOfMemory) => vcpu
            .vm()
            .out_of_memory(vcpu, || show().unwrap_or(Outcome::Resume)),
        Some(Outcome::Mistake) => vcpu.vm().stop(vcpu, StopReason::Mistake),
        Some(Outcome::Outside) | None if !matches!(access, Access::Execute(_)) => {
            device(frame, esr, far, ipa)
        }
        Some(Outcome::Outside) | None => {
            if !stuck::cannot_fetch(vcpu) {
                inject_external_abort(frame, esr, far);
            }
        }
    }
}

/// Deals with a data abort where only registers of devices are.
#[inline(never)]
fn device_abort(frame: &mut Frame, esr: u64) {
    let abort = Abort::new(esr);
    if !abort.is_translation() || abort.contains(Abort::STAGE1_WALK) {
        return stage2(frame, esr, false);
    }
    let far = FAR_EL2.get();
    let ipa = hpfar_page() | far & OFFSET;
    if tracing::wants(Category::Fault) {
        let kind = FaultKind::Translation(abort.level());
        tracing::faulted(Ipa::new(ipa), abort.access(None), kind, Outcome::Outside);
    }
    device(frame, esr, far, ipa);
}

/// Emulates a load or store, or refuses it if there is no device.
// Always inline: what the caller knows of the syndrome is not looked at again.
#[inline(always)]
fn device(frame: &mut Frame, esr: u64, far: u64, ipa: u64) {
    let Some(access) = Transfer::described(Abort::new(esr)) else {
        return undescribed(frame, esr, far, ipa);
    };
    match transfer(frame, access, ipa) {
        Some(()) => emulated(frame, esr),
        None => no_device(frame, esr, far),
    }
}

/// A load or store is done.
#[inline(always)]
fn emulated(frame: &Frame, esr: u64) {
    frame.vcpu.counters.count(Exit::Mmio);
    skip_instruction(esr);
}

/// Emulates a load or store of which the syndrome does not say enough, if there is a device.
#[cold]
#[inline(never)]
fn undescribed(frame: &mut Frame, esr: u64, far: u64, ipa: u64) {
    let abort = Abort::new(esr);
    let is_other = abort.intersects(Abort::STAGE1_WALK | Abort::CACHE_MAINTENANCE);
    if is_other || !frame.vcpu.vm().has_device(ipa) {
        return no_device(frame, esr, far);
    }
    match instruction::carry_out(frame, abort, far, ipa) {
        Fetched::Done => emulated(frame, esr),
        Fetched::Busy => sched::yield_now(),
        Fetched::Gone => tables_changed(),
        Fetched::Nowhere => inject_external_abort(frame, esr, far),
    }
}

/// Loads from a device, or stores to it; `None` if there is none at `ipa`.
#[inline(always)]
fn transfer(frame: &mut Frame, access: Transfer, ipa: u64) -> Option<()> {
    let vcpu = frame.vcpu;
    let big_endian = is_big_endian(SPSR_EL2.get(), SCTLR_EL1.get());
    if access.write {
        let value = access.stored(frame.register(access.register), big_endian);
        return vcpu.vm().device_write(vcpu, ipa, access.size, value);
    }
    let value = vcpu.vm().device_read(vcpu, ipa, access.size)?;
    frame.set_register(access.register, access.loaded(value, big_endian));
    Some(())
}

/// There is neither memory nor a device that could do this. Cache maintenance does nothing then,
/// and everything else is refused.
#[inline(never)]
fn no_device(frame: &Frame, esr: u64, far: u64) {
    if Abort::new(esr).is_maintenance() {
        return skip_instruction(esr);
    }
    inject_external_abort(frame, esr, far);
}

/// Answers with a synchronous external abort, on the access or on the walk of the guest's own
/// tables.
#[cold]
fn inject_external_abort(frame: &Frame, esr: u64, far: u64) {
    let vcpu = frame.vcpu;
    let is_walk = Abort::new(esr).contains(Abort::STAGE1_WALK);
    let status = match is_walk.then(|| stage1_walk::status(vcpu.vm(), far, hpfar_page())) {
        Some(Some(on_walk)) => on_walk,
        Some(None) => return sched::yield_now(),
        None => EXTERNAL_ABORT,
    };
    if log_enabled!(log::Level::Debug)
        && let Some(leave) = vcpu.vm().may_log()
    {
        debug!(
            "vm{} vcpu{}: external abort, ESR {esr:#x} FAR {far:#x} ELR {:#x}{leave}",
            vcpu.vm().index(),
            vcpu.index(),
            ELR_EL2.get(),
        );
    }
    vcpu.counters.count(Exit::Injected);
    inject::external_abort(esr, far, status);
}

/// The IPA that faulted; `None` if it cannot be told any more.
///
/// `HPFAR_EL2` holds its page, except that some CPUs do not set it for a permission fault of the
/// access itself (Arm ARM, `HPFAR_EL2`): then the guest's own tables are asked.
fn faulting_ipa(abort: Abort, far: u64) -> Option<u64> {
    if !abort.is_reported() {
        return translate(far);
    }
    Some(reported_ipa(abort, far))
}

/// The IPA that faulted, with its page from `HPFAR_EL2`.
fn reported_ipa(abort: Abort, far: u64) -> u64 {
    abort.reported_ipa(HPFAR_EL2.get(), far).get()
}

/// The page that `HPFAR_EL2` names.
fn hpfar_page() -> u64 {
    Abort::reported_page(HPFAR_EL2.get()).get()
}

/// Translates a guest's virtual address by its own stage 1. The hardware does, since a walk in
/// software would take more than all the rest of the fault; whatever it meets on its way, `recover`
/// turns into "not translated".
fn translate(address: u64) -> Option<u64> {
    let kept = PAR_EL1.get();
    let par = recover::translate(address);
    // Who reads it next sees it without an ISB: EL2, by the same name, or the guest, behind an
    // ERET.
    PAR_EL1.set(kept);
    (par & PAR_FAILED == 0).then_some(par & PAR_PAGE | address & OFFSET)
}
