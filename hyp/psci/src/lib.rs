//! Guests' calls to the hypervisor (PSCI and SMCCC), and the power states of virtual CPUs.
//!
//! Owns the decisions: what a call means, which virtual CPUs are on, when a virtual machine has
//! stopped. The image carries them out (`exits/hypercall`, `vm/life`).
//!
//! Read [`calls`] first, then [`power`].
//!
//! - [`calls`]: PSCI, SMCCC and the hypervisor's own calls, decoded and decided;
//! - [`power`]: the virtual CPUs that are on, and the stop of a virtual machine;
//! - [`halt`]: guests that nothing can get going again;
//! - [`table_calls`]: calls by which a guest has its own stage-2 tables worked on, for measurements
//!   and tests;
//! - [`range`]: the memory that a call works on.
//!
//! A new call goes into [`calls`], which decides what it means; the image carries it out.

#![cfg_attr(not(test), no_std)]

pub mod calls;
pub mod halt;
pub mod power;
pub mod range;
pub mod table_calls;
