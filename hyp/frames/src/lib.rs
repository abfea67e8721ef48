//! The allocator of the machine's physical frames.
//!
//! [`FrameAllocator`] owns the machine's RAM and hands it out in blocks of `1 << order` frames of 4
//! KiB, from one page to 1 GiB. It records what every frame is used for: which VM's memory it is,
//! and at which intermediate physical address (the reverse map).
//!
//! Read `state` and `frame` first, then `alloc` and `buddy`.
//!
//! - `state`: the words for orders, uses and states;
//! - `frame`: the metadata of a frame, 64 bytes, which also holds stage 2's lock of a table;
//! - `linear`: the access to memory, and all that is `unsafe` about it;
//! - `inventory`, `init`: the regions of RAM, and how the allocator takes them over at boot;
//! - `buddy`: the free blocks, those for movable memory apart from the others;
//! - `cache`, `prezeroed`: the single frames that each CPU has at hand, and the block that it
//!   zeroes while it is idle;
//! - `alloc`, `bulk`: allocating and freeing, and freeing many single frames at once;
//! - `allocated`: changes of use and of size of allocated blocks;
//! - `isolate`, `candidates`: making a 2 MiB block free, and finding the one that costs least;
//! - `usage`, `holdings`: the figures, and the owners of memory in ranges.
//!
//! Lock order: one CPU's cache or its prezeroed block, then the buddy. While one of these locks is
//! held no other is acquired, nothing is logged, and no memory is zeroed but a page of the
//! prezeroed block, under its own lock. No call returns with one held, and all calls may be made
//! with any other lock of the hypervisor held. A frame's owner changes its state without a lock.
//!
//! Rules:
//! - An allocated block belongs to the caller until the caller frees it, with the order that it has
//!   then; guests' data in 2 MiB blocks may also be freed frame by frame.
//! - Running out of memory is [`OutOfFrames`]. Freeing what is not allocated is logged and
//!   [`Refused`], and changes nothing.
//! - The allocator keeps nothing in the frames that it hands out: its lists are in the metadata.
//!   [`Fill::Zeroed`] memory is all zeros, whatever it held before; a caller that passes
//!   [`Fill::Dirty`] memory to a guest overwrites all of it.

#![cfg_attr(not(any(test, feature = "testing")), no_std)]

mod alloc;
mod allocated;
mod buddy;
mod bulk;
mod cache;
mod candidates;
mod frame;
mod holdings;
mod init;
mod inventory;
mod isolate;
mod linear;
mod lock;
mod prezeroed;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod usage;

pub use alloc::{OutOfFrames, Refused};
pub use bulk::Run;
pub use candidates::{Candidate, Cursor};
pub use frame::Frame;
pub use holdings::Holding;
pub use init::{InitError, Setup};
pub use isolate::{Isolation, NotIsolated};
pub use linear::LinearMap;
pub use state::{Order, State, Use, VmId};
pub use usage::Usage;

use crate::lock::Mutex;
use buddy::Buddy;
use cache::CpuCache;
use core::sync::atomic::AtomicU32;
use inventory::Inventory;
use linear::Carved;
use stage2::{Pa, TableMeta};

/// What is known of the contents of free memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// All zeros.
    Zeroed,
    /// Anything, also what the last owner left there.
    Dirty,
}

/// The allocator of physical frames. See the module's text for its rules.
///
/// Each call takes the index of the calling CPU. It is only a matter of speed: a wrong one costs
/// time, one for which there is no cache means that no cache is used.
#[repr(C)]
pub struct FrameAllocator<M> {
    caches: Carved<CpuCache>,
    inventory: Inventory,
    map: M,
    /// Frames that the allocator may hand out.
    total: usize,
    /// Isolations that are going on; while there are none, freeing need not look for them.
    isolations: AtomicU32,
    /// Blocks that CPUs have zeroed ahead, or are about to.
    blocks_prezeroed: AtomicU32,
    /// On cache lines of its own: everything above is only read in the common case.
    buddy: Apart<Mutex<Buddy>>,
}

/// A value that shares no cache line with others (128 bytes: some cores fetch lines in pairs).
#[repr(align(128))]
struct Apart<T>(T);

impl<T> core::ops::Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<M: LinearMap> FrameAllocator<M> {
    /// The metadata of the frame that contains `pa`; none where there is no RAM.
    pub fn frame(&self, pa: Pa) -> Option<&Frame> {
        self.inventory
            .locate(pa)
            .map(|(_, frame)| frame)
            .filter(|frame| frame.state() != State::Absent)
    }

    /// What stage 2 keeps of the frame that contains `pa`; none outside of RAM. In holes smaller
    /// than 2 MiB there may be metadata nevertheless, which is never that of a table.
    #[inline]
    pub fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        self.inventory.locate(pa).map(|(_, frame)| frame.table())
    }

    /// How memory is reached.
    pub fn map(&self) -> &M {
        &self.map
    }
}
