//! What guests ask of the hypervisor by calls, and which of their virtual CPUs are on.
//!
//! - [`calls`]: PSCI, SMCCC and the hypervisor's own, decided and not carried out;
//! - [`power`]: which virtual CPUs are on, and how a virtual machine stops;
//! - [`halt`]: guests that nothing gets going again;
//! - [`table_calls`]: calls by which a guest has its own stage-2 tables worked on, for measurements
//!   and tests;
//! - [`range`]: the memory that a call works on.
//!
//! A new call goes into `calls`, which decides what it means; the image carries it out (`exits`).

#![cfg_attr(not(test), no_std)]

pub mod calls;
pub mod halt;
pub mod power;
pub mod range;
pub mod table_calls;
