//! Trace events: what the hypervisor did, as typed records that leave over its console.
//!
//! Both ends share this crate: the hypervisor, which writes the events, and `cargo xtask trace`,
//! which reads them. Nothing here allocates, and nothing is global.
//!
//! Read [`event`] first. On its way an event passes [`ring`], [`frame`] and [`stream`].
//!
//! - [`event`]: the events and their stamps;
//! - `fields`: the enumerations in the fields of events, made by `byte_enum`;
//! - [`category`]: the groups by which events are switched on, and which travel together;
//! - [`replay`]: the meaning of the events, and of their order, for a checker of the protocol;
//! - `packed`: an event without its types, as codes and words;
//! - `record`: an event with its stamp, as a few words;
//! - [`ring`]: one CPU's records until the reader fetches them, the oldest overwritten, or none;
//! - [`frame`]: many records as one frame that passes over a console;
//! - [`compression`], `varint`: the compact form of the numbers in a frame;
//! - [`stream`]: frames told apart from text, whatever was broken or cut.

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
