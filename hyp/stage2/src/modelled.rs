//! Atomics of which the model checker misses no order.
//!
//! The checker tries another order of two accesses where one of them stores, and looks for the
//! other one no further back than the last access to the same atomic. A thread that loads a value
//! before it stores hides from it, by its own load, what other threads have loaded before: reader
//! and writer would be tried in one order only. So each atomic has a second one beside it, to which
//! every access stores: then any two accesses conflict. These stores are relaxed and order nothing.

use crate::sync::Ordering;
use loom::sync::atomic;

macro_rules! modelled {
    ($(#[$doc:meta])* $name:ident, $value:ty) => {
        $(#[$doc])*
        pub(crate) struct $name {
            value: atomic::$name,
            accesses: atomic::AtomicBool,
        }

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self {
                    value: atomic::$name::new(value),
                    accesses: atomic::AtomicBool::new(false),
                }
            }

            fn accessed(&self) -> &atomic::$name {
                self.accesses.store(true, Ordering::Relaxed);
                &self.value
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.accessed().load(order)
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.accessed().store(value, order);
            }
        }
    };
}

modelled!(
    /// As the one of `core`.
    AtomicU16,
    u16
);
modelled!(
    /// As the one of `core`.
    AtomicU64,
    u64
);

impl AtomicU64 {
    /// Conflicts with every other access, and is none itself.
    pub(crate) fn touch(&self) {
        self.accessed();
    }

    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.accessed().swap(value, order)
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.accessed().fetch_add(value, order)
    }

    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.accessed().fetch_max(value, order)
    }

    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.accessed().fetch_or(value, order)
    }

    pub(crate) fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.accessed().compare_exchange(old, new, success, failure)
    }
}
