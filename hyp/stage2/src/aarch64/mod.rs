//! What an embedder needs at EL2 of an aarch64 CPU, and would else write again: a
//! [`Tlb`](crate::Tlb), what the ID registers say and the values of VTCR_EL2 and HCR_EL2 that
//! follow, the address of a fault, cache maintenance, a linear window, a small pool of frames, and
//! the simplest CPUs.
//!
//! What touches registers or executes instructions (`Cpu`, `Abilities::detect`, `cache`,
//! `reported_fault`) is there where the target is an aarch64 CPU; all of it is for EL2. The rest is
//! plain computation, there on every target, and tested on the host.
//!
//! A whole program that uses this, from the loader's jump to a guest that runs on tables of this
//! crate, is `tests/embed` in the repository.

mod abilities;
mod abort;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)] // executes instructions of EL2
pub mod cache;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)] // as above
mod cpu;
#[allow(unsafe_code)] // declares a trait whose implementer vouches for the instructions
mod instructions;
#[allow(unsafe_code)] // implements traits of `env`
mod parts;
mod sequence;
#[allow(unsafe_code)] // as above
mod tlb;
mod tlbi;

pub use abilities::{Abilities, IdRegisters};
pub use abort::{Abort, Cause};
#[cfg(target_arch = "aarch64")]
pub use cpu::{Cpu, reported_fault};
pub use instructions::Instructions;
pub use parts::{FramePool, LinearWindow, OneCpu, Parts};
pub use tlb::{El2Tlb, vttbr};
pub use tlbi::Operation;
