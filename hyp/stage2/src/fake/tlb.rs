//! Translation caches that forget nothing unless they are told to.
//!
//! Each CPU caches leaves and, apart from them, table descriptors (the walk cache), by VMID. An
//! invalidation takes away exactly what the architecture says it does: with a leaf hint no table
//! descriptor, with a level hint leaves of that level alone. A walk that finds something at odds
//! with what is cached is a broken break-before-make, and a panic.

use crate::addr::{Ipa, IpaRange, Level, Pa};
use crate::descriptor::Descriptor;
use crate::env::{Loaded, Scope, Tlb};
use crate::flush::Published;
use crate::sync::{Lock, LockGuard, Ordering, fence};
use crate::vmid::Vmid;

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
        matches!(self.usage, Use::Leaf(_))
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

    /// The cached table descriptor that shortens a walk for `ipa` most.
    pub(super) fn deepest_table(&self, vmid: Vmid, ipa: Ipa) -> Option<Cached> {
        let serves = |cached: &&Cached| !cached.is_leaf() && cached.serves(vmid, ipa);
        let tables = self.0.iter().filter(serves);
        tables.max_by_key(|cached| cached.level).copied()
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
}

/// Whether two descriptors of overlapping ranges may be cached at once (Arm ARM, "TLB maintenance": break-before-make
/// and the levels of FEAT_BBM).
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

/// The translation caches of all CPUs of a [`FakeMachine`](super::FakeMachine).
pub struct FakeTlb {
    cpus: Box<[Lock<CpuTlb>]>,
}

impl FakeTlb {
    pub(super) fn new(cpus: usize) -> Self {
        let cpu = |_| Lock::new(CpuTlb(Vec::new()));
        Self {
            cpus: (0..cpus).map(cpu).collect(),
        }
    }

    /// One CPU's cache. Whoever holds it is in the middle of an access: an invalidation waits
    /// until the access is done, as DSB does.
    pub(super) fn of(&self, cpu: usize) -> LockGuard<'_, CpuTlb> {
        self.cpus[cpu].lock()
    }

    /// How many descriptors the CPU of this index has cached.
    pub fn cached(&self, cpu: usize) -> usize {
        self.of(cpu).0.len()
    }
}

// SAFETY: the caches are walked one by one, each under its lock, which an access holds from its walk to its effect.
unsafe impl Tlb for FakeTlb {
    fn load(&self, _tables: Option<Loaded>) {
        // A guest walks what it was made with.
    }

    fn publish(&self) {
        // Pairs with the fence at the beginning of a walk.
        fence(Ordering::SeqCst);
    }

    fn finish_walks(&self) {}

    fn invalidate(&self, _: Published, vmid: Vmid, range: IpaRange, scope: Scope) {
        for cpu in &self.cpus {
            cpu.lock().invalidate(vmid, range, scope);
        }
    }

    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.of(super::cpus::current())
            .invalidate(vmid, range, scope);
    }

    fn invalidate_all(&self) {
        fence(Ordering::SeqCst);
        for cpu in &self.cpus {
            cpu.lock().0.clear();
        }
    }
}
