//! How one thread waits and others wake it, without a wake-up ever being lost.
//!
//! A waker may come at any moment: before the thread decided to wait, between that decision and
//! the moment its registers are saved, or after. A wake-up that finds the thread awake is kept and
//! ends the next wait at once. So a wait may end for no reason, and waiters ask again for what they
//! wait for.
//!
//! The thread becomes runnable elsewhere only when its registers are saved. That is why waiting
//! has two steps: [`ParkState::prepare`] on the thread itself, and [`ParkState::commit`] by the
//! thread that runs next on its CPU, once the waiting thread is off it.

use core::sync::atomic::{AtomicU8, Ordering};

/// It runs, or is in a ready queue.
const AWAKE: u8 = 0;
/// As `AWAKE`, and a wake-up is kept for the next wait.
const NOTIFIED: u8 = 1;
/// It decided to wait and is still on its CPU.
const PARKING: u8 = 2;
/// It waits, its registers are saved, no queue holds it.
const PARKED: u8 = 3;

/// Whether a thread waits.
#[derive(Debug)]
pub struct ParkState(AtomicU8);

impl ParkState {
    /// The state of a thread that is awake, without a kept wake-up.
    pub const fn new() -> Self {
        Self(AtomicU8::new(AWAKE))
    }

    /// Makes this the state of a new thread.
    pub fn reset(&self) {
        self.0.store(AWAKE, Ordering::Release);
    }

    /// On the thread itself: it is about to leave its CPU to wait.
    ///
    /// False if a wake-up was kept. It is used up by that, and the thread goes on.
    #[must_use]
    pub fn prepare(&self) -> bool {
        let parking = self
            .0
            .compare_exchange(AWAKE, PARKING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !parking {
            self.use_up();
        }
        parking
    }

    /// On the CPU the thread was on, after its registers were saved.
    ///
    /// False if a wake-up came meanwhile: the thread is awake and the caller puts it in a queue.
    #[must_use]
    pub fn commit(&self) -> bool {
        let parked = self
            .0
            .compare_exchange(PARKING, PARKED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !parked {
            self.use_up();
        }
        parked
    }

    /// Wakes the thread. True if it was off its CPU: the caller alone must put it in a queue.
    #[must_use]
    pub fn wake(&self) -> bool {
        let update =
            self.0
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
                    PARKED => Some(AWAKE),
                    _ => Some(NOTIFIED),
                });
        update == Ok(PARKED)
    }

    /// Forgets the kept wake-up. A swap and no store: the thread goes on to look at what the last
    /// waker wrote before it came, also if that waker came after the one first seen.
    fn use_up(&self) {
        self.0.swap(AWAKE, Ordering::AcqRel);
    }
}

impl Default for ParkState {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_before_the_wait_ends_it() {
        let state = ParkState::new();
        assert!(!state.wake());
        assert!(!state.prepare());
        assert!(state.prepare(), "a kept wake-up serves once");
    }

    #[test]
    fn a_wake_up_while_leaving_the_cpu_is_seen_by_the_commit() {
        let state = ParkState::new();
        assert!(state.prepare());
        assert!(!state.wake());
        assert!(!state.commit());
        assert!(state.prepare(), "it was used up");
    }

    #[test]
    fn one_of_many_wakers_queues_a_parked_thread() {
        let state = ParkState::new();
        assert!(state.prepare());
        assert!(state.commit());
        assert!(state.wake());
        assert!(!state.wake());
        assert!(!state.prepare());
    }

    #[test]
    fn threads_that_race_never_lose_a_wake_up() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicUsize;
        const ROUNDS: usize = if cfg!(miri) { 20 } else { 20_000 };
        let state = Arc::new(ParkState::new());
        let work = Arc::new(AtomicUsize::new(0));
        let queued = Arc::new(AtomicUsize::new(0));
        let waker = {
            let (state, work, queued) = (state.clone(), work.clone(), queued.clone());
            std::thread::spawn(move || {
                for _ in 0..ROUNDS {
                    work.fetch_add(1, Ordering::SeqCst);
                    if state.wake() {
                        queued.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        };
        let mut resumed = 0;
        while work.load(Ordering::SeqCst) < ROUNDS {
            if state.prepare() && state.commit() {
                // Off its CPU: only a queueing waker brings it back.
                resumed += 1;
                while queued.load(Ordering::SeqCst) < resumed {
                    std::thread::yield_now();
                }
            }
        }
        waker.join().unwrap();
        assert!(queued.load(Ordering::SeqCst) >= resumed);
    }
}
