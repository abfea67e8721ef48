//! What the hypervisor did, as typed events that leave over its console.
//!
//! Both ends share this crate: the hypervisor, which writes, and `cargo xtask trace`, which reads.
//!
//! - [`event`]: the events and their stamps;
//! - `fields`: what the small fields of events can say, enumerations made by `byte_enum`;
//! - [`category`]: by what events are switched on, and which travel together;
//! - [`replay`]: what the events for a checker of the protocol say, and what their order means;
//! - `packed`: an event without its types, as codes and words;
//! - `record`: an event with its stamp as a few words;
//! - [`ring`]: one CPU's records until somebody fetches them, the oldest overwritten, or none;
//! - [`frame`]: many records as one frame that passes over a console;
//! - [`compression`], `varint`: how the numbers in a frame are made small;
//! - [`stream`]: frames and text told apart again, whatever was broken or cut.
//!
//! Nothing here allocates, and nothing is global.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod byte_enum;
pub mod category;
pub mod compression;
pub mod event;
mod fields;
pub mod frame;
mod packed;
mod record;
pub mod replay;
pub mod ring;
pub mod stream;
mod varint;

pub use category::{Categories, Category, Stream};
pub use event::{Event, Record, Stamp};
