//! Tracing: what happens to the tables, for an observer.
//!
//! Owns the events ([`Observation`]) and the trait of what traces them ([`Observer`]).

use crate::addr::{Ipa, IpaRange, Level, Pa};
use crate::collapse::CollapseError;
use crate::descriptor::{Descriptor, Marker};
use crate::env::{Environment, Scope};
use crate::map::MapError;
use crate::meta::Owner;
use crate::stage2::Stage2;

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
    /// All that a checker of the protocol needs: entries written, locks, the life of tables. What
    /// [`Tlb`](crate::Tlb)'s calls execute is traced by their implementation.
    Protocol,
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
    Migrated {
        /// The page's guest address.
        ipa: Ipa,
        /// The new frame.
        to: Pa,
    },
    /// A thread met a busy marker.
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
        /// How long it took, by [`Observer::clock`].
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
        /// How long it took, by [`Observer::clock`].
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
    /// An entry was written, with its table's lock held or while nobody could see the table.
    EntryWritten {
        /// Its number, from before the store if `old` was not valid, else from after it.
        order: u64,
        /// Where the entry is.
        entry: Pa,
        /// What it was.
        old: Descriptor,
        /// What it is.
        new: Descriptor,
        /// Whether the store had release semantics.
        release: bool,
    },
    /// Entries written before were made visible to table walks
    /// ([`Tlb::publish`](crate::Tlb::publish)).
    Published {
        /// Its number, from after it.
        order: u64,
    },
    /// A table's lock was had.
    TableLocked {
        /// Its number, from after it was had.
        order: u64,
        /// The table.
        table: Pa,
        /// The level of its entries.
        level: Level,
        /// Whether it would not have been waited for.
        tried: bool,
        /// Whether a collapse has claimed the table, and so keeps it.
        claimed: bool,
        /// The number of the youngest grace period when the CPU's read section began, 0 outside of
        /// any.
        section: u64,
    },
    /// A table's lock is about to be let go.
    TableUnlocked {
        /// Its number.
        order: u64,
        /// The table.
        table: Pa,
    },
    /// A frame became a table that nobody can see yet, zeroed or to be written as a whole.
    TableMade {
        /// Its number, from before any of its entries was written.
        order: u64,
        /// The frame.
        table: Pa,
        /// The level of its entries.
        level: Level,
        /// The first address that it translates, if it is one of the root's.
        root: Option<Ipa>,
    },
    /// A grace period began.
    GraceBegun {
        /// Its number, from before the first look at a CPU.
        order: u64,
        /// Which.
        number: u64,
    },
    /// A grace period ended.
    GraceEnded {
        /// Its number, from after the last look at a CPU.
        order: u64,
        /// Which.
        number: u64,
    },
    /// The tables are about to be taken down, after the last flush: their leaves' frames are free
    /// to be given away.
    TreeEnded {
        /// Its number.
        order: u64,
    },
    /// A frame that nobody can find any more is no table now.
    TableEnded {
        /// Its number.
        order: u64,
        /// The frame.
        table: Pa,
    },
}

/// Where what happens to the tables is traced to.
///
/// Everything has a default, by which nothing is traced: `()` is that observer. The answer *no* of
/// [`traces`](Self::traces) is known when the crate is compiled for it, so it costs nothing.
pub trait Observer {
    /// Whether events of this topic are traced. Asked at every event, so it should cost no more
    /// than a branch.
    #[inline(always)]
    fn traces(&self, _topic: Topic) -> bool {
        false
    }

    /// Whether events of one of these topics are traced: as [`traces`](Self::traces), in one
    /// question.
    #[inline(always)]
    fn traces_any<const N: usize>(&self, topics: [Topic; N]) -> bool {
        topics.into_iter().any(|topic| self.traces(topic))
    }

    /// Traces what happened to the tables of `owner`. Called with table locks held and inside read
    /// sections: it acquires no lock, waits for nothing, and calls nothing of this crate.
    #[inline(always)]
    fn trace(&self, _owner: Owner, _what: Observation) {}

    /// A number above all that were given before, on any CPU, for observations of
    /// [`Topic::Protocol`]; each is traced in exactly one. Called where [`trace`](Self::trace) may
    /// be.
    #[inline(always)]
    fn next_order(&self) -> u64 {
        0
    }

    /// The time, in any unit, for the durations in observations and for
    /// [`CopyPages::held_up`](crate::CopyPages::held_up).
    #[inline(always)]
    fn clock(&self) -> u64 {
        0
    }
}

/// Traces nothing.
impl Observer for () {}

impl<E: Environment> Stage2<E> {
    /// Traces an event, if its topic is traced. Inlined, so that an environment whose
    /// [`Observer::trace`] is inlined, too, sees which observation it is.
    #[inline(always)]
    pub(crate) fn trace(&self, topic: Topic, what: impl FnOnce() -> Observation) {
        if self.env().observer().traces(topic) {
            self.env().observer().trace(self.owner(), what());
        }
    }

    /// Traces that `marker` stood in the entry of `level` for `ipa`.
    pub(crate) fn trace_marker(&self, ipa: Ipa, level: Level, marker: Marker) {
        let met = move || Observation::MarkerMet { ipa, level, marker };
        self.trace(Topic::Races, met);
    }

    /// Traces for a checker what happened, with the number of this moment.
    #[inline(always)]
    pub(crate) fn trace_protocol(&self, what: impl FnOnce(u64) -> Observation) {
        if self.env().observer().traces(Topic::Protocol) {
            self.trace_protocol_now(what);
        }
    }

    /// The number of this moment, if events are traced for a checker.
    #[inline(always)]
    pub(crate) fn order(&self) -> u64 {
        if self.env().observer().traces(Topic::Protocol) {
            self.env().observer().next_order()
        } else {
            0
        }
    }

    /// Traces for a checker that an entry was written, `order` being its number.
    // One by one, since a pair would go by memory, whether or not there is an observer.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_written(
        &self,
        order: u64,
        entry: Pa,
        old: Descriptor,
        new: Descriptor,
        release: bool,
    ) {
        self.trace(Topic::Protocol, move || Observation::EntryWritten {
            order,
            entry,
            old,
            new,
            release,
        });
    }

    /// As [`trace_written`](Self::trace_written), with the number of this moment.
    #[cold]
    #[inline(never)]
    pub(crate) fn trace_written_now(&self, entry: Pa, old: Descriptor, new: Descriptor) {
        self.trace_written(self.order(), entry, old, new, true);
    }

    /// Kept out of the way of callers that trace nothing. What to trace comes by value (`move`), so
    /// that nothing has to be in memory for it that else were in a register.
    #[cold]
    #[inline(never)]
    fn trace_protocol_now(&self, what: impl FnOnce(u64) -> Observation) {
        let order = self.env().observer().next_order();
        self.env().observer().trace(self.owner(), what(order));
    }
}
