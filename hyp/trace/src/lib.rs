//! What the hypervisor did, as typed events that leave over its console.
//!
//! Both ends share this crate: the hypervisor, which writes, and `cargo xtask trace`, which reads.
//!
//! - [`event`]: the events, their stamps and categories;
//! - [`ring`]: one CPU's events until somebody fetches them, the oldest overwritten;
//! - [`frame`]: many events as one frame that passes over a console;
//! - [`stream`]: frames and text told apart again, whatever was broken or cut.
//!
//! Nothing here allocates, and nothing is global.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod category;
mod code;
pub mod event;
pub mod frame;
pub mod ring;
pub mod stream;
mod varint;

pub use category::{Categories, Category};
pub use event::{Event, Record, Stamp};
