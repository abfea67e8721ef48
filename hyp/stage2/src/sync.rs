//! Atomics and the table lock: from `core` and `spin` on hardware, from loom under the model
//! checker, from shuttle in random schedules.
//!
//! Everything that two CPUs may touch at once goes through this module; that is what lets the
//! checkers see the very source that runs at EL2.

#[cfg(any(loom, shuttle))]
pub(crate) use crate::fake::Entry;
#[cfg(loom)]
pub(crate) use crate::modelled::{AtomicU16, AtomicU64};
/// An entry of a table.
#[cfg(not(any(loom, shuttle)))]
pub(crate) use core::sync::atomic::AtomicU64 as Entry;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use core::sync::atomic::{AtomicU16, AtomicU64, fence};
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex as CheckersLock, MutexGuard as CheckersGuard, atomic::fence};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex as CheckersLock, MutexGuard as CheckersGuard,
    atomic::{AtomicU16, AtomicU64, fence},
};

pub(crate) use core::sync::atomic::Ordering;

/// A lock round a value; [`Lock<()>`](Lock) is the lock of one table.
///
/// A ticket lock on hardware: first come, first served, so that no CPU spins without bound while
/// other CPUs take turns.
#[cfg(not(any(loom, shuttle)))]
pub(crate) struct Lock<T = ()>(spin::mutex::TicketMutex<T, Relax>);
/// A lock round a value, as the checker models it.
#[cfg(any(loom, shuttle))]
pub(crate) struct Lock<T = ()>(CheckersLock<T>);

/// What a waiter does until it is its turn.
#[cfg(not(any(loom, shuttle)))]
pub(crate) struct Relax;

#[cfg(not(any(loom, shuttle)))]
impl spin::RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        // A host's threads are preempted, also the one whose turn it is, which nobody else can
        // take: the waiter lets it run. Not at every look: a lock is held for less time than the
        // host's scheduler takes.
        #[cfg(any(unix, windows))]
        if hosted::is_time_to_yield() {
            std::thread::yield_now();
            return;
        }
        core::hint::spin_loop();
    }
}

#[cfg(all(any(unix, windows), not(any(loom, shuttle))))]
mod hosted {
    use core::cell::Cell;

    /// Of so many looks at a lock, the waiter lets other threads run at one: some hundred
    /// nanoseconds.
    const LOOKS: u32 = 4;

    std::thread_local! {
        static LOOKED: Cell<u32> = const { Cell::new(0) };
    }

    #[inline]
    pub(super) fn is_time_to_yield() -> bool {
        let looked = LOOKED.get() % LOOKS + 1;
        LOOKED.set(looked);
        looked == LOOKS
    }
}

/// Proof that a [`Lock`] is held; dropping it unlocks.
#[cfg(not(any(loom, shuttle)))]
pub(crate) type LockGuard<'a, T = ()> = spin::mutex::TicketMutexGuard<'a, T, Relax>;
/// Proof that a [`Lock`] is held; dropping it unlocks.
#[cfg(any(loom, shuttle))]
pub(crate) type LockGuard<'a, T = ()> = CheckersGuard<'a, T>;

#[cfg(not(any(loom, shuttle)))]
impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(spin::mutex::TicketMutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.0.lock()
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.0.try_lock()
    }
}

#[cfg(any(loom, shuttle))]
impl<T> Lock<T> {
    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Self(CheckersLock::new(value))
    }

    #[cfg(shuttle)]
    pub(crate) const fn new(value: T) -> Self {
        Self(CheckersLock::new(value))
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.0.lock().expect("a thread panicked under this lock")
    }

    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
