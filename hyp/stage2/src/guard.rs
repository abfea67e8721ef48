//! A table's lock, held, and what is traced of it.
//!
//! Whether there is an observer is asked once, when the lock is acquired. What is traced under it
//! is then decided by a flag that is in a register, and costs next to nothing where there is none.

use crate::addr::{Ipa, Level, Pa};
use crate::env::{Cpus, Environment};
use crate::meta::TableMeta;
use crate::observer::{Observation, Observer, Topic};
use crate::stage2::Stage2;
use crate::sync::LockGuard;

/// What the holder of a table's lock traces.
const TOPICS: [Topic; 3] = [Topic::Races, Topic::Maps, Topic::Protocol];

/// What of that is of taking the lock itself.
const OF_TAKING: [Topic; 2] = [Topic::Races, Topic::Protocol];

/// The lock of a table. Dropping it unlocks.
pub(crate) struct TableGuard<'r, E: Environment> {
    stage2: &'r Stage2<E>,
    table: Pa,
    traced: bool,
    // Dropped, and so unlocked, after `drop` below has traced it.
    _guard: LockGuard<'r>,
    // Dropped when the lock is released: see `Cpus::Pinned`.
    _pinned: <E::Cpus as Cpus>::Pinned<'r>,
}

impl<'r, E: Environment> TableGuard<'r, E> {
    /// Takes the lock of the table of `level` at `table`, which translates from `ipa` on.
    #[inline(always)]
    pub(crate) fn lock(
        stage2: &'r Stage2<E>,
        meta: &'r TableMeta,
        table: Pa,
        ipa: Ipa,
        level: Level,
    ) -> Self {
        let pinned = stage2.env().cpus().pin();
        let traced = stage2.env().observer().traces_any(TOPICS);
        let guard = if traced && stage2.env().observer().traces_any(OF_TAKING) {
            lock_traced(stage2, meta, table, ipa, level)
        } else {
            meta.lock()
        };
        Self {
            stage2,
            table,
            traced,
            _guard: guard,
            _pinned: pinned,
        }
    }

    /// As [`lock`](Self::lock), if nobody has it.
    pub(crate) fn try_lock(
        stage2: &'r Stage2<E>,
        meta: &'r TableMeta,
        table: Pa,
        level: Level,
    ) -> Option<Self> {
        let pinned = stage2.env().cpus().pin();
        let guard = meta.try_lock()?;
        trace_locking(stage2, meta, table, level, true);
        Some(Self {
            stage2,
            table,
            traced: stage2.env().observer().traces_any(TOPICS),
            _guard: guard,
            _pinned: pinned,
        })
    }

    /// Whether an observer may want to know what happens under the lock.
    #[inline(always)]
    pub(crate) fn is_traced(&self) -> bool {
        self.traced
    }

    /// The number of this moment, if events are traced for a checker.
    #[inline(always)]
    pub(crate) fn order(&self) -> u64 {
        if self.traced { self.stage2.order() } else { 0 }
    }
}

impl<E: Environment> Drop for TableGuard<'_, E> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.traced {
            trace_unlocking(self.stage2, self.table);
        }
    }
}

#[inline(always)]
fn trace_locking<E: Environment>(
    stage2: &Stage2<E>,
    meta: &TableMeta,
    table: Pa,
    level: Level,
    tried: bool,
) {
    stage2.trace_protocol(move |order| Observation::TableLocked {
        order,
        table,
        level,
        tried,
        claimed: meta.is_claimed(),
        section: stage2.env().cpus().slot().section(),
    });
}

#[cold]
#[inline(never)]
fn trace_unlocking<E: Environment>(stage2: &Stage2<E>, table: Pa) {
    stage2.trace_protocol(|order| Observation::TableUnlocked { order, table });
}

/// Takes the lock of a table, and tells that, and if it took a wait.
#[cold]
#[inline(never)]
fn lock_traced<'r, E: Environment>(
    stage2: &Stage2<E>,
    meta: &'r TableMeta,
    table: Pa,
    ipa: Ipa,
    level: Level,
) -> LockGuard<'r> {
    let guard = meta.try_lock().unwrap_or_else(|| {
        let begin = stage2.env().observer().clock();
        let guard = meta.lock();
        let ticks = stage2.env().observer().clock().wrapping_sub(begin);
        let awaited = move || Observation::LockAwaited { ipa, level, ticks };
        stage2.trace(Topic::Races, awaited);
        guard
    });
    trace_locking(stage2, meta, table, level, false);
    guard
}

/// Where the entry of this index of a table is.
pub(crate) fn entry_address(table: Pa, index: usize) -> Pa {
    table.offset(8 * index as u64)
}
