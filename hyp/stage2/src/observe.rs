//! What the table manager tells whoever wants to watch it.
//!
//! An [`Environment`] that wants to know says so by [`Environment::observes`]; the others pay nothing,
//! since the answer *no* is known when the crate is compiled for them.

use crate::addr::{Ipa, IpaRange, Level, Pa};
use crate::collapse::CollapseError;
use crate::descriptor::Marker;
use crate::env::{Environment, Scope};
use crate::map::MapError;
use crate::meta::TableMeta;
use crate::stage2::Stage2;
use crate::sync::LockGuard;

/// Observations that are wanted, or not, as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Leaves mapped and unmapped.
    Maps,
    /// Splits, collapses and moves.
    Changes,
    /// Retries, waits for locks, markers met.
    Races,
    /// Tables detached, grace periods, frames freed.
    Frees,
    /// Invalidations.
    Invalidations,
}

/// How far a collapse has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollapseStep {
    /// It begins.
    Begun,
    /// The pages were copied once, while the guest ran.
    Copied,
    /// The block is made.
    Done,
    /// It was given up, and why.
    GivenUp(CollapseError),
}

/// Something that happened to the tables of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A leaf of `level` now maps `ipa` to `pa`.
    Mapped {
        /// The leaf's first guest address.
        ipa: Ipa,
        /// Where it leads.
        pa: Pa,
        /// Its level.
        level: Level,
    },
    /// Nothing was mapped to `ipa`.
    NotMapped {
        /// The address.
        ipa: Ipa,
        /// The level of the leaf that was asked for.
        level: Level,
        /// Why.
        error: MapError,
    },
    /// Leaves of `level` were unmapped; there may have been holes between them.
    Unmapped {
        /// From the first to the last.
        range: IpaRange,
        /// Their level.
        level: Level,
    },
    /// The block of `level` at `ipa` became a table.
    Split {
        /// The block's first guest address.
        ipa: Ipa,
        /// The block's level.
        level: Level,
    },
    /// A collapse to a block of `level` at `ipa` made a step.
    Collapse {
        /// The block's first guest address.
        ipa: Ipa,
        /// The block's level.
        level: Level,
        /// Which step.
        step: CollapseStep,
    },
    /// The page at `ipa` is in the frame `to` now.
    Moved {
        /// The page's guest address.
        ipa: Ipa,
        /// The new frame.
        to: Pa,
    },
    /// Somebody met a busy marker.
    MarkerMet {
        /// The address that was looked up.
        ipa: Ipa,
        /// The level of the entry that holds it.
        level: Level,
        /// The marker.
        marker: Marker,
    },
    /// A table of `level` had been detached when its lock was had: the lookup begins again.
    Retried {
        /// The first guest address that the table translated.
        ipa: Ipa,
        /// The level of its entries.
        level: Level,
    },
    /// The lock of a table of `level` was not free.
    LockAwaited {
        /// The first guest address that the table translates.
        ipa: Ipa,
        /// The level of its entries.
        level: Level,
        /// How long it took, by [`Environment::clock`].
        ticks: u64,
    },
    /// A table of `level` was taken out of the tree.
    Detached {
        /// The first guest address that it translated.
        ipa: Ipa,
        /// The level of its entries.
        level: Level,
    },
    /// A grace period was awaited.
    GraceAwaited {
        /// How long it took, by [`Environment::clock`].
        ticks: u64,
    },
    /// The frame of a table was given back.
    TableFreed {
        /// The frame.
        pa: Pa,
    },
    /// Translations were invalidated on all CPUs.
    Invalidated {
        /// Of which guest addresses.
        range: IpaRange,
        /// What of them.
        scope: Scope,
    },
}

impl<E: Environment> Stage2<E> {
    /// Tells the environment, if it wants to know.
    #[inline(always)]
    pub(crate) fn tell(&self, topic: Topic, what: impl FnOnce() -> Observation) {
        if self.env().observes(topic) {
            self.tell_now(what);
        }
    }

    /// Tells that `marker` stood in the entry of `level` for `ipa`.
    pub(crate) fn tell_of_marker(&self, ipa: Ipa, level: Level, marker: Marker) {
        let met = move || Observation::MarkerMet { ipa, level, marker };
        self.tell(Topic::Races, met);
    }

    /// Takes the lock of a table of `level` at `ipa`, and tells if that took a wait.
    #[cold]
    pub(crate) fn watched_lock<'m>(
        &self,
        meta: &'m TableMeta,
        ipa: Ipa,
        level: Level,
    ) -> LockGuard<'m> {
        meta.try_lock().unwrap_or_else(|| {
            let begin = self.env().clock();
            let guard = meta.lock();
            let ticks = self.env().clock().wrapping_sub(begin);
            let awaited = move || Observation::LockAwaited { ipa, level, ticks };
            self.tell(Topic::Races, awaited);
            guard
        })
    }

    /// Kept out of the way of those who do not watch. What to tell comes by value (`move`), so that
    /// nothing has to be in memory for it that else were in a register.
    #[cold]
    fn tell_now(&self, what: impl FnOnce() -> Observation) {
        self.env().observe(self.owner(), what());
    }
}
