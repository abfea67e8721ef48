//! A gate for rare visitors to something that may be taken away. Its owner closes the gate and
//! waits until the last visitor has left.
//!
//! Visitors count themselves in and out, which only rare ones can afford: the compaction thread, or
//! a vCPU that gives memory back. vCPUs that run and fault do not pass here.

use core::sync::atomic::{AtomicUsize, Ordering};

/// Set while the gate is closed; the other bits count the visitors inside.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A gate, closed at first.
#[derive(Debug)]
pub struct Gate(AtomicUsize);

/// One visitor's stay inside, which ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Visit<'g>(&'g Gate);

impl Gate {
    /// A closed gate.
    pub const fn new() -> Self {
        Self(AtomicUsize::new(CLOSED))
    }

    /// Lets visitors in. What was done before is visible to them.
    pub fn open(&self) {
        self.0.fetch_and(!CLOSED, Ordering::Release);
    }

    /// Goes inside; `None` if the gate is closed.
    pub fn enter(&self) -> Option<Visit<'_>> {
        let enter = |state| (state & CLOSED == 0).then(|| state + 1);
        self.0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, enter)
            .ok()
            .map(|_| Visit(self))
    }

    /// Closes the gate, and returns when the last visitor has left, or when another caller has
    /// opened the gate again. Calls `yield_now` while waiting.
    pub fn close(&self, mut yield_now: impl FnMut()) {
        self.0.fetch_or(CLOSED, Ordering::Acquire);
        while self.0.load(Ordering::Acquire) > CLOSED {
            yield_now();
        }
    }

    /// Whether the gate is closed at this moment.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CLOSED != 0
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_nobody_in() {
        let gate = Gate::new();
        assert!(gate.enter().is_none());
        gate.open();
        let visit = gate.enter();
        assert!(visit.is_some());
        drop(visit);
        gate.close(|| panic!("nobody is inside"));
        assert!(gate.enter().is_none());
    }

    #[test]
    fn closing_waits_for_visitors() {
        let gate = Gate::new();
        gate.open();
        let mut visit = gate.enter();
        let mut waits = 0;
        gate.close(|| {
            waits += 1;
            assert!(gate.enter().is_none());
            if waits == 3 {
                visit = None;
            }
        });
        assert_eq!(waits, 3);
    }

    #[test]
    fn visitors_of_other_threads_are_waited_for() {
        const ROUNDS: usize = if cfg!(miri) { 10 } else { 1000 };
        let gate = Gate::new();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        if let Some(_visit) = gate.enter() {
                            inside.fetch_add(1, Ordering::Relaxed);
                            inside.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for _ in 0..ROUNDS {
                gate.open();
                gate.close(std::thread::yield_now);
                assert_eq!(inside.load(Ordering::Relaxed), 0);
            }
        });
    }
}
