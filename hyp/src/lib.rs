//! The parts of the hypervisor that do not need EL2: they are built and tested on any machine.
//!
//! The image (`main.rs`) puts them together with what does.

#![cfg_attr(not(test), no_std)]

pub mod backtrace;
pub mod bootargs;
pub mod features;
pub mod frames;
pub mod memory;
pub mod tlbi;
