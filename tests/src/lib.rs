//! Boot tests: each boots the hypervisor and a guest in QEMU, on a machine that it declares, and
//! judges the run by its console.
//!
//! [`catalogue`] lists them, [`runner`] runs them side by side, [`judge`] compares what came with
//! what was expected. A test owns its time-out and leaves a folder with its console, whatever
//! happened. Nothing is shared between two tests but the images, which are only read.

pub mod catalogue;
pub mod chaos;
pub mod consoles;
pub mod display;
pub mod images;
pub mod judge;
pub mod linux;
pub mod options;
pub mod runner;
pub mod scenario;
pub mod shares;
