//! Translation caches that forget nothing unless they are told to.
//!
//! Each CPU caches leaves and, apart from them, table descriptors (the walk cache), by VMID. An
//! invalidation takes away exactly what the architecture says it does: with a leaf hint no table
//! descriptor, with a level hint leaves of that level alone. A walk that finds something at odds
//! with what is cached is a broken break-before-make, and a panic. At reset the caches are full of
//! rubbish.

use super::Setup;
#[cfg(any(loom, shuttle))]
use super::Walks;
use super::cpus;
#[cfg(any(loom, shuttle))]
use super::memory::{Completed, View};
use crate::addr::{Ipa, IpaRange, Level, Pa};
use crate::descriptor::{Attributes, Descriptor, DirtyState, Format, LeafFormat};
use crate::env::{Loaded, Scope, Tlb};
use crate::flush::Published;
use crate::sync::{Lock, LockGuard, Ordering, fence};
use crate::vmid::Vmid;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a descriptor was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) table: Pa,
    pub(super) life: u64,
    pub(super) index: usize,
}

/// What a cached descriptor is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// It maps memory; it was read here.
    Leaf(Place),
    /// It maps memory, and was read nowhere.
    Rubbish,
    /// It names a table, which was in this life.
    Table(u64),
}

/// A descriptor that a CPU has cached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    pub(super) vmid: Vmid,
    pub(super) range: IpaRange,
    pub(super) level: Level,
    pub(super) descriptor: Descriptor,
    pub(super) usage: Use,
}

impl Cached {
    fn is_leaf(&self) -> bool {
        !matches!(self.usage, Use::Table(_))
    }

    /// Where a leaf maps `ipa`.
    pub(super) fn translate(&self, ipa: Ipa) -> Pa {
        let offset = ipa.get() - self.range.start().get();
        self.descriptor.output().offset(offset)
    }

    fn serves(&self, vmid: Vmid, ipa: Ipa) -> bool {
        self.vmid == vmid && self.range.covers(&IpaRange::entry(ipa, Level::L3))
    }
}

/// The translations that one CPU has cached.
pub(super) struct CpuTlb(Vec<Cached>);

impl CpuTlb {
    pub(super) fn leaf(&self, vmid: Vmid, ipa: Ipa) -> Option<Cached> {
        let serves = |cached: &&Cached| cached.is_leaf() && cached.serves(vmid, ipa);
        self.0.iter().find(serves).copied()
    }

    /// The cached table descriptors by which a walk for `ipa` may begin.
    pub(super) fn tables(&self, vmid: Vmid, ipa: Ipa) -> impl Iterator<Item = Cached> {
        let serves = move |cached: &&Cached| !cached.is_leaf() && cached.serves(vmid, ipa);
        self.0.iter().filter(serves).copied()
    }

    /// Caches what a walk has found. `direct` allows a change of size without a break.
    pub(super) fn learn(&mut self, new: Cached, direct: bool) {
        for old in self.0.iter().filter(|old| old.vmid == new.vmid) {
            assert!(
                !old.range.overlaps(&new.range) || agree(old, &new, direct),
                "break-before-make was not kept: {old:?} is still cached, and a walk found {new:?}"
            );
        }
        let same = |old: &Cached| {
            old.vmid == new.vmid && old.range == new.range && old.is_leaf() == new.is_leaf()
        };
        self.0.retain(|old| !same(old));
        self.0.push(new);
    }

    fn invalidate(&mut self, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.0.retain(|cached| {
            let reached = match scope {
                Scope::Leaf(level) => cached.is_leaf() && cached.level == level,
                Scope::Leaves => cached.is_leaf(),
                Scope::Tables => true,
            };
            !(reached && cached.vmid == vmid && cached.range.overlaps(&range))
        });
    }

    /// What a TLB may hold after a reset: under each of the first numbers that a guest can get,
    /// blocks of memory that is nobody's.
    fn rubbish(level: Level) -> Vec<Cached> {
        const NUMBERS: u16 = 8;
        let block = |vmid, range: IpaRange| Cached {
            vmid: Vmid::new(vmid),
            range,
            level,
            descriptor: Descriptor::leaf(
                LeafFormat::new(Format::default()),
                level,
                Pa::new(0),
                Attributes::RAM,
                DirtyState::Dirty,
            ),
            usage: Use::Rubbish,
        };
        let range = |index| IpaRange::entry(Ipa::new(index * level.size()), level);
        (1..=NUMBERS)
            .flat_map(|vmid| [0, 1].map(|index| block(vmid, range(index))))
            .collect()
    }
}

/// Whether two descriptors of overlapping ranges may be cached at once (Arm ARM, "TLB maintenance":
/// break-before-make and the levels of FEAT_BBM).
fn agree(a: &Cached, b: &Cached, direct: bool) -> bool {
    match (a.is_leaf(), b.is_leaf()) {
        (true, true) => {
            let shared = a.range.start().max(b.range.start());
            a.translate(shared) == b.translate(shared)
                && a.descriptor.memory() == b.descriptor.memory()
                && (a.level == b.level || direct)
        }
        (false, false) => a.level != b.level || a.descriptor == b.descriptor,
        (true, false) => a.level > b.level || direct,
        (false, true) => b.level > a.level || direct,
    }
}

