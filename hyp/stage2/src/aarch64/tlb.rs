//! TLB maintenance for stage 2 (Arm ARM, "TLB maintenance").
//!
//! TLBI by IPA works on the VMID in VTTBR_EL2. For a VM that is not loaded on this CPU the register
//! is changed for the moment, with the root of tables that map nothing: whatever the CPU may walk
//! speculatively under that VMID meanwhile, it finds nothing to cache. Before the register changes,
//! the walks have ended that the CPU began before it left its guest: they go on at EL2, until a
//! DSB, and would take what they find for the other VM's (Arm ARM, "Out-of-context translation
//! regimes").

use super::abilities::Abilities;
use super::instructions::Instructions;
use super::sequence;
use super::tlbi;
use crate::addr::{Ipa, IpaRange, PAGE_SHIFT, Pa};
use crate::env::{Loaded, Scope, Tlb};
use crate::flush::Published;
use crate::vmid::Vmid;
use core::sync::atomic::AtomicU64;

/// The largest root that stage-2 tables can have: sixteen tables, aligned to their size.
#[repr(align(0x10000))]
struct EmptyRoot([AtomicU64; 0x10000 / 8]);

/// Tables that translate nothing. Never written; atomic so that it takes no room in an image.
static EMPTY_ROOT: EmptyRoot = EmptyRoot([const { AtomicU64::new(0) }; 0x10000 / 8]);

/// VTTBR_EL2 for a root and a VMID; for none, tables that translate nothing under VMID 0, which is
/// no guest's.
///
/// The latter takes for granted that this program's memory is at its own physical address, as stage
/// 1 of EL2 has it.
#[inline]
pub fn vttbr(tables: Option<Loaded>) -> u64 {
    match tables {
        Some(Loaded { root, vmid }) => u64::from(vmid.get()) << 48 | root.get(),
        None => EMPTY_ROOT.0.as_ptr() as u64,
    }
}

/// The TLBs and instruction caches of the inner shareable domain, which all CPUs are in.
#[derive(Clone, Copy, Debug)]
pub struct El2Tlb<I> {
    instructions: I,
    abilities: Abilities,
}

impl<I: Instructions> El2Tlb<I> {
    /// Maintenance by these instructions, on CPUs that can do so much.
    pub const fn new(instructions: I, abilities: Abilities) -> Self {
        Self {
            instructions,
            abilities,
        }
    }

    /// The instructions.
    #[cfg(all(test, not(loom)))]
    pub(super) fn into_instructions(self) -> I {
        self.instructions
    }

    /// Runs `maintain` with `vmid` in VTTBR_EL2.
    #[inline(always)]
    fn with_vmid(&self, vmid: Vmid, maintain: impl FnOnce()) {
        let loaded = self.instructions.vttbr();
        let switch = loaded >> 48 != u64::from(vmid.get());
        if switch {
            self.instructions.dsb_nsh();
            let root = Pa::new(vttbr(None));
            self.set_vttbr(vttbr(Some(Loaded { root, vmid })));
        }
        maintain();
        if switch {
            self.set_vttbr(loaded);
        }
    }

    #[inline(always)]
    fn set_vttbr(&self, value: u64) {
        self.instructions.set_vttbr(value);
        self.instructions.isb();
    }

    /// Invalidates one leaf at `ipa` on this CPU.
    // Always inline: after a fault that is most of what is left to do.
    #[inline(always)]
    pub fn invalidate_leaf_local(&self, vmid: Vmid, ipa: Ipa) {
        // One operation reaches the whole leaf.
        let operand = ipa.get() >> PAGE_SHIFT;
        self.with_vmid(vmid, || {
            self.instructions.dsb_nshst();
            self.instructions.tlbi_leaf_local(operand);
            self.instructions.dsb_nsh();
            self.instructions.tlbi_stage1_local();
            self.instructions.dsb_nsh();
            self.instructions.isb();
        });
    }

    /// Invalidates this CPU's stage-1 translations of the VMID in VTTBR_EL2, and what was made of
    /// both stages: when another vCPU of the same VM arrives.
    #[inline(always)]
    pub fn invalidate_stage1_local(&self) {
        self.instructions.tlbi_stage1_local();
        self.instructions.dsb_nsh();
        self.instructions.isb();
    }

    /// Invalidates all of this CPU's translations of the VMID in VTTBR_EL2: the answer to a TLB
    /// conflict abort.
    #[inline(always)]
    pub fn invalidate_vmid_local(&self) {
        self.instructions.tlbi_vmid_local();
        self.instructions.dsb_nsh();
        self.instructions.isb();
    }

    /// Empties the instruction caches of all CPUs, unless they follow the data caches: once, before
    /// the first guest runs, for what was executed from its memory before.
    pub fn invalidate_instruction_caches(&self) {
        sequence::invalidate_instruction_caches(
            &self.instructions,
            self.abilities.instructions_follow_data,
        );
    }

    /// As [`Tlb::load`], where it can be inlined.
    #[inline(always)]
    pub fn load_tables(&self, tables: Option<Loaded>) {
        self.set_vttbr(vttbr(tables));
    }

    /// As [`Tlb::finish_walks`], where it can be inlined.
    #[inline(always)]
    pub fn await_walks(&self) {
        self.instructions.dsb_nsh();
    }

    /// As [`Tlb::invalidate`], where it can be inlined.
    #[inline(always)]
    pub fn invalidate_range(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        let operations = tlbi::operations(range, scope, &self.abilities);
        let follow = self.abilities.instructions_follow_data;
        self.with_vmid(vmid, || {
            sequence::invalidate(&self.instructions, operations, scope, follow);
        });
    }

    /// As [`Tlb::invalidate_all`], where it can be inlined.
    #[inline(always)]
    pub fn invalidate_everything(&self) {
        sequence::invalidate_everything(
            &self.instructions,
            self.abilities.instructions_follow_data,
        );
    }
}

// SAFETY: the invalidations are the sequences that the trait asks for (see the tests of
// `sequence`), on the inner shareable domain that all CPUs are in; their operations reach all of
// the range (see those of `tlbi`). Nothing else than `load` writes VTTBR_EL2, but `with_vmid`,
// which loads an empty root and then again what was there.
unsafe impl<I: Instructions> Tlb for El2Tlb<I> {
    #[inline(always)]
    fn publish(&self) {
        self.instructions.dsb_ishst();
    }

    fn load(&self, tables: Option<Loaded>) {
        self.load_tables(tables);
    }

    #[inline]
    fn finish_walks(&self) {
        self.await_walks();
    }

    fn invalidate(&self, _: Published, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.invalidate_range(vmid, range, scope);
    }

    #[inline]
    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, _scope: Scope) {
        self.invalidate_leaf_local(vmid, range.start());
    }

    fn invalidate_all(&self) {
        self.invalidate_everything();
    }
}
