//! Guests' memory: frames behind stage-2 tables, on demand.
//!
//! - [`bank`]: what a flash bank holds;
//! - [`env`](mod@env): the frame allocator as the table manager's environment;
//! - [`fault`]: stage-2 faults, and what is to be done after one;
//! - `guest_frames`: the machine's frames as memory that guests may have;
//! - [`guest`]: one VM's memory: what a fault does, releasing, the end;
//! - `dirty_log`: whether it is noted which pages a guest writes to;
//! - [`peek`]: single words, as the guest sees them;
//! - `store`: what a boot loader does;
//! - [`page_copier`]: copying guest pages, with what caches need;
//! - [`tracing`]: what happens here, as trace events;
//! - [`compaction`]: making blocks of pages, and free blocks of scattered frames;
//! - [`gate`]: lets rare visitors in, and closes behind the last;
//! - [`shortage`]: who is stopped when physical memory runs out;
//! - [`reserve`]: 2 MiB frames set aside for a region and filled page by page.
//!
//! Guest memory is made of single frames, each with its VM and IPA in its metadata, and of 2 MiB
//! blocks of frames, where the first one's metadata has VM and IPA for all. That is so whatever the
//! size of the mapping: the allocator is not told when a mapping is split and its pages are moved.
//! It makes single frames of its block by itself, when the first of them is freed.
//!
//! Lock order: stage 2's table locks, then the frame allocator's. Nothing here has a lock of its
//! own.

#![cfg_attr(not(any(test, feature = "testing")), no_std)]

pub mod bank;
pub mod compaction;
mod dirty_log;
pub mod env;
pub mod fault;
pub mod gate;
pub mod guest;
pub(crate) mod guest_frames;
pub mod page_copier;
pub mod peek;
pub mod reserve;
pub mod shortage;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tracing;

pub use env::{Hardware, Machine, Parts};
pub use fault::{Fault, FaultKind, Outcome};
pub use guest::{GuestMemory, ReleaseError};
