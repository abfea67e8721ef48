//! The allocator's locks. CPUs acquire them in the order in which they ask.

#[cfg(not(test))]
use spin::relax::Spin as Wait;

/// A lock.
pub(crate) type Mutex<T> = spin::mutex::Mutex<T, Wait>;

/// A locked lock's contents.
pub(crate) type MutexGuard<'a, T> = spin::mutex::MutexGuard<'a, T, Wait>;

/// A waiter's thread lets others run: a host may have fewer CPUs than there are threads, and the
/// one whose turn it is would wait for a time slice of each that spins.
#[cfg(test)]
pub(crate) struct Wait;

#[cfg(test)]
impl spin::RelaxStrategy for Wait {
    fn relax() {
        std::thread::yield_now();
    }
}
