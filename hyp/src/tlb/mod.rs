//! TLB maintenance for stage 2 (Arm ARM, "TLB maintenance").
//!
//! TLBI by IPA works on the VMID in VTTBR_EL2. For a VM that is not loaded on this CPU the register is
//! changed for the moment, with the root of tables that map nothing: whatever the CPU may walk
//! speculatively under that VMID meanwhile, it finds nothing to cache. Before the register changes, the walks
//! have ended that the CPU began before it left its guest: they go on at EL2, until a DSB, and would take what they
//! find for the other VM's (Arm ARM, "Out-of-context translation regimes").
//!
//! In which order is said, and tested, by [`arch::flush`]; here are the instructions.

pub(crate) mod caches;

use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{Readable, VTCR_EL2, VTTBR_EL2, Writeable};
use arch::features::Features;
use arch::flush::{self, Instructions};
use arch::tlbi::{self, Abilities, Operation};
use platform::gic;
use stage2::vmid::Vmid;
use stage2::{Geometry, Ipa, IpaRange, Loaded, Pa, Published, Scope, Unreadable};
use trace::event::{Barrier, Register, Tlbi};

use crate::el2::recover;
use crate::tracing;

/// The largest root that stage-2 tables can have: sixteen tables, aligned to their size.
#[repr(align(0x10000))]
struct EmptyRoot([AtomicU64; 0x10000 / 8]);

/// Tables that translate nothing. Never written; atomic so that it takes no room in the image.
static EMPTY_ROOT: EmptyRoot = EmptyRoot([const { AtomicU64::new(0) }; 0x10000 / 8]);

/// VTTBR_EL2 for when no guest is on the CPU: tables that translate nothing, under VMID 0, which is
/// no guest's.
fn vttbr_of_nothing() -> u64 {
    EMPTY_ROOT.0.as_ptr() as u64
}

/// Whether TLBs are left as they are when a new generation of VMIDs begins: a rule that is broken on purpose.
static LEAVES_TLBS: AtomicBool = AtomicBool::new(false);

/// Leaves TLBs as they are when a new generation of VMIDs begins, from now on. For tests of the checker of recordings.
pub(crate) fn break_rollover() {
    LEAVES_TLBS.store(true, Ordering::Relaxed);
}

/// EL2's TLBs and caches.
pub(crate) struct Hardware {
    abilities: Abilities,
    features: &'static Features,
}

impl Hardware {
    pub(crate) fn new(features: &'static Features) -> Self {
        Self {
            abilities: Abilities {
                range: features.range_tlbi,
                level_hint: features.ttl,
            },
            features,
        }
    }

    /// Runs `maintain` with `vmid` in VTTBR_EL2.
    fn with_vmid<const TRACED: bool>(vmid: Vmid, maintain: impl FnOnce()) {
        let loaded = VTTBR_EL2.get();
        let switch = loaded >> 48 != u64::from(vmid.get());
        if switch {
            finish_walks::<TRACED>();
            set_vttbr::<TRACED>(vttbr(Pa::new(vttbr_of_nothing()), vmid));
        }
        maintain();
        if switch {
            set_vttbr::<TRACED>(loaded);
        }
    }

    #[inline(always)]
    fn invalidate_range<const TRACED: bool>(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        let operations = tlbi::operations(range, scope, self.abilities);
        let follow = self.features.instructions_follow_data;
        Self::with_vmid::<TRACED>(vmid, || {
            flush::invalidate(&Inner::<TRACED>, operations, scope, follow);
        });
    }

    #[inline(always)]
    fn invalidate_leaf<const TRACED: bool>(vmid: Vmid, leaf: Ipa) {
        let operand = leaf.get() >> stage2::PAGE_SHIFT;
        Self::with_vmid::<TRACED>(vmid, || {
            if TRACED {
                tracing::barrier(Barrier::DsbNshst);
                trace_tlbi::<TRACED>(Tlbi::Ipas2le1, operand);
                tracing::barrier(Barrier::DsbNsh);
                trace_tlbi::<TRACED>(Tlbi::Vmalle1, 0);
            }
            // SAFETY: as in `by_ipa`. One operation reaches the whole leaf.
            unsafe {
                asm!(
                    "dsb nshst",
                    "tlbi ipas2le1, {}",
                    "dsb nsh",
                    "tlbi vmalle1",
                    "dsb nsh",
                    "isb",
                    in(reg) operand,
                    options(nostack, preserves_flags)
                )
            }
            if TRACED {
                tracing::barrier(Barrier::DsbNsh);
                tracing::barrier(Barrier::Isb);
            }
        });
    }

    // Functions of their own, so that a caller that is not watched saves no registers for what they call.

    #[cold]
    #[inline(never)]
    fn invalidate_range_traced(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.invalidate_range::<true>(vmid, range, scope);
    }

    #[cold]
    #[inline(never)]
    fn invalidate_leaf_traced(vmid: Vmid, leaf: Ipa) {
        Self::invalidate_leaf::<true>(vmid, leaf);
    }
}

