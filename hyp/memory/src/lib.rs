//! Guests' memory: frames behind stage-2 tables, mapped on demand.
//!
//! [`guest::GuestMemory`] owns one VM's tables and the frames behind them. It resolves faults,
//! takes memory back, and frees all of it at the end.
//!
//! Read [`guest`] first, for the way of a fault, and then [`env`](mod@env).
//!
//! - [`guest`]: one VM's memory: faults, release, the end;
//! - [`fault`]: a stage-2 fault, and its outcome for the vCPU;
//! - [`env`](mod@env): the frame allocator as the environment of the table manager;
//! - `guest_frames`: the machine's frames as memory that guests may have;
//! - [`reserve`]: 2 MiB frames set aside for a region and filled page by page;
//! - [`compaction`]: making blocks of pages, and free blocks of scattered frames;
//! - `dirty_log`: the switch of dirty logging;
//! - [`page_copier`]: copies of guest pages, with the cache maintenance that they need;
//! - `store`: the boot loader's stores to a guest's memory;
//! - [`bank`]: the contents of a flash bank;
//! - [`peek`]: loads of single words, as the guest would see them;
//! - [`gate`]: a gate that lets rare visitors in, and can be closed behind the last;
//! - [`shortage`]: the choice of the VM to stop when physical memory runs out;
//! - [`tracing`]: trace events of this crate.
//!
//! Guest memory is made of single frames, each with its VM and IPA in its metadata, and of 2 MiB
//! blocks of frames, where the first frame's metadata has VM and IPA for all. That is so whatever
//! the size of the mapping: the allocator is not told when a mapping is split and its pages are
//! migrated. It makes single frames of its block by itself, when the first of them is freed.
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