/// VTTBR_EL2 of a CPU: what its walker may walk at any moment.
#[derive(Clone, Copy, Default)]
struct Vttbr {
    loaded: Option<Loaded>,
    /// What was loaded before, and may still be walked: nobody has waited for that to end.
    lingers: Option<Loaded>,
}

/// The translation caches of all CPUs of a [`FakeMachine`](super::FakeMachine), and what their
/// walkers find.
pub struct FakeTlb {
    cpus: Box<[Lock<CpuTlb>]>,
    vttbr: Box<[Mutex<Vttbr>]>,
    /// None where walkers are never late.
    #[cfg(any(loom, shuttle))]
    completed: Option<Completed>,
}

impl FakeTlb {
    pub(super) fn new(setup: &Setup) -> Self {
        let rubbish = CpuTlb::rubbish(setup.start.max(Level::L1));
        let cpu = |_| Lock::new(CpuTlb(rubbish.clone()));
        Self {
            cpus: (0..setup.cpus).map(cpu).collect(),
            vttbr: (0..setup.cpus).map(|_| Mutex::default()).collect(),
            #[cfg(any(loom, shuttle))]
            completed: (setup.walks != Walks::Newest).then(|| Completed::new(setup.cpus)),
        }
    }

    /// One CPU's cache. The thread that holds it is in the middle of an access: an invalidation
    /// waits until the access is done, as DSB does.
    pub(super) fn of(&self, cpu: usize) -> LockGuard<'_, CpuTlb> {
        self.cpus[cpu].lock()
    }

    /// What VTTBR_EL2 of this CPU has loaded. The thread that asks holds the CPU's cache.
    pub(super) fn loaded(&self, cpu: usize) -> Option<Loaded> {
        self.vttbr(cpu).loaded
    }

    /// What a walk of this CPU may be in: what is loaded, or what was before. The thread that asks
    /// holds the cache.
    pub(super) fn walked(&self, cpu: usize) -> Option<Loaded> {
        let vttbr = self.vttbr(cpu);
        vttbr.lingers.or(vttbr.loaded)
    }

    /// No walk of this CPU goes on, and none begins before VTTBR_EL2 is written.
    pub(super) fn end_walks(&self, cpu: usize) {
        self.set_vttbr(cpu, |_| Vttbr::default());
    }

    fn write_vttbr(&self, cpu: usize, tables: Option<Loaded>) {
        self.set_vttbr(cpu, |old| Vttbr {
            loaded: tables,
            lingers: old.lingers.or(old.loaded.filter(|_| old.loaded != tables)),
        });
    }

    fn set_vttbr(&self, cpu: usize, change: impl FnOnce(Vttbr) -> Vttbr) {
        // Between two walks.
        #[cfg(any(loom, shuttle))]
        let _cache = self.completed.is_some().then(|| self.of(cpu));
        let mut vttbr = self.vttbr(cpu);
        *vttbr = change(*vttbr);
    }

    fn vttbr(&self, cpu: usize) -> MutexGuard<'_, Vttbr> {
        self.vttbr[cpu]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What a walk that begins on this CPU knows of what CPUs have stored; none where walkers are
    /// never late.
    #[cfg(any(loom, shuttle))]
    pub(super) fn view(&self, cpu: usize) -> Option<View> {
        self.completed.as_ref().map(|completed| completed.view(cpu))
    }

    /// `tlbi alle1; dsb nsh; isb` on this CPU.
    pub(super) fn forget(&self, cpu: usize) {
        self.of(cpu).0.clear();
    }

    /// How many descriptors the CPU of this index has cached.
    pub fn cached(&self, cpu: usize) -> usize {
        self.of(cpu).0.len()
    }

    /// A DSB for stores, on the calling thread's CPU.
    fn dsb(&self) {
        #[cfg(any(loom, shuttle))]
        if let Some(completed) = &self.completed {
            completed.dsb(cpus::current());
        }
        // What a DSB is to CPUs. Where walkers are not late, also to walks: it pairs with the fence
        // at their beginning.
        fence(Ordering::SeqCst);
    }

    /// A TLBI on all CPUs, and the DSB behind it: done one by one, each between two walks.
    fn on_all(&self, invalidate: impl Fn(&mut CpuTlb)) {
        (0..self.cpus.len()).for_each(|cpu| self.on(cpu, &invalidate));
    }

    fn on(&self, cpu: usize, invalidate: impl Fn(&mut CpuTlb)) {
        let mut tlb = self.of(cpu);
        invalidate(&mut tlb);
        #[cfg(any(loom, shuttle))]
        if let Some(completed) = &self.completed {
            completed.invalidated(cpu);
        }
    }
}

// SAFETY: the caches are walked one by one, each under its lock, which an access holds from its
// walk to its effect. Where a walker may be late, `completed` keeps what it must find.
unsafe impl Tlb for FakeTlb {
    fn publish(&self) {
        self.dsb();
    }

    fn finish_walks(&self) {
        // Until VTTBR_EL2 is written next: no walk begins at EL2.
        self.end_walks(cpus::current());
        self.dsb();
    }

    fn invalidate(&self, _: Published, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.on_all(|tlb| tlb.invalidate(vmid, range, scope));
    }

    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.on(cpus::current(), |tlb| tlb.invalidate(vmid, range, scope));
    }

    fn load(&self, tables: Option<Loaded>) {
        self.write_vttbr(cpus::current(), tables);
    }

    fn invalidate_all(&self) {
        self.dsb();
        self.on_all(|tlb| tlb.0.clear());
    }
}