// What follows tells a checker what it does, if `TRACED`; see `trace::replay` for the moment at which each
// gets its number.

/// Waits for the walks that this CPU began before it left the guest.
#[inline(always)]
fn finish_walks<const TRACED: bool>() {
    barrier::dsb(barrier::NSH);
    if TRACED {
        tracing::barrier(Barrier::DsbNsh);
    }
}

/// Writes VTTBR_EL2, and lets what follows see it.
fn set_vttbr<const TRACED: bool>(value: u64) {
    if TRACED {
        tracing::register(Register::Vttbr, value);
    }
    VTTBR_EL2.set(value);
    isb::<TRACED>();
}

/// Lets what follows see what system registers were given.
fn isb<const TRACED: bool>() {
    barrier::isb(barrier::SY);
    if TRACED {
        tracing::barrier(Barrier::Isb);
    }
}

fn trace_tlbi<const TRACED: bool>(tlbi: Tlbi, operand: u64) {
    if TRACED {
        tracing::tlbi(tlbi, operand, VTTBR_EL2.get());
    }
}

/// The instructions, on the inner shareable domain that all CPUs are in.
struct Inner<const TRACED: bool>;

impl<const TRACED: bool> Instructions for Inner<TRACED> {
    #[inline(always)]
    fn dsb_ishst(&self) {
        barrier::dsb(barrier::ISHST);
        if TRACED {
            tracing::barrier(Barrier::DsbIshst);
        }
    }

    #[inline(always)]
    fn dsb_ish(&self) {
        barrier::dsb(barrier::ISH);
        if TRACED {
            tracing::barrier(Barrier::DsbIsh);
        }
    }

    #[inline(always)]
    fn isb(&self) {
        isb::<TRACED>();
    }

    #[inline(always)]
    fn tlbi(&self, operation: Operation, leaves: bool) {
        trace_operation::<TRACED>(operation, leaves);
        by_ipa(operation, leaves);
    }

