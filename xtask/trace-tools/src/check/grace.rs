//! Grace periods: which have begun, and which have ended.

use std::collections::BTreeMap;

/// The grace periods of all CPUs. Each may be told of by several CPUs that wait for one, or ask for
/// it in vain.
#[derive(Debug, Default)]
pub(super) struct Graces {
    /// When each was begun, by number.
    begun: BTreeMap<u64, u64>,
    /// When the youngest that has ended began.
    over: u64,
}

impl Graces {
    /// A grace period begins, or a thread waits for it.
    pub(super) fn begin(&mut self, number: u64, order: u64) {
        self.begun.entry(number).or_insert(order);
    }

    /// A grace period has ended; says whether it had begun.
    pub(super) fn end(&mut self, number: u64) -> bool {
        let begun = self.begun.get(&number).copied();
        self.over = self.over.max(begun.unwrap_or(0));
        begun.is_some()
    }

    /// Whether one has ended that began after this place in the order.
    pub(super) fn passed_since(&self, order: u64) -> bool {
        self.over > order
    }
}
