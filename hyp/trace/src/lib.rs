//! What the hypervisor did, as typed events that leave over its console.
//!
//! Both ends share this crate: the hypervisor, which writes, and `cargo xtask trace`, which reads.
//!
//! - [`event`]: the events, their stamps and categories;
//! - [`ring`]: one CPU's events until somebody fetches them, the oldest overwritten, or none;
//! - [`frame`]: many events as one frame that passes over a console;
//! - [`stream`]: frames and text told apart again, whatever was broken or cut;
//! - [`replay`]: what the events for a checker of the protocol say, and what their order means.
//!
//! Nothing here allocates, and nothing is global.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod category;
mod code;
mod codes;
pub mod coding;
pub mod event;
pub mod frame;
mod record;
pub mod replay;
pub mod ring;
pub mod stream;
mod varint;

pub use category::{Categories, Category, Stream};
pub use event::{Event, Record, Stamp};
