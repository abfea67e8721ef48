//! One VM's stage-2 tables.
//!
//! Owns [`Stage2`]: the root, the shape and the VMID. The operations are in modules of
//! their own, one a subject; this file has what they share: entering a read section, flushing,
//! waiting, and repairing a bad entry.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, PAGE_SHIFT, Pa};
use crate::descriptor::{Descriptor, Format, LeafFormat, Marker, Operation};
use crate::env::{Cpus, Environment, Frames, Loaded, OutOfFrames, Scope, TableFrame, Tlb};
use crate::flush::{Flushed, Published, Stale};
use crate::geometry::Geometry;
use crate::grace::CpuSlot;
use crate::lookup::{Reader, Stopped};
use crate::meta::Owner;
use crate::observer::{Observation, Observer, Topic};
use crate::stats::Counter;
use crate::vmid::{Vmid, VmidCell};
use core::fmt;

/// What a VM's tables are like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Their shape.
    pub geometry: Geometry,
    /// The descriptor format.
    pub format: Format,
    /// Whom the table frames belong to; no other VM may have the same while this one lives.
    pub owner: Owner,
    /// FEAT_BBM level 2 is present, and a TLB conflict abort is answered by an invalidation: a
    /// block and a table of the same addresses may replace each other without a break
    /// (Arm ARM, "Support levels for changing table or block size").
    pub direct_size_change: bool,
}

/// One VM's stage-2 tables, which any number of CPUs change at once.
///
/// There is no lock for the whole: each table has its own. All operations take `&self` and are safe
/// against each other; only [`destroy`](Self::destroy) takes the value, so it cannot be called
/// while a thread may still arrive:
///
/// ```compile_fail,E0505
/// # use stage2::{Environment, Stage2, Ipa};
/// fn destroy_under_a_walker<E: Environment>(stage2: Stage2<E>) {
///     let reader = stage2.read();
///     let _ = stage2.destroy(|_| {});
///     reader.root(Ipa::new(0));
/// }
/// ```
pub struct Stage2<E: Environment> {
    env: E,
    config: Config,
    format: LeafFormat,
    root: Pa,
    vmid: VmidCell,
}

