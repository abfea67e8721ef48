//! The instructions of which TLB maintenance is made.

use super::tlbi::Operation;

/// The instructions of which TLB maintenance is made, at EL2 with HCR_EL2.E2H clear. An
/// implementation may do more beside, such as tracing each.
///
/// TLBIs work on the VMID in VTTBR_EL2. Those whose name says nothing else reach all CPUs of the
/// inner shareable domain.
///
/// # Safety
///
/// Each method executes the instruction that it is named after, and none of them anything else that
/// translates, or writes VTTBR_EL2.
pub unsafe trait Instructions {
    /// `dsb ishst`: descriptors stored before it are what walks after it find.
    fn dsb_ishst(&self);
    /// `dsb nshst`: the same for this CPU's walks.
    fn dsb_nshst(&self);
    /// `dsb ish`: invalidations before it are complete.
    fn dsb_ish(&self);
    /// `dsb nsh`: invalidations of this CPU before it, and walks that it has begun, are complete.
    fn dsb_nsh(&self);
    /// `isb`: what this CPU executes after it is fetched and translated anew.
    fn isb(&self);
    /// A TLBI of stage 2, of leaves only or not.
    fn tlbi(&self, operation: Operation, leaves: bool);
    /// `tlbi ipas2le1`, of this CPU, with this operand.
    fn tlbi_leaf_local(&self, operand: u64);
    /// `tlbi vmalle1is`: stage 1, and what was made of both stages.
    fn tlbi_stage1(&self);
    /// `tlbi vmalle1`: the same, of this CPU.
    fn tlbi_stage1_local(&self);
    /// `tlbi vmalls12e1`: both stages, of this CPU.
    fn tlbi_vmid_local(&self);
    /// `tlbi alle1is`: both stages, of all VMIDs.
    fn tlbi_all(&self);
    /// `ic ialluis`: instruction caches as a whole.
    fn ic_ialluis(&self);
    /// Reads VTTBR_EL2.
    fn vttbr(&self) -> u64;
    /// Writes VTTBR_EL2.
    fn set_vttbr(&self, value: u64);
}

/// Instructions that do nothing, for tests that run no guest.
#[cfg(all(test, not(any(loom, shuttle))))]
pub(super) struct Silent;

// SAFETY: there is no guest.
#[cfg(all(test, not(any(loom, shuttle))))]
unsafe impl Instructions for Silent {
    fn dsb_ishst(&self) {}
    fn dsb_nshst(&self) {}
    fn dsb_ish(&self) {}
    fn dsb_nsh(&self) {}
    fn isb(&self) {}
    fn tlbi(&self, _: Operation, _: bool) {}
    fn tlbi_leaf_local(&self, _: u64) {}
    fn tlbi_stage1(&self) {}
    fn tlbi_stage1_local(&self) {}
    fn tlbi_vmid_local(&self) {}
    fn tlbi_all(&self) {}
    fn ic_ialluis(&self) {}
    fn vttbr(&self) -> u64 {
        0
    }
    fn set_vttbr(&self, _: u64) {}
}
