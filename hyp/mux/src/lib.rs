//! One UART for the consoles of all guests and of the hypervisor.
//!
//! Owns the queue of what waits to be sent, and the meaning of keys. The image has the UART and the
//! lock (`console`).
//!
//! Read [`output`] first.
//!
//! - [`output`]: the queue for the UART, its layout, and the escapes for unprintable bytes;
//! - [`lines`]: a guest's bytes, gathered into lines;
//! - [`keys`]: the commands among the keys that are typed;
//! - [`ratelimit`]: the limit of the log lines that a guest can cause.

#![cfg_attr(not(test), no_std)]

pub mod keys;
pub mod lines;
pub mod output;
pub mod ratelimit;
