//! Table entries as CPUs and walkers see them: not always the same.
//!
//! Owns [`Entry`], which stands in for an atomic where schedules are explored (`--cfg loom`, `--cfg
//! shuttle`), and [`Completed`], what the DSBs have done. CPUs load and store an entry as the
//! atomic that it replaces. A walker may find
//!
//! - any store from the last one on of which its CPU knows by a DSB that it was completed by a DSB,
//!   the newest included;
//! - of a table that it found through an entry: at least what the CPU which stored that entry, with
//!   release, had stored before. That much follows from the walk's addresses; from it nothing
//!   follows for the next walk;
//! - never an older one than its CPU's walker has found there before.
//!
//! A DSB completes the stores of the CPU that executes it, and makes known to its own walker what
//! was completed until then, by whatever CPU; an invalidation makes it known to all walkers that it
//! reaches. Nothing else does: no lock, no release, no fence. That is what the Arm ARM's text
//! promises, and less than its formal model: there a DSB also completes what its CPU has observed
//! of other CPUs' stores. The protocol does without.
//!
//! That a walker's knowledge is as old as its CPU's last DSB stands for a walk that the hardware
//! makes early: before the stores that the CPU made since can be seen by other CPUs. So a store of
//! the VMID with no DSB behind it shows as a walk that misses what other CPUs had completed before
//! they looked for that VMID.

use super::cpus;
use crate::sync::{AtomicU64, Ordering};
use core::sync::atomic::AtomicU64 as PlainAtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The order of all stores to entries, which is that in which they were executed.
static STAMPS: PlainAtomicU64 = PlainAtomicU64::new(1);

/// How many stores of an entry are remembered. A walker that may find an older one finds the oldest
/// of these.
const REMEMBERED: usize = 8;

fn latest_stamp() -> u64 {
    STAMPS.load(Ordering::Relaxed) - 1
}

/// What detects nothing and decides nothing by itself is not the checker's, and is not poisoned for
/// those that look on after a failure.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an entry has held since a certain moment.
#[derive(Clone, Copy, Debug)]
struct Store {
    bits: u64,
    stamp: u64,
    /// The CPU that stored it, if a DSB of that one is needed before all walkers find it.
    cpu: Option<usize>,
    release: bool,
}

#[derive(Debug)]
struct History {
    /// From the oldest on; never empty.
    stores: Vec<Store>,
    /// By CPU: the stamp of the newest that its walker has found.
    found: Vec<u64>,
}

/// An entry of a table, with what it held before.
pub(crate) struct Entry {
    newest: AtomicU64,
    history: Mutex<History>,
}

impl Entry {
    pub(crate) fn new(bits: u64) -> Self {
        let first = Store {
            bits,
            stamp: 0,
            cpu: None,
            release: false,
        };
        Self {
            newest: AtomicU64::new(bits),
            history: Mutex::new(History {
                stores: vec![first],
                found: Vec::new(),
            }),
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.newest.load(order)
    }

    pub(crate) fn store(&self, bits: u64, order: Ordering) {
        self.newest.store(bits, order);
        self.stored(bits, order);
    }

    pub(crate) fn swap(&self, bits: u64, order: Ordering) -> u64 {
        let old = self.newest.swap(bits, order);
        self.stored(bits, order);
        old
    }

    pub(crate) fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        let old = self.newest.fetch_or(bits, order);
        self.stored(old | bits, order);
        old
    }

