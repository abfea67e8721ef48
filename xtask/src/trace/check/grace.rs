//! Grace periods: which are under way, and which have ended.

use std::collections::BTreeMap;

/// The grace periods of all CPUs.
#[derive(Debug, Default)]
pub(super) struct Graces {
    /// Those under way, by number, and when each began.
    open: BTreeMap<u64, u64>,
    /// When the youngest that has ended began.
    over: u64,
}

impl Graces {
    /// A grace period begins; says whether its number is a new one.
    pub(super) fn begin(&mut self, number: u64, order: u64) -> bool {
        self.open.insert(number, order).is_none()
    }

    /// A grace period ends; says whether it had begun.
    pub(super) fn end(&mut self, number: u64) -> bool {
        let begun = self.open.remove(&number);
        self.over = self.over.max(begun.unwrap_or(0));
        begun.is_some()
    }

    /// Whether one has ended that began after this place in the order.
    pub(super) fn passed_since(&self, order: u64) -> bool {
        self.over > order
    }
}
