//! Atomics and the table lock, from `core` and `spin` on hardware, from loom under the model checker.
//!
//! Everything that two CPUs may touch at once goes through this module; that is what lets the model
//! checker see the very source that runs at EL2.

#[cfg(loom)]
pub(crate) use crate::modelled::{AtomicU16, AtomicU64};
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU16, AtomicU64, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::fence;

pub(crate) use core::sync::atomic::Ordering;

/// A lock round a value; [`Lock<()>`](Lock) is the lock of one table.
///
/// A ticket lock on hardware: first come, first served, so that no CPU spins without bound while
/// others take turns.
#[cfg(not(loom))]
pub(crate) struct Lock<T = ()>(spin::mutex::TicketMutex<T, Relax>);
/// A lock round a value, as loom models it.
#[cfg(loom)]
pub(crate) struct Lock<T = ()>(loom::sync::Mutex<T>);

/// What a waiter does until it is its turn.
#[cfg(not(loom))]
pub(crate) struct Relax;

#[cfg(not(loom))]
impl spin::RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        // A host's threads are preempted, also the one whose turn it is: let it run.
        #[cfg(feature = "fake")]
        std::thread::yield_now();
        #[cfg(not(feature = "fake"))]
        core::hint::spin_loop();
    }
}

/// Proof that a [`Lock`] is held; dropping it unlocks.
#[cfg(not(loom))]
pub(crate) type LockGuard<'a, T = ()> = spin::mutex::TicketMutexGuard<'a, T, Relax>;
/// Proof that a [`Lock`] is held; dropping it unlocks.
#[cfg(loom)]
pub(crate) type LockGuard<'a, T = ()> = loom::sync::MutexGuard<'a, T>;

#[cfg(not(loom))]
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

#[cfg(loom)]
impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.0
            .lock()
            .expect("a model thread panicked under this lock")
    }

    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
