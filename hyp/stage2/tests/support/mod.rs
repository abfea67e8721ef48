//! What more than one file of tests needs: machines, VMs, and what they are compared with.

#[cfg(not(any(loom, shuttle)))]
pub(crate) mod model;
#[cfg(not(any(loom, shuttle)))]
pub(crate) mod region;
#[cfg(not(any(loom, shuttle)))]
pub(crate) mod strategy;
#[cfg(loom)]
pub(crate) mod world;
