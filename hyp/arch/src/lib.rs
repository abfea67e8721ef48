//! What the Arm Architecture Reference Manual defines, as far as the hypervisor needs it, and without a need for EL2:
//!
//! - [`encoding`]: the names of system registers as MSR and MRS encode them;
//! - [`id`]: the ID registers, field by field: what guests read there, and what CPUs of one machine have in common;
//! - [`contract`]: every register that EL1 and EL0 can reach: what a guest meets there, where its value is kept, and
//!   by which control it is out of reach;
//! - [`load_store`]: what an instruction that loads or stores does.
//!
//! The hypervisor generates from these tables what it shows, what it traps, what it switches and how it starts, so
//! that these cannot disagree. A guest of the boot tests (`sweep`) compares them with what the CPU does.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod contract;
pub mod encoding;
pub mod id;
pub mod load_store;

pub use encoding::Encoding;
pub use load_store::LoadStore;
