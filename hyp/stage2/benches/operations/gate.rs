//! Threads that are to do something at the same time: where they run, and where they wait for each
//! other.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Looks at a gate before a thread lets others run.
const SPINS: usize = 20_000;

/// Where so many threads wait for each other, without being put to sleep if they come at about one
/// time.
pub(crate) struct Gate {
    arrived: AtomicUsize,
    pub(crate) threads: usize,
}

impl Gate {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            arrived: AtomicUsize::new(0),
            threads,
        }
    }

    /// Returns when all have come.
    pub(crate) fn pass(&self) {
        let ticket = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (ticket / self.threads + 1) * self.threads;
        let mut spins = 0;
        while self.arrived.load(Ordering::Acquire) < all {
            // A yield may take long to return, and then the threads do not begin together.
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// How many CPUs there are for threads.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Keeps the current thread on a CPU of its own, as far as there are enough: the scheduler of a
/// busy host needs longer than an operation takes to see that two threads share one.
pub(crate) fn stay(thread: usize) {
    #[cfg(target_os = "linux")]
    {
        use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
        use nix::unistd::Pid;
        let me = Pid::from_raw(0);
        let Ok(mine) = sched_getaffinity(me) else {
            return;
        };
        let all = (0..CpuSet::count()).filter(|cpu| mine.is_set(*cpu) == Ok(true));
        let all: Vec<usize> = all.collect();
        let mut one = CpuSet::new();
        if one.set(all[thread % all.len()]).is_ok() {
            // Where it is not allowed, the times are worse and no less true.
            let _ = sched_setaffinity(me, &one);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = thread;
}
