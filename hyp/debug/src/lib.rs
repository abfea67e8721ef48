//! A guest's self-hosted debug registers, as a model: breakpoints, watchpoints, software step and
//! the OS lock.
//!
//! Owns one vCPU's values of these registers, and decides which of them the hardware gets; the
//! image writes those (`vcpu/debugging`).
//!
//! - [`registers`]: the registers that AArch64 names (read this first);
//! - [`aarch32`]: the few that AArch32 reaches at EL0.

#![cfg_attr(not(test), no_std)]

pub mod aarch32;
pub mod registers;
