//! What the table manager needs of the hypervisor around it.
//!
//! Owns the traits through which frames, tables' memory, the TLB and the CPUs are reached. There
//! are no globals: the embedder that makes a [`Stage2`](crate::Stage2) hands it an [`Environment`].
//!
//! The traits are `unsafe` to implement, since the memory safety of all guests and of the
//! hypervisor rests on them; calling their methods is safe for all code: what only this crate may
//! ask for takes a value that only this crate makes ([`TableFrame`]).
//!
//! With a table lock held, or inside a read section, any of these calls may be made but those that
//! take or give frames ([`Frames::allocate_tables`], [`Frames::allocate_filled_table`],
//! [`Frames::free_tables`]) and those that let other threads run ([`Cpus::yield_now`],
//! [`Cpus::cond_resched`]).

use crate::addr::{ENTRIES, IpaRange, Level, PAGE_SHIFT, Pa};
use crate::flush::Published;
use crate::frame::GuestFrame;
use crate::grace::{CpuSlot, Grace};
use crate::meta::TableMeta;
use crate::observer::Observer;
use crate::sync::{Entry, Ordering};
use crate::vmid::{Vmid, VmidAllocator};
use core::ops::Deref;

/// The memory of one table: [`ENTRIES`] descriptors.
#[repr(C, align(4096))]
pub struct Table {
    pub(crate) entries: [Entry; ENTRIES],
}

impl Table {
    /// A table of empty entries. On hardware a zeroed frame is one already.
    #[cfg(not(any(loom, shuttle)))]
    // A value to begin with: each use makes a table.
    #[allow(clippy::declare_interior_mutable_const)]
    pub const EMPTY: Table = Table {
        entries: [const { Entry::new(0) }; ENTRIES],
    };

    /// A table of empty entries.
    #[cfg(any(loom, shuttle))]
    pub(crate) fn empty() -> Self {
        Self {
            entries: core::array::from_fn(|_| Entry::new(0)),
        }
    }
}

/// No frame is left. What the caller asked for was not done, and nothing else was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no frame is left")]
pub struct OutOfFrames;

/// A frame, or the first of several, that this crate got from [`Frames`] and has not given back.
///
/// Only this crate makes one, so nobody else can have a frame taken for a table, or freed:
///
/// ```compile_fail,E0308
/// # use stage2::{Environment, Frames, Stage2};
/// fn free_the_root<E: Environment>(vm: &Stage2<E>) {
///     vm.env().frames().free_tables(vm.root(), 0);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFrame(Pa);

impl TableFrame {
    #[inline(always)]
    pub(crate) const fn at(pa: Pa) -> Self {
        Self(pa)
    }

    /// Where it is.
    #[inline(always)]
    pub const fn pa(self) -> Pa {
        self.0
    }
}

/// Physical frames for tables, and what is known of them.
///
/// # Safety
///
/// - A frame from [`allocate_tables`](Self::allocate_tables) or
///   [`allocate_filled_table`](Self::allocate_filled_table) is the caller's alone until it is given
///   back. Those from the former are zero, adjacent, and aligned to their total size: what else
///   they held would be walked.
/// - [`table_meta`](Self::table_meta) returns the same metadata for a frame at all times, and
///   different metadata for different frames.
/// - [`holds_tables`](Self::holds_tables) overlooks no table.
pub unsafe trait Frames {
    /// Allocates `1 << order` adjacent frames, zeroed, aligned to their total size.
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames>;

    /// As [`allocate_tables`](Self::allocate_tables) of one frame, with any contents: the caller
    /// stores to every entry.
    fn allocate_filled_table(&self) -> Result<Pa, OutOfFrames> {
        self.allocate_tables(0)
    }

    /// Takes back frames from either call, which nobody can reach any more.
    fn free_tables(&self, first: TableFrame, order: u32);

    /// The metadata of the frame at `pa`; none when no frame of ours is there.
    fn table_meta(&self, pa: Pa) -> Option<&TableMeta>;

    /// Whether a table is among the frames that `frame` consists of: then it is not mapped,
    /// whatever its maker has promised. Asked each time that one is mapped.
    ///
    /// An allocator that itself sees to it that no frame is a table and a guest's at once need not
    /// look.
    #[inline]
    fn holds_tables(&self, frame: &GuestFrame) -> bool {
        let is_table = |pa| self.table_meta(pa).is_some_and(TableMeta::is_table);
        let pages = frame.level().size() >> PAGE_SHIFT;
        (0..pages).any(|index| is_table(frame.pa().offset(index << PAGE_SHIFT)))
    }
}

