//! Walks of a guest's own tables, in software: what the guest is told of one that cannot be served,
//! and its instructions.

use aarch64_cpu::registers::{Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1};
use arch::stage1::{Last, Stage1, Untranslated};
use arch::syndrome::{EXTERNAL_ABORT, external_abort_on_walk};
use memory::peek::Unreadable;
use stage2::{Ipa, PAGE_SHIFT};

use crate::vm::Vm;

/// The status code of an external abort on the walk for `address`, which stage 2 stopped at `page`;
/// none if the guest has to walk once more, since its tables could not all be read.
pub(super) fn status(vm: &Vm, address: u64, page: u64) -> Option<u64> {
    let last = stage1().last_access(address, |ipa| vm.memory().peek(Ipa::new(ipa)));
    match last {
        Some(Last {
            unread: Some(Unreadable::Busy),
            ..
        }) => None,
        Some(Last { level, ipa, .. }) if ipa >> PAGE_SHIFT == page >> PAGE_SHIFT => {
            Some(external_abort_on_walk(level))
        }
        // The hardware's walk was another: the guest has changed its tables since, or not told the
        // TLB.
        _ => Some(EXTERNAL_ABORT),
    }
}

/// The instruction of four bytes at the guest's virtual address `pc`, a multiple of four.
///
/// # Errors
///
/// Why there is none: among others that the guest's tables do not lead there any more.
pub(super) fn instruction(vm: &Vm, pc: u64) -> Result<u32, Untranslated<Unreadable>> {
    let read = |ipa| vm.memory().peek(Ipa::new(ipa));
    let ipa = if has_mmu() {
        stage1().translate(pc, read)?
    } else {
        pc
    };
    let both = read(ipa & !7).map_err(Untranslated::Unread)?;
    Ok((both >> (8 * (ipa & 4))) as u32)
}

/// Whether the guest whose registers this CPU holds has its stage 1 on.
pub(super) fn has_mmu() -> bool {
    SCTLR_EL1.is_set(SCTLR_EL1::M)
}

/// The tables of the guest whose registers this CPU holds.
fn stage1() -> Stage1 {
    Stage1 {
        tcr: TCR_EL1.get(),
        tables: [TTBR0_EL1.get(), TTBR1_EL1.get()],
        big_endian: SCTLR_EL1.is_set(SCTLR_EL1::EE),
    }
}
