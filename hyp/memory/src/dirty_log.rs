//! Dirty logging: whether it is noted which pages a guest writes to.
//!
//! Owns the switch. What is noted stands in the tables themselves
//! (`stage2::Stage2::collect_dirty`): a leaf whose stores trap is clean. While the switch is on,
//! two things are otherwise. Notes are of single pages: a store to a block splits it, unless no
//! frame is left for that. And no memory is taken back, since an entry that is gone cannot say that
//! it was written.
//!
//! Invariant: while logging is on, no [`Visit`] that [`Logging::discard`] returned is alive.

use crate::gate::{Gate, Visit};

/// The switch: a gate for callers that take contents away, closed while logging is on.
pub(super) struct Logging(Gate);

impl Logging {
    pub(super) fn off() -> Self {
        let gate = Gate::new();
        gate.open();
        Self(gate)
    }

    /// Permission to take contents away, until it is dropped; none while logging is on.
    pub(super) fn discard(&self) -> Option<Visit<'_>> {
        self.0.enter()
    }

    /// Whether logging is on.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.0.is_closed()
    }

    /// Switches logging on, and waits, by `wait`, for memory that is being taken back.
    pub(super) fn switch_on(&self, wait: impl Fn()) {
        self.0.close(wait);
    }

    /// Switches logging off.
    pub(super) fn switch_off(&self) {
        self.0.open();
    }
}
