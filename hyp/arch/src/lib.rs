//! The Arm Architecture Reference Manual's definitions, as far as the hypervisor needs them and
//! without a need for EL2.
//!
//! Owns the tables of registers. The hypervisor generates from them what it shows, what it traps,
//! what it switches and how it starts, so that these cannot disagree. A guest of the boot tests
//! (`sweep`) compares them with what the CPU does.
//!
//! Read [`encoding`] first, then [`contract`].
//!
//! - [`encoding`]: the names of system registers, as MSR and MRS encode them;
//! - [`id`]: the ID registers, field by field: what guests read there, and what the CPUs of one
//!   machine have in common;
//! - [`contract`]: every register that EL1 and EL0 can reach: what a guest meets there, where its
//!   value is kept, and which control puts it out of reach;
//! - [`features`]: the abilities of a machine's CPUs;
//! - [`syndrome`], [`system_error`]: `ESR_EL2` for exceptions, and for asynchronous errors;
//! - [`pstate`]: the changes of a guest's PSTATE when an exception is taken;
//! - [`stage1`]: a walk of a guest's own tables, and its end;
//! - [`load_store`], [`emulate`]: decoding an instruction that loads or stores, and doing it for a
//!   guest;
//! - [`backtrace`]: the chain of callers, from the frame records of the procedure call standard.

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
