//! What the model checker is told of memory that comes and goes.
//!
//! A use that merely happened to come before the free, with nothing to order the two, is an error
//! in every interleaving; no particular one has to be found.

/// Tells the model checker of each use of some memory, and of each change between free and
/// allocated.
#[cfg(loom)]
pub(super) struct Witness(loom::cell::UnsafeCell<()>);

// SAFETY: nothing is stored in the cell and nothing is done with the pointers that it lends. It is
// shared so that the model checker sees whether changes are ordered with uses.
#[cfg(loom)]
unsafe impl Sync for Witness {}

#[cfg(loom)]
impl Witness {
    pub(super) fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(()))
    }

    pub(super) fn used(&self) {
        self.0.with(|_| ());
    }

    pub(super) fn changed(&self) {
        self.0.with_mut(|_| ());
    }
}

/// Without the model checker there is nobody to tell.
#[cfg(not(loom))]
pub(super) struct Witness;

#[cfg(not(loom))]
impl Witness {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn used(&self) {}

    pub(super) fn changed(&self) {}
}
