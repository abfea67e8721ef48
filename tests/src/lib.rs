//! Boot tests: each boots the hypervisor and a guest in QEMU, on a machine that it declares, and
//! judges the run by its console.
//!
//! [`catalogue`] lists them, [`runner`] runs them side by side, [`judge`] compares what came with
//! what was expected. A test owns its time-out and leaves a folder with its console, whatever
//! happened. Nothing is shared between two tests but the images, which are only read.

pub mod catalogue;
pub mod display;
pub mod judge;
pub mod options;
pub mod runner;
pub mod scenario;
