//! Guests' consoles and the hypervisor's over one UART.
//!
//! - [`lines`]: gathers what a guest sends into lines;
//! - [`output`]: the queue of what waits for the UART, its layout, and what is shown as an escape;
//! - [`keys`]: commands among what is typed;
//! - [`ratelimit`]: how many lines a guest can have the hypervisor log.

#![cfg_attr(not(test), no_std)]

pub mod keys;
pub mod lines;
pub mod output;
pub mod ratelimit;
