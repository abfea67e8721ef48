//! Dirty logging: whether it is noted which pages a guest writes to.
//!
//! Owns the switch. What is noted stands in the tables themselves
//! (`stage2::Stage2::collect_dirty`): a leaf whose stores trap is clean. While the switch is on,
//! two things are otherwise. Notes are of single pages: a store to a block splits it, unless no
//! frame is left for that. And no memory is taken back, since an entry that is gone cannot say that
//! it was written.
//!
//! Invariant: while logging is on nobody is between [`Logging::discard`] and the drop of what it
//! returned.

use super::env::Parts;
use super::guest::GuestMemory;
use crate::gate::{Gate, Visit};
use stage2::IpaRange;

/// The switch: a gate that is closed while logging is on, for those who take contents away.
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
}

impl<P: Parts> GuestMemory<'_, P> {
    /// Whether it is noted which pages the guest writes to.
    #[inline]
    pub fn is_logging(&self) -> bool {
        self.logging.0.is_closed()
    }

    /// Switches logging on or off. It begins, for a range, with the next
    /// [`collect_dirty`](Self::collect_dirty) of it, whose answer is of no use.
    ///
    /// Waits for memory that is being taken back: called outside read sections, with no lock held.
    pub fn set_logging(&self, on: bool) {
        if on {
            self.logging.0.close(|| self.machine().yield_now());
        } else {
            self.logging.0.open();
        }
    }

    /// Calls `dirty` for what was written in `range` since this was last called for it, and begins
    /// anew: see [`stage2::Stage2::collect_dirty`]. What was mapped since counts as written.
    pub fn collect_dirty(&self, range: IpaRange, dirty: impl FnMut(IpaRange)) {
        if let Some(range) = range.intersection(&self.ram()) {
            self.stage2().collect_dirty(range, dirty);
        }
    }
}