    #[inline(always)]
    fn tlbi_stage1(&self) {
        trace_tlbi::<TRACED>(Tlbi::Vmalle1is, 0);
        // SAFETY: invalidating TLB entries changes no memory.
        unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn tlbi_all(&self) {
        trace_tlbi::<TRACED>(Tlbi::Alle1is, 0);
        // SAFETY: as above.
        unsafe { asm!("tlbi alle1is", options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn ic_ialluis(&self) {
        if TRACED {
            tracing::fetches_invalidated();
        }
        // SAFETY: emptying instruction caches changes nothing but time.
        unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) };
    }
}

/// Drops this CPU's stage-1 translations of the VMID in VTTBR_EL2, and what was made of both stages.
#[inline(always)]
pub(crate) fn invalidate_stage1() {
    if tracing::replays() {
        return invalidate_traced(Tlbi::Vmalle1, invalidate_stage1_untraced);
    }
    invalidate_stage1_untraced();
}

/// Drops all of this CPU's translations of the VMID in VTTBR_EL2.
// A call, and not a cold one: else every exit's way back to the guest takes a register or a jump more.
#[inline(never)]
pub(crate) fn invalidate_vmid() {
    if tracing::replays() {
        return invalidate_traced(Tlbi::Vmalls12e1, invalidate_vmid_untraced);
    }
    invalidate_vmid_untraced();
}

#[inline(always)]
fn invalidate_stage1_untraced() {
    // SAFETY: The operation only drops cached translations of EL1 and EL0.
    unsafe {
        asm!(
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        );
    }
}

#[inline(always)]
fn invalidate_vmid_untraced() {
    // SAFETY: as above.
    unsafe {
        asm!(
            "tlbi vmalls12e1",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        );
    }
}

/// Has `invalidate` execute `tlbi`, a DSB and an ISB, and traces them.
#[cold]
#[inline(never)]
fn invalidate_traced(tlbi: Tlbi, invalidate: fn()) {
    trace_tlbi::<true>(tlbi, 0);
    invalidate();
    tracing::barrier(Barrier::DsbNsh);
    tracing::barrier(Barrier::Isb);
}

/// Loads this value into VTTBR_EL2: from here on the CPU may translate with the tables that it names.
fn load_tables(vttbr: u64) {
    if tracing::replays() {
        set_vttbr::<true>(vttbr);
    } else {
        set_vttbr::<false>(vttbr);
    }
}

/// Gives this CPU's VTCR_EL2 its value for all guests, and VTTBR_EL2 tables that translate nothing.
pub(crate) fn init_translation(vtcr: u64) {
    if tracing::replays() {
        tracing::register(Register::Vtcr, vtcr);
    }
    VTCR_EL2.set(vtcr);
    load_tables(vttbr_of_nothing());
}

/// VTTBR_EL2 for a root and a VMID.
fn vttbr(root: Pa, vmid: Vmid) -> u64 {
    u64::from(vmid.get()) << 48 | root.get()
}

/// VTCR_EL2 for tables of this shape, with all that the CPUs can do.
pub(crate) fn vtcr(geometry: Geometry, features: &Features) -> u64 {
    let physical_size = match features.table_pa_bits() {
        0..36 => 0,
        36..40 => 1,
        40..42 => 2,
        42..44 => 3,
        44..48 => 4,
        _ => 5,
    };
    let fields = VTCR_EL2::PS.val(physical_size)
        + VTCR_EL2::TG0::Granule4KB
        + VTCR_EL2::SH0::Inner
        + VTCR_EL2::ORGN0::NormalWBRAWA
        + VTCR_EL2::IRGN0::NormalWBRAWA
        + VTCR_EL2::VS.val(u64::from(features.vmid_bits == 16))
        + VTCR_EL2::HA.val(u64::from(features.hardware_access_flag))
        + VTCR_EL2::HD.val(u64::from(features.hardware_dirty_state));
    // Bit 31 is RES1.
    geometry.vtcr() | fields.value | 1 << 31
}

#[inline(always)]
fn by_ipa(operation: Operation, leaves: bool) {
    // SAFETY: invalidating TLB entries changes no memory; the operands are encoded as the
    // instructions want them, and ranges are used only where FEAT_TLBIRANGE is present. The
    // range forms are written as SYS, since the assembler takes their names from Armv8.4 on.
    unsafe {
        match (operation, leaves) {
            (Operation::Single(x), true) => {
                asm!("tlbi ipas2le1is, {}", in(reg) x, options(nostack, preserves_flags))
            }
            (Operation::Single(x), false) => {
                asm!("tlbi ipas2e1is, {}", in(reg) x, options(nostack, preserves_flags))
            }
            (Operation::Range(x), true) => {
                asm!("sys #4, c8, c0, #6, {}", in(reg) x, options(nostack, preserves_flags))
            }
            (Operation::Range(x), false) => {
                asm!("sys #4, c8, c0, #2, {}", in(reg) x, options(nostack, preserves_flags))
            }
            (Operation::All, _) => {
                asm!("tlbi vmalls12e1is", options(nostack, preserves_flags))
            }
        }
    }
}

fn trace_operation<const TRACED: bool>(operation: Operation, leaves: bool) {
    let (tlbi, operand) = match (operation, leaves) {
        (Operation::Single(x), true) => (Tlbi::Ipas2le1is, x),
        (Operation::Single(x), false) => (Tlbi::Ipas2e1is, x),
        (Operation::Range(x), true) => (Tlbi::Ripas2le1is, x),
        (Operation::Range(x), false) => (Tlbi::Ripas2e1is, x),
        (Operation::All, _) => (Tlbi::Vmalls12e1is, 0),
    };
    trace_tlbi::<TRACED>(tlbi, operand);
}

/// Empties the instruction caches of all CPUs, unless they follow the data caches by themselves.
pub(crate) fn invalidate_instruction_caches(features: &Features) {
    flush::invalidate_instruction_caches(&Inner::<false>, features.instructions_follow_data);
}

// SAFETY: the invalidations are the sequences that the trait asks for (see the tests of `arch::flush`), on the inner
// shareable domain that all CPUs are in; their operations reach all of the range (see those of `arch::tlbi`). Nothing
// else than `load` writes VTTBR_EL2, but `with_vmid`, which loads an empty root and then again what was there.
unsafe impl stage2::Tlb for Hardware {
    // The table manager tells of this one itself.
    #[inline]
    fn publish(&self) {
        barrier::dsb(barrier::ISHST);
    }

    fn load(&self, tables: Option<Loaded>) {
        load_tables(
            tables.map_or_else(vttbr_of_nothing, |Loaded { root, vmid }| vttbr(root, vmid)),
        );
    }

    #[inline]
    fn finish_walks(&self) {
        if tracing::replays() {
            finish_walks::<true>();
        } else {
            finish_walks::<false>();
        }
    }

    fn invalidate(&self, _: Published, vmid: Vmid, range: IpaRange, scope: Scope) {
        if tracing::replays() {
            self.invalidate_range_traced(vmid, range, scope);
        } else {
            self.invalidate_range::<false>(vmid, range, scope);
        }
    }

    #[inline]
    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, _scope: Scope) {
        if tracing::replays() {
            Self::invalidate_leaf_traced(vmid, range.start());
        } else {
            Self::invalidate_leaf::<false>(vmid, range.start());
        }
    }

    fn invalidate_all(&self) {
        if LEAVES_TLBS.load(Ordering::Relaxed) {
            return;
        }
        let follow = self.features.instructions_follow_data;
        if tracing::replays() {
            flush::invalidate_everything(&Inner::<true>, follow);
        } else {
            flush::invalidate_everything(&Inner::<false>, follow);
        }
    }
}

impl memory::Hardware for Hardware {
    fn before_reading(&self, page: Pa) {
        if !self.features.forced_write_back {
            caches::clean_and_invalidate(page);
        }
    }

    fn after_writing(&self, page: Pa) {
        if !self.features.forced_write_back {
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