/// The way to the memory of a table: a linear map of all frames, or a temporary mapping.
///
/// # Safety
///
/// [`table`](Self::table) returns the memory of the frame and of nothing else.
pub unsafe trait TableWindow {
    /// Access to a table; what is mapped temporarily is unmapped when it is dropped.
    type Ref<'a>: Deref<Target = Table>
    where
        Self: 'a;

    /// The memory of a table.
    fn table(&self, table: TableFrame) -> Self::Ref<'_>;

    /// Stores `first`, `first + step` and so on to the entries of a table, which nobody but the
    /// caller can reach: so it need not be done by atomic stores.
    #[inline]
    fn fill(&self, table: TableFrame, first: u64, step: u64) {
        let mut value = first;
        for entry in &self.table(table).entries {
            entry.store(value, Ordering::Relaxed);
            value = value.wrapping_add(step);
        }
    }
}

/// A VM's tables on their way into VTTBR_EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The root, for VTTBR_EL2.BADDR.
    pub root: Pa,
    /// The VMID, for VTTBR_EL2.VMID.
    pub vmid: Vmid,
}

/// What an invalidation must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Leaf entries of this level. The hardware may be told so (last level only, TTL hint).
    Leaf(Level),
    /// Leaf entries of all levels.
    Leaves,
    /// Everything, the walk caches' copies of table descriptors included: no leaf hint.
    Tables,
}

/// Translation caches, and the hardware that fills them by walking the tables.
///
/// A walker is no CPU: what acquire, release and `dmb` order among CPUs it need not see in that
/// order. Only a DSB orders a store and a walk.
///
/// # Safety
///
/// - When [`publish`](Self::publish) returns, every walk that begins from then on, on whatever CPU,
///   finds what this CPU stored before the call; and no access of this CPU that follows the call,
///   loads included, has been made before that is so. In Arm's terms: `dsb ishst`.
/// - When [`finish_walks`](Self::finish_walks) returns, no walk is under way that this CPU began
///   for the guest which it has left: none reads the tables any more, stores a mark in them, or
///   caches what it found (Arm ARM, "Out-of-context translation regimes"). In Arm's terms: `dsb
///   nsh`, at EL2.
/// - When [`invalidate`](Self::invalidate) returns, no CPU uses a translation of `vmid` in `range`
///   that was made from a descriptor replaced before the [`Published`] that it is given, stage-1
///   translations combined with it included; every store that was made through such a translation
///   is visible, and every mark that a walk set by such a descriptor is in memory. In Arm's terms:
///   TLBI by IPA, `dsb ish`, `tlbi vmalle1is`, `dsb ish`, `isb` (Arm ARM, "TLB maintenance").
/// - [`invalidate_all`](Self::invalidate_all) does so for all VMIDs and all ranges: `dsb ishst`,
///   `tlbi alle1is`, `dsb ish`, `isb`.
/// - When [`load`](Self::load) returns, the walks that this CPU begins for guests are of the tables
///   that it was given, under that VMID, and nothing but `load` changes that. (What maintenance
///   loads for the moment are tables that translate nothing.) In Arm's terms: `msr vttbr_el2`,
///   `isb`.
pub unsafe trait Tlb {
    /// Makes descriptor writes before it what walks after it find.
    fn publish(&self);

    /// Waits for the walks that this CPU began before it left the guest.
    fn finish_walks(&self);

    /// Invalidates `range` of `vmid` on all CPUs and waits until that is done. Not called for a VM
    /// that no CPU was has [loaded](crate::Stage2::load) yet: it has no VMID.
    fn invalidate(&self, published: Published, vmid: Vmid, range: IpaRange, scope: Scope);

    /// Invalidates one leaf on this CPU only: for a fault on a descriptor that gained rights.
    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, scope: Scope);

    /// Invalidates everything of all guests on all CPUs and waits until that is done.
    fn invalidate_all(&self);

    /// Has this CPU translate for guests with these tables, or with none: tables that translate
    /// nothing, under VMID 0. The walks of what was loaded before have been
    /// [finished](Self::finish_walks).
    fn load(&self, tables: Option<Loaded>);
}

/// The CPUs, and how one of them waits.
///
/// # Safety
///
/// - [`slots`](Self::slots), [`grace`](Self::grace) and [`vmids`](Self::vmids) are the same at all
///   times, and for all [`Stage2`](crate::Stage2)s of the machine; [`current`](Self::current) is an
///   index into the slots, the one of the CPU that runs this and of no other, and
///   [`slot`](Self::slot) what is there.
/// - While a value of [`Pinned`](Self::Pinned) lives, the thread that has made it stays on its CPU,
///   and no other thread runs there. Interrupts may be taken: their handlers may look at tables and
///   change none.
pub unsafe trait Cpus {
    /// Keeps a thread on its CPU, and alone there, until it is dropped: every read section has one,
    /// and so has every lock. `()` where threads are not preempted.
    type Pinned<'c>
    where
        Self: 'c;

