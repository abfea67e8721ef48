//! What of the events is counted over time: the lanes of the page, and the rates of `cargo xtask
//! top`.

use trace::Event;
use trace::event::{Outcome, Step};

/// A kind of happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A fault on memory.
    Fault,
    /// A block was made of pages.
    Collapse,
    /// A collapse was begun for nothing.
    GivenUp,
    /// A block was split.
    Split,
    /// A page was moved to another frame.
    Migrate,
    /// A busy marker was met.
    Marker,
    /// A table had been detached under the thread that had found it.
    Retry,
    /// An invalidation of the TLB.
    Tlbi,
}

impl Kind {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// All of them, in the order in which they are shown and of their numbers.
    pub(crate) const ALL: [Self; 8] = [
        Self::Fault,
        Self::Collapse,
        Self::GivenUp,
        Self::Split,
        Self::Migrate,
        Self::Marker,
        Self::Retry,
        Self::Tlbi,
    ];

    /// What a person calls several of them.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fault => "faults",
            Self::Collapse => "collapses",
            Self::GivenUp => "given up",
            Self::Split => "splits",
            Self::Migrate => "migrations",
            Self::Marker => "markers met",
            Self::Retry => "retries",
            Self::Tlbi => "TLB flushes",
        }
    }

    /// What an event counts for.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            // Outside of memory are devices.
            Event::Fault { outcome, .. } if *outcome != Outcome::Outside => Self::Fault,
            Event::Collapse { step, .. } => match step {
                Step::Commit => Self::Collapse,
                Step::Abort => Self::GivenUp,
                Step::Begin | Step::Copy => return None,
            },
            Event::Split { .. } => Self::Split,
            Event::Migrate { .. } => Self::Migrate,
            Event::Marker { .. } => Self::Marker,
            Event::Retry { .. } => Self::Retry,
            Event::Tlbi { .. } => Self::Tlbi,
            _ => return None,
        })
    }
}