    pub(crate) fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let result = self.newest.compare_exchange(old, new, success, failure);
        if result.is_ok() {
            self.stored(new, success);
        }
        result
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(old, new, success, failure)
    }

    /// The hardware's own exchange, by which it sets marks: in memory, and so at once for all.
    pub(super) fn mark(&self, old: u64, new: u64) -> Result<u64, u64> {
        let exchange = self
            .newest
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        if exchange.is_ok() {
            self.remember(new, None, true);
        }
        exchange
    }

    fn stored(&self, bits: u64, order: Ordering) {
        let release = matches!(
            order,
            Ordering::Release | Ordering::AcqRel | Ordering::SeqCst
        );
        self.remember(bits, cpus::current_if_any(), release);
    }

    // Nothing of the checker's comes between the store and this.
    fn remember(&self, bits: u64, cpu: Option<usize>, release: bool) {
        let stamp = STAMPS.fetch_add(1, Ordering::Relaxed);
        let stores = &mut lock(&self.history).stores;
        if stores.len() == REMEMBERED {
            stores.remove(0);
        }
        stores.push(Store {
            bits,
            stamp,
            cpu,
            release,
        });
    }

    /// What a walk finds here: what `choose` takes among as many stores, from the oldest on, as the
    /// walk may find.
    pub(super) fn walk(&self, walk: &mut View, choose: impl FnOnce(usize) -> usize) -> u64 {
        // Shows the checker that the entry is read, whatever is found.
        #[cfg(loom)]
        self.newest.touch();
        #[cfg(shuttle)]
        self.newest.load(Ordering::Relaxed);
        let mut history = lock(&self.history);
        let History { stores, found } = &mut *history;
        if found.len() <= walk.cpu {
            found.resize(walk.cpu + 1, 0);
        }
        let found = &mut found[walk.cpu];
        let known = |store: &Store| store.stamp <= *found || walk.knows(store);
        let oldest = stores.iter().rposition(known).unwrap_or(0);
        let store = stores[oldest + choose(stores.len() - oldest)];
        *found = store.stamp;
        if let (true, Some(cpu)) = (store.release, store.cpu) {
            walk.learn(cpu, store.stamp);
        }
        store.bits
    }
}

/// What a walker knows to be completed.
#[derive(Clone, Debug)]
pub(super) struct View {
    cpu: usize,
    /// By CPU: its stores up to this stamp.
    completed: Vec<u64>,
}

impl View {
    fn knows(&self, store: &Store) -> bool {
        store
            .cpu
            .is_none_or(|cpu| store.stamp <= self.completed[cpu])
    }

    fn learn(&mut self, cpu: usize, stamp: u64) {
        let known = &mut self.completed[cpu];
        *known = stamp.max(*known);
    }
}

#[derive(Debug)]
struct Stamps {
    /// By CPU: the stores up to this stamp are complete.
    completed: Vec<u64>,
    /// By CPU: what its walker knows of that.
    views: Vec<View>,
}

/// Which stores were completed, by the DSBs of all CPUs.
pub(super) struct Completed {
    stamps: Mutex<Stamps>,
    /// Shows the checker that the order of DSBs matters, and that of DSBs and walks; and that what
    /// a DSB completes comes before the walks that find it.
    order: AtomicU64,
}

impl Completed {
    pub(super) fn new(cpus: usize) -> Self {
        let completed = vec![0; cpus];
        let view = |cpu| View {
            cpu,
            completed: completed.clone(),
        };
        let views = (0..cpus).map(view).collect();
        Self {
            stamps: Mutex::new(Stamps { completed, views }),
            order: AtomicU64::new(0),
        }
    }

    fn touch(&self) {
        self.order.fetch_add(1, Ordering::AcqRel);
    }

    /// A DSB of this CPU for stores.
    pub(super) fn dsb(&self, cpu: usize) {
        self.touch();
        let mut stamps = lock(&self.stamps);
        stamps.completed[cpu] = latest_stamp();
        stamps.make_known(cpu);
    }

    /// An invalidation has reached this CPU.
    pub(super) fn invalidated(&self, cpu: usize) {
        self.touch();
        lock(&self.stamps).make_known(cpu);
    }

    /// What a walk that this CPU begins knows.
    pub(super) fn view(&self, cpu: usize) -> View {
        self.touch();
        lock(&self.stamps).views[cpu].clone()
    }
}

impl Stamps {
    fn make_known(&mut self, cpu: usize) {
        self.views[cpu].completed.clone_from(&self.completed);
    }
}