impl<E: Environment> fmt::Debug for Stage2<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage2")
            .field("config", &self.config)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl<E: Environment> Stage2<E> {
    /// Empty tables for a new VM.
    pub fn new(env: E, config: Config) -> Result<Self, OutOfFrames> {
        let order = config.geometry.root_order();
        let root = env.frames().allocate_tables(order)?;
        for index in 0..1u64 << order {
            // A frame that was just allocated has metadata.
            if let Some(meta) = env.frames().table_meta(root.offset(index << PAGE_SHIFT)) {
                meta.become_table(config.owner, config.geometry.start(), 0);
            }
        }
        let stage2 = Self {
            env,
            config,
            format: LeafFormat::new(config.format),
            root,
            vmid: VmidCell::new(),
        };
        stage2.trace_root();
        // The zeroed root is complete before VTTBR_EL2 can name it.
        stage2.publish();
        Ok(stage2)
    }

    fn trace_root(&self) {
        let level = self.geometry().start();
        let covered = level.size() * ENTRIES as u64;
        for index in 0..1u64 << self.geometry().root_order() {
            self.trace_protocol(|order| Observation::TableMade {
                order,
                table: self.root.offset(index << PAGE_SHIFT),
                level,
                root: Some(Ipa::new(index * covered)),
            });
        }
    }

    /// Where the root is, for VTTBR_EL2.BADDR.
    #[inline]
    pub fn root(&self) -> Pa {
        self.root
    }

    /// The shape.
    #[inline]
    pub fn geometry(&self) -> Geometry {
        self.config.geometry
    }

    /// Has the CPU that runs this translate for guests with the VM's tables from now on, and
    /// returns the VMID under which it does: called at EL2, before the VM is entered, whatever else
    /// was loaded there since it last was.
    ///
    /// Until a VM was loaded for the first time it has no VMID, no CPU can have a translation of
    /// it, and nothing is invalidated for it.
    ///
    /// # Panics
    ///
    /// When there are not two VMIDs more than CPUs, the first time that a VM is loaded: number 0 is
    /// no guest's, each CPU may keep one in a change of generation, and one must be left.
    #[inline]
    pub fn load(&self) -> Vmid {
        let _pinned = self.env.cpus().pin();
        let cpu = self.env.cpus().current();
        let (vmid, root) = (self.activate(cpu), self.root);
        self.env.tlb().load(Some(Loaded { root, vmid }));
        self.env.cpus().slot().vmid.set_loaded(Some(root));
        vmid
    }

    /// The VMID under which the CPU of this index is about to run the VM.
    #[inline]
    pub(crate) fn activate(&self, cpu: usize) -> Vmid {
        let (cpus, tlb) = (self.env.cpus(), self.env.tlb());
        cpus.vmids().activate(tlb, cpus.slots(), cpu, &self.vmid)
    }

    /// A CPU whose VTTBR_EL2 names the VM's tables, if there is one.
    pub(crate) fn loaded_on(&self) -> Option<usize> {
        let has_loaded = |slot: &CpuSlot| slot.vmid.has_loaded(self.root);
        self.env.cpus().slots().iter().position(has_loaded)
    }

    /// The environment.
    #[inline]
    pub fn env(&self) -> &E {
        &self.env
    }

    /// Enters a read section, from which tables can be looked at. Sections nest, in interrupt
    /// handlers as well.
    ///
    /// While it lasts, no call is made on this CPU that changes tables: that is a panic (see
    /// [`embedding`](crate::embedding)).
    #[inline]
    pub fn read(&self) -> Reader<'_, E> {
        Reader::new(self)
    }

    /// Enters a read section for changing what is found: the first of this CPU.
    ///
    /// # Panics
    ///
    /// Inside a read section. So a thread that changes tables holds no lock of any, and can wait.
    #[inline(always)]
    pub(crate) fn change(&self) -> Reader<'_, E> {
        Reader::first(self)
    }

    /// Makes sure that the caller may wait, before anything is changed.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    #[inline]
    pub(crate) fn may_wait(&self) {
        let _pinned = self.env.cpus().pin();
        self.env.cpus().slot().assert_outside();
    }

    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        self.config.owner
    }

    #[inline]
    pub(crate) fn format(&self) -> LeafFormat {
        self.format
    }

    #[inline]
    pub(crate) fn direct_size_change(&self) -> bool {
        self.config.direct_size_change
    }

    /// Whether all of `range` is an address of the guest.
    #[inline]
    pub(crate) fn contains(&self, range: IpaRange) -> bool {
        self.geometry().range().covers(&range)
    }

    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.count_many(counter, 1);
    }

    #[inline]
    pub(crate) fn count_many(&self, counter: Counter, n: u64) {
        let _pinned = self.env.cpus().pin();
        self.env.cpus().slot().counters.add(counter, n);
    }

    /// A marker that no one else has.
    #[inline]
    pub(crate) fn marker(&self, operation: Operation) -> Marker {
        let cpus = self.env.cpus();
        let _pinned = cpus.pin();
        let cpu = cpus.current();
        Marker::new(operation, cpus.slot().next_ticket(cpu))
    }

    /// Invalidates on all CPUs what changed entries have left behind.
    #[inline]
    pub(crate) fn flush(&self, stale: Stale) -> Flushed {
        let published = self.publish();
        // No number: every walk of the VM's tables begins later, and finds the changed entries.
        if let Some(vmid) = self.vmid.number(&published) {
            self.count(Counter::Invalidations);
            let tlb = self.env.tlb();
            tlb.invalidate(published, vmid, stale.range, stale.scope);
            self.trace(Topic::Invalidations, move || Observation::Invalidated {
                range: stale.range,
                scope: stale.scope,
            });
        }
        Flushed::new()
    }

    /// Invalidates one leaf on this CPU, after a fault on an entry that gives more than it did.
    #[inline(always)]
    pub(crate) fn flush_local(&self, published: &Published, ipa: Ipa, level: Level) {
        if let Some(vmid) = self.vmid.number(published) {
            let range = IpaRange::entry(ipa, level);
            self.env
                .tlb()
                .invalidate_local(vmid, range, Scope::Leaf(level));
        }
    }

    /// Makes filled entries visible to table walks.
    #[inline(always)]
    pub(crate) fn publish(&self) -> Published {
        let published = Published::by(self.env.tlb());
        if self.env.observer().traces(Topic::Protocol) {
            self.trace_publishing();
        }
        published
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn trace_publishing(&self) {
        self.trace_protocol(|order| Observation::Published { order });
    }

    /// Waits for the operation whose marker is in the way. The caller holds no lock and is in no
    /// read section.
    pub(crate) fn wait(&self) {
        self.count(Counter::BusyWaits);
        self.env.cpus().yield_now();
    }

    /// Clears the bad entry at which a walk for `ipa` stopped, so that nobody can loop on it.
    pub(crate) fn clear_bad(&self, stopped: Stopped<'_, E>, ipa: Ipa, bad: Descriptor) {
        let Ok(mut table) = stopped.holder.lock() else {
            return;
        };
        let index = ipa.index(table.level());
        if table.get(index) == bad {
            let _ = self.flush(table.clear_bad(index));
        }
    }

    /// The tables that are reached from here alone, freed: only for the last user.
    pub(crate) fn free_root(&self) {
        let order = self.geometry().root_order();
        for index in 0..1u64 << order {
            let table = self.root.offset(index << PAGE_SHIFT);
            if let Some(meta) = self.env.frames().table_meta(table) {
                meta.cease_to_be_table();
                self.trace_protocol(|order| Observation::TableEnded { order, table });
            }
        }
        self.env
            .frames()
            .free_tables(TableFrame::at(self.root), order);
    }
}

/// Has the CPU that runs this translate with no VM's tables any more, so that they can be
/// [destroyed](Stage2::destroy).
pub fn unload<E: Environment>(env: &E) {
    let _pinned = env.cpus().pin();
    env.tlb().finish_walks();
    env.tlb().load(None);
    env.cpus().slot().vmid.set_loaded(None);
}

/// The address of the entry behind the one that covers `ipa`.
#[inline]
pub(crate) fn next_entry(ipa: Ipa, level: Level) -> Ipa {
    ipa.align_down(level).offset(level.size())
}