    /// Keeps the calling thread on its CPU. Called in pinned threads as well.
    fn pin(&self) -> Self::Pinned<'_>;

    /// This crate's memory of each CPU.
    fn slots(&self) -> &[CpuSlot];

    /// The grace periods of these CPUs: one for all users of the slots.
    fn grace(&self) -> &Grace;

    /// The VMIDs of these CPUs.
    fn vmids(&self) -> &VmidAllocator;

    /// The index of the CPU that runs this. The caller is pinned.
    fn current(&self) -> usize;

    /// This crate's memory of the CPU that runs this. The caller is pinned.
    #[inline]
    fn slot(&self) -> &CpuSlot {
        &self.slots()[self.current()]
    }

    /// Gives the CPU to another thread: the caller waits for one. Called with no lock held and
    /// outside read sections.
    fn yield_now(&self);

    /// Gives the CPU to another thread if one has waited long enough for it, and serves interrupts
    /// that are pending. Called where [`yield_now`](Self::yield_now) could be, between the steps of
    /// long work: of copying a region and of freeing all tables. A caller that changes long ranges
    /// cuts them up.
    fn cond_resched(&self) {
        self.yield_now();
    }
}

/// All that the table manager needs, in one place.
///
/// # Safety
///
/// [`frames`](Self::frames), [`window`](Self::window), [`tlb`](Self::tlb) and [`cpus`](Self::cpus)
/// each return the same part of the same machine at all times: what one call has allocated,
/// announced or locked the next one must find. So nobody makes one without promising that:
///
/// ```compile_fail,E0200
/// # use stage2::fake::{FakeCpus, FakeFrames, FakeMachine, FakeTlb};
/// # use stage2::Environment;
/// struct OneOfTwo([FakeMachine; 2]);
///
/// impl Environment for OneOfTwo {
/// #   type Frames = FakeFrames;
/// #   type TableWindow = FakeFrames;
/// #   type Tlb = FakeTlb;
/// #   type Cpus = FakeCpus;
/// #   type Observer = ();
///     fn cpus(&self) -> &FakeCpus {
///         self.0[std::process::id() as usize % 2].cpus()
///     }
/// #   fn frames(&self) -> &FakeFrames { self.0[0].frames() }
/// #   fn window(&self) -> &FakeFrames { self.0[0].window() }
/// #   fn tlb(&self) -> &FakeTlb { self.0[0].tlb() }
/// #   fn observer(&self) -> &() { &() }
/// }
/// ```
pub unsafe trait Environment: Sync {
    /// Where table frames come from.
    type Frames: Frames;
    /// How a table's memory is reached.
    type TableWindow: TableWindow;
    /// How translations are invalidated.
    type Tlb: Tlb;
    /// The CPUs.
    type Cpus: Cpus;
    /// Where what happens to the tables is traced to: `()` for nowhere, which costs nothing.
    type Observer: Observer;

    /// Table frames.
    fn frames(&self) -> &Self::Frames;
    /// Table memory.
    fn window(&self) -> &Self::TableWindow;
    /// Translation caches.
    fn tlb(&self) -> &Self::Tlb;
    /// The CPUs.
    fn cpus(&self) -> &Self::Cpus;
    /// The observer.
    fn observer(&self) -> &Self::Observer;
}

/// An environment is also what leads to one.
macro_rules! forward_environment {
    ($($(#[$when:meta])* $pointer:ty),* $(,)?) => {$(
        $(#[$when])*
        // SAFETY: the parts are those of the environment that the pointer leads to, which is the
        // same at all times.
        unsafe impl<E: Environment> Environment for $pointer
        where
            Self: Sync,
        {
            type Frames = E::Frames;
            type TableWindow = E::TableWindow;
            type Tlb = E::Tlb;
            type Cpus = E::Cpus;
            type Observer = E::Observer;

            #[inline(always)]
            fn frames(&self) -> &E::Frames {
                (**self).frames()
            }
            #[inline(always)]
            fn window(&self) -> &E::TableWindow {
                (**self).window()
            }
            #[inline(always)]
            fn tlb(&self) -> &E::Tlb {
                (**self).tlb()
            }
            #[inline(always)]
            fn cpus(&self) -> &E::Cpus {
                (**self).cpus()
            }
            #[inline(always)]
            fn observer(&self) -> &E::Observer {
                (**self).observer()
            }
        }
    )*};
}

forward_environment! {
    &E,
    #[cfg(feature = "alloc")] alloc::boxed::Box<E>,
    #[cfg(feature = "alloc")] alloc::sync::Arc<E>,
}
