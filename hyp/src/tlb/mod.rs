//! EL2's TLBs and caches, for the table manager.
//!
//! What is executed, and in which order, is [`stage2::aarch64`]'s. Here is the choice between
//! executing it and tracing it as well, for a checker of recordings.

pub(crate) mod caches;
mod traced;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{VTCR_EL2, Writeable};
use arch::features::Features;
use platform::gic;
use stage2::aarch64::{Abilities, Cpu, El2Tlb, Instructions};
use stage2::vmid::Vmid;
use stage2::{IpaRange, Loaded, Pa, Published, Scope, Unreadable};
use trace::event::Register;

use crate::el2::recover;
use crate::tracing;
use traced::Traced;

/// Whether TLBs are left as they are when a new generation of VMIDs begins: a rule that is broken
/// on purpose.
static LEAVES_TLBS: AtomicBool = AtomicBool::new(false);

/// Leaves TLBs as they are when a new generation of VMIDs begins, from now on. For tests of the
/// checker of recordings.
pub(crate) fn break_rollover() {
    LEAVES_TLBS.store(true, Ordering::Relaxed);
}

/// EL2's TLBs and caches.
pub(crate) struct Hardware {
    plain: El2Tlb<Cpu>,
    force_write_back: bool,
    abilities: Abilities,
}

impl Hardware {
    pub(crate) fn new(features: &Features) -> Self {
        Self {
            plain: El2Tlb::new(Cpu, features.stage2),
            force_write_back: features.stage2.force_write_back,
            abilities: features.stage2,
        }
    }

    /// Empties the instruction caches of all CPUs, unless they follow the data caches by
    /// themselves.
    pub(crate) fn invalidate_instruction_caches(&self) {
        self.plain.invalidate_instruction_caches();
    }

    /// The same operations, traced.
    fn traced(&self) -> El2Tlb<Traced> {
        El2Tlb::new(Traced, self.abilities)
    }

    // Functions of their own, so that a caller that is not traced saves no registers for what they
    // call.

    #[cold]
    #[inline(never)]
    fn invalidate_range_traced(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.traced().invalidate_range(vmid, range, scope);
    }

    #[cold]
    #[inline(never)]
    fn invalidate_leaf_traced(&self, vmid: Vmid, range: IpaRange) {
        self.traced().invalidate_leaf_local(vmid, range.start());
    }
}

// What depends on no CPU's abilities.
const PLAIN: El2Tlb<Cpu> = El2Tlb::new(Cpu, Abilities::NONE);
const TRACED: El2Tlb<Traced> = El2Tlb::new(Traced, Abilities::NONE);

/// Drops this CPU's stage-1 translations of the VMID in VTTBR_EL2, and what was made of both
/// stages.
#[inline(always)]
pub(crate) fn invalidate_stage1() {
    if tracing::replays() {
        return invalidate_stage1_traced();
    }
    PLAIN.invalidate_stage1_local();
}

#[cold]
#[inline(never)]
fn invalidate_stage1_traced() {
    TRACED.invalidate_stage1_local();
}

/// Drops all of this CPU's translations of the VMID in VTTBR_EL2.
// A call, and not a cold one: else every exit's way back to the guest takes a register or a jump
// more.
#[inline(never)]
pub(crate) fn invalidate_vmid() {
    if tracing::replays() {
        TRACED.invalidate_vmid_local();
    } else {
        PLAIN.invalidate_vmid_local();
    }
}

/// Loads tables into VTTBR_EL2, or those that translate nothing: from here on the CPU may translate
/// with them.
fn load_tables(tables: Option<Loaded>) {
    if tracing::replays() {
        TRACED.load_tables(tables);
    } else {
        PLAIN.load_tables(tables);
    }
}

/// Gives this CPU's VTCR_EL2 its value for all guests, and VTTBR_EL2 tables that translate nothing.
pub(crate) fn init_translation(vtcr: u64) {
    if tracing::replays() {
        tracing::register(Register::Vtcr, vtcr);
    }
    VTCR_EL2.set(vtcr);
    load_tables(None);
}

// SAFETY: each call is that of `El2Tlb`, whose implementation answers for it, traced or not; but
// for `break_rollover`, after which guests are not kept apart.
unsafe impl stage2::Tlb for Hardware {
    // The table manager traces this one itself.
    #[inline]
    fn publish(&self) {
        Cpu.dsb_ishst();
    }

    fn load(&self, tables: Option<Loaded>) {
        load_tables(tables);
    }

    #[inline]
    fn finish_walks(&self) {
        if tracing::replays() {
            TRACED.await_walks();
        } else {
            PLAIN.await_walks();
        }
    }

    fn invalidate(&self, _: Published, vmid: Vmid, range: IpaRange, scope: Scope) {
        if tracing::replays() {
            self.invalidate_range_traced(vmid, range, scope);
        } else {
            self.plain.invalidate_range(vmid, range, scope);
        }
    }

    #[inline]
    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, _scope: Scope) {
        if tracing::replays() {
            self.invalidate_leaf_traced(vmid, range);
        } else {
            self.plain.invalidate_leaf_local(vmid, range.start());
        }
    }

    fn invalidate_all(&self) {
        if LEAVES_TLBS.load(Ordering::Relaxed) {
            return;
        }
        if tracing::replays() {
            self.traced().invalidate_everything();
        } else {
            self.plain.invalidate_everything();
        }
    }
}

impl memory::Hardware for Hardware {
    fn before_reading(&self, page: Pa) {
        if !self.force_write_back {
            caches::clean_and_invalidate(page);
        }
    }

    fn after_writing(&self, page: Pa) {
        if !self.force_write_back {
            caches::clean(page);
        }
    }

    fn is_interrupted(&self) -> bool {
        gic::is_pending()
    }

    unsafe fn load_word(&self, word: NonNull<u64>) -> Result<u64, Unreadable> {
        // SAFETY: as the caller promises.
        unsafe { recover::load(word) }
    }

    unsafe fn copy_page(&self, from: NonNull<u8>, to: NonNull<u8>) -> Result<(), Unreadable> {
        // SAFETY: as the caller promises.
        unsafe { recover::copy_page(from, to) }
    }
}
