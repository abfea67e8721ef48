//! What the Arm Architecture Reference Manual defines, as far as the hypervisor needs it, and
//! without a need for EL2:
//!
//! - [`encoding`]: the names of system registers as MSR and MRS encode them;
//! - [`id`]: the ID registers, field by field: what guests read there, and what CPUs of one machine have in common;
//! - [`contract`]: every register that EL1 and EL0 can reach: what a guest meets there, where its value is kept, and
//!   by which control it is out of reach;
//! - [`features`]: what the CPUs of a machine can do;
//! - [`syndrome`], [`system_error`]: what `ESR_EL2` says of exceptions, and of asynchronous errors;
//! - [`pstate`]: how a guest's PSTATE changes when an exception is taken;
//! - [`stage1`]: where a walk of a guest's own tables ends;
//! - [`load_store`], [`emulate`]: what an instruction that loads or stores does, and doing it for a guest;
//! - [`backtrace`]: who called whom, by the frame records of the procedure call standard.
//!
//! The hypervisor generates from these tables what it shows, what it traps, what it switches and
//! how it starts, so that these cannot disagree. A guest of the boot tests (`sweep`) compares them
//! with what the CPU does.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod backtrace;
pub mod contract;
pub mod emulate;
pub mod encoding;
pub mod features;
pub mod id;
pub mod load_store;
pub mod pstate;
pub mod stage1;
pub mod syndrome;
pub mod system_error;

pub use encoding::Encoding;
pub use load_store::LoadStore;
