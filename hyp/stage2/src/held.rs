//! A table's lock, held, and what the observer is told of it.
//!
//! Whether there is an observer is asked once, when the lock is acquired. What is told under it is then
//! decided by a flag that is in a register, and costs next to nothing where there is none.

use crate::addr::{Ipa, Level, Pa};
use crate::env::{Cpus, Environment};
use crate::meta::TableMeta;
use crate::observe::{Observation, Topic};
use crate::stage2::Stage2;
use crate::sync::LockGuard;

/// What is told by those who hold a table's lock.
const TOPICS: [Topic; 3] = [Topic::Races, Topic::Maps, Topic::Protocol];

/// What of that is of taking the lock itself.
const OF_TAKING: [Topic; 2] = [Topic::Races, Topic::Protocol];

/// The lock of a table. Dropping it unlocks.
pub(crate) struct Held<'r, E: Environment> {
    stage2: &'r Stage2<E>,
    table: Pa,
    watched: bool,
    // Dropped, and so unlocked, after `drop` below has told of it.
    _guard: LockGuard<'r>,
}

impl<'r, E: Environment> Held<'r, E> {
    /// Takes the lock of the table of `level` at `table`, which translates from `ipa` on.
    #[inline(always)]
    pub(crate) fn lock(
        stage2: &'r Stage2<E>,
        meta: &'r TableMeta,
        table: Pa,
        ipa: Ipa,
        level: Level,
    ) -> Self {
        let watched = stage2.env().observes_any(TOPICS);
        let guard = if watched && stage2.env().observes_any(OF_TAKING) {
            watched_lock(stage2, meta, table, ipa, level)
        } else {
            meta.lock()
        };
        Self {
            stage2,
            table,
            watched,
            _guard: guard,
        }
    }

    /// As [`lock`](Self::lock), if nobody has it.
    pub(crate) fn try_lock(
        stage2: &'r Stage2<E>,
        meta: &'r TableMeta,
        table: Pa,
        level: Level,
    ) -> Option<Self> {
        let guard = meta.try_lock()?;
        tell_of_locking(stage2, meta, table, level, true);
        Some(Self {
            stage2,
            table,
            watched: stage2.env().observes_any(TOPICS),
            _guard: guard,
        })
    }

    /// Whether an observer may want to know what happens under the lock.
    #[inline(always)]
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// The number of this moment, if there is a checker to be told.
    #[inline(always)]
    pub(crate) fn order(&self) -> u64 {
        if self.watched { self.stage2.order() } else { 0 }
    }
}

impl<E: Environment> Drop for Held<'_, E> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.watched {
            tell_of_unlocking(self.stage2, self.table);
        }
    }
}

#[inline(always)]
fn tell_of_locking<E: Environment>(
    stage2: &Stage2<E>,
    meta: &TableMeta,
    table: Pa,
    level: Level,
    tried: bool,
) {
    stage2.tell_checker(move |order| Observation::TableLocked {
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
fn tell_of_unlocking<E: Environment>(stage2: &Stage2<E>, table: Pa) {
    stage2.tell_checker(|order| Observation::TableUnlocked { order, table });
}

/// Takes the lock of a table, and tells that, and if it took a wait.
#[cold]
#[inline(never)]
fn watched_lock<'r, E: Environment>(
    stage2: &Stage2<E>,
    meta: &'r TableMeta,
    table: Pa,
    ipa: Ipa,
    level: Level,
) -> LockGuard<'r> {
    let guard = meta.try_lock().unwrap_or_else(|| {
        let begin = stage2.env().clock();
        let guard = meta.lock();
        let ticks = stage2.env().clock().wrapping_sub(begin);
        let awaited = move || Observation::LockAwaited { ipa, level, ticks };
        stage2.tell(Topic::Races, awaited);
        guard
    });
    tell_of_locking(stage2, meta, table, level, false);
    guard
}

/// Where the entry of this index of a table is.
pub(crate) fn entry_address(table: Pa, index: usize) -> Pa {
    table.offset(8 * index as u64)
}
