//! A guest's self-hosted debug registers, as a model: breakpoints, watchpoints, software step and
//! the OS lock.
//!
//! - [`registers`]: those that AArch64 names, and what of them the hardware gets;
//! - [`aarch32`]: the few that AArch32 reaches at EL0.

#![cfg_attr(not(test), no_std)]

pub mod aarch32;
pub mod registers;
