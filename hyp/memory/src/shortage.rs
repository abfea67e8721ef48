//! The choice of the machine to stop when physical memory runs out.
//!
//! A machine whose fault finds no frame is stopped, so that the others can go on with its memory.
//! Two things must not happen: that more machines are stopped than need be, because several ran
//! short at the same time; and that one is stopped because it ran short just before another's
//! memory came free.
//!
//! One word says which machines are on their way out, and how often memory has come free. A vCPU
//! that is about to stop its machine reads the word, looks for memory once more, and stops the
//! machine only if the word is what it was. The look has found the memory that came free before the
//! word was read; what came free later has changed the word.

use core::sync::atomic::{AtomicU64, Ordering};

use bootargs::MAX_VMS;

/// The machines on their way out, one bit each; above them is the count.
const LEAVING: u64 = (1 << MAX_VMS) - 1;

/// One more in the count.
const ONE: u64 = LEAVING + 1;

/// What becomes of a machine that ran short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has to be stopped.
    Stop,
    /// Memory has come free, or is about to: others run, and then the guest tries again.
    TryAgain,
}

/// The machines that run, those on their way out, and the memory that they leave.
#[derive(Debug)]
pub struct Shortage(AtomicU64);

impl Shortage {
    /// Nobody is on its way out.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Machine number `machine` is being stopped, for whatever reason: its memory will come free.
    /// Not after [`Self::came_free`] for that stop.
    pub fn leaves(&self, machine: usize) {
        self.0.fetch_or(bit(machine), Ordering::Relaxed);
    }

    /// The memory of machine number `machine` has come free.
    pub fn came_free(&self, machine: usize) {
        let change = |word: u64| Some((word & !bit(machine)).wrapping_add(ONE));
        // Release: who sees this finds the memory. The change is never refused.
        let _ = self
            .0
            .fetch_update(Ordering::Release, Ordering::Relaxed, change);
    }

    /// Decides about machine number `machine`, for which no memory was found. `look_again` says
    /// whether there is some now. If the machine has to be stopped, it is on its way out from here
    /// on.
    pub fn decide(&self, machine: usize, look_again: impl FnOnce() -> bool) -> Verdict {
        let before = self.0.load(Ordering::Acquire);
        if before & LEAVING != 0 || look_again() {
            return Verdict::TryAgain;
        }
        let stop = before | bit(machine);
        match self
            .0
            .compare_exchange(before, stop, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Verdict::Stop,
            Err(_) => Verdict::TryAgain,
        }
    }
}

impl Default for Shortage {
    fn default() -> Self {
        Self::new()
    }
}

fn bit(machine: usize) -> u64 {
    debug_assert!(machine < MAX_VMS);
    1 << (machine % MAX_VMS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_machine_alone_is_stopped() {
        let shortage = Shortage::new();
        assert_eq!(shortage.decide(0, || true), Verdict::TryAgain);
        assert_eq!(shortage.decide(0, || false), Verdict::Stop);
        let again = shortage.decide(0, || panic!("it is decided"));
        assert_eq!(
            again,
            Verdict::TryAgain,
            "its other vCPUs have nothing to do"
        );
        shortage.came_free(0);
        assert_eq!(shortage.decide(0, || false), Verdict::Stop);
    }

    #[test]
    fn nobody_is_stopped_while_another_is_on_its_way_out() {
        let shortage = Shortage::new();
        shortage.leaves(2);
        shortage.leaves(2);
        assert_eq!(shortage.decide(1, || false), Verdict::TryAgain);
        shortage.came_free(2);
        assert_eq!(shortage.decide(1, || false), Verdict::Stop);
    }

    #[test]
    fn memory_that_comes_free_meanwhile_is_not_missed() {
        let shortage = Shortage::new();
        let meanwhile = || {
            shortage.leaves(7);
            shortage.came_free(7);
            false
        };
        assert_eq!(shortage.decide(1, meanwhile), Verdict::TryAgain);
        assert_eq!(shortage.decide(1, || false), Verdict::Stop);
    }

    #[test]
    fn of_two_who_run_short_together_one_is_stopped() {
        let shortage = Shortage::new();
        let meanwhile = || {
            assert_eq!(shortage.decide(0, || false), Verdict::Stop);
            false
        };
        assert_eq!(shortage.decide(1, meanwhile), Verdict::TryAgain);
    }

    /// Frames that machines take one by one.
    struct Frames(AtomicUsize);

    impl Frames {
        fn take(&self) -> bool {
            let less = |free: usize| free.checked_sub(1);
            let order = Ordering::SeqCst;
            self.0.fetch_update(order, order, less).is_ok()
        }
    }

    /// Machine number `machine` takes `needs` frames and keeps them, unless it is stopped first.
    fn run(machine: usize, needs: usize, frames: &Frames, shortage: &Shortage) -> bool {
        let mut has = 0;
        while has < needs {
            if frames.take() {
                has += 1;
                continue;
            }
            let mut found = false;
            let verdict = shortage.decide(machine, || {
                found = frames.take();
                found
            });
            has += usize::from(found);
            if verdict == Verdict::Stop {
                frames.0.fetch_add(has, Ordering::SeqCst);
                shortage.came_free(machine);
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    #[test]
    fn of_two_that_fit_alone_but_not_together_one_goes_on() {
        for _ in 0..2000 {
            let (frames, shortage) = (Frames(AtomicUsize::new(40)), Shortage::new());
            let went_on = std::thread::scope(|scope| {
                let other = scope.spawn(|| run(1, 30, &frames, &shortage));
                [run(0, 30, &frames, &shortage), other.join().unwrap()]
            });
            assert_eq!(went_on.iter().filter(|&&on| on).count(), 1);
        }
    }
}
