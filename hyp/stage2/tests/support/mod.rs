//! What more than one file of tests needs: machines, VMs, and what they are compared with.

#[cfg(not(any(loom, shuttle)))]
pub(crate) mod model;
#[cfg(not(any(loom, shuttle)))]
pub(crate) mod region;
#[cfg(not(any(loom, shuttle)))]
pub(crate) mod strategy;
#[cfg(loom)]
pub(crate) mod world;

/// The state of a leaf that was written when it was mapped, or not: choices at random are of two
/// things.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn dirty_state(written: bool) -> stage2::DirtyState {
    if written {
        stage2::DirtyState::Dirty
    } else {
        stage2::DirtyState::Clean
    }
}

/// Whether one store marks a page, or the leaf.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn dirty_granule(of_pages: bool) -> stage2::DirtyGranule {
    if of_pages {
        stage2::DirtyGranule::Page
    } else {
        stage2::DirtyGranule::Leaf
    }
}
