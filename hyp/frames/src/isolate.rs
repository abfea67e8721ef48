//! Making a 2 MiB block free whose frames are partly in use.
//!
//! Owns [`Isolation`]: while there is one of a block, none of the block's free frames is handed
//! out, and those that are freed stay. Once the rest is migrated, its holder has the whole block.
//!
//! An isolation is announced in the metadata of the block's first frame, under the buddy's lock;
//! then the frames that CPUs' caches hold are fetched. From then on every way back to free memory
//! leads to the isolation: see `Buddy::give_back` and `FrameAllocator::is_isolated`.

use super::FrameAllocator;
use super::frame::{BLOCK_FRAMES, Index};
use super::linear::LinearMap;
use super::state::{Order, Packed, State, Use};
use core::fmt;
use core::sync::atomic::Ordering;
use stage2::Pa;

/// Why a 2 MiB block cannot be isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIsolated {
    /// The address is none of a 2 MiB block of RAM.
    NoBlock,
    /// All of it is free, or allocated, in one piece: there is nothing to gather.
    Whole,
    /// It is being isolated already.
    Busy,
}

impl fmt::Display for NotIsolated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotIsolated::NoBlock => "not the address of a 2 MiB block of RAM",
            NotIsolated::Whole => "the 2 MiB block is free or allocated as a whole",
            NotIsolated::Busy => "the 2 MiB block is being isolated already",
        })
    }
}

impl core::error::Error for NotIsolated {}

/// The exclusive right to a 2 MiB block's free frames. Dropped, it gives them back.
#[must_use = "dropping an isolation gives its frames back"]
pub struct Isolation<'a, M: LinearMap> {
    allocator: &'a FrameAllocator<M>,
    block: Index,
}

impl<M: LinearMap> FrameAllocator<M> {
    /// Begins to isolate the 2 MiB block that starts at `pa`.
    pub fn isolate(&self, pa: Pa) -> Result<Isolation<'_, M>, NotIsolated> {
        let (block, first) = self.first_frame(pa).ok_or(NotIsolated::NoBlock)?;
        if block != block.block() {
            return Err(NotIsolated::NoBlock);
        }
        {
            let mut buddy = self.buddy.lock();
            if first.held().is_some() {
                return Err(NotIsolated::Busy);
            }
            match first.state() {
                State::Tail => return Err(NotIsolated::Whole),
                State::Free { order }
                | State::Cached { order }
                | State::Allocated { order, .. }
                    if order >= Order::BLOCK_2M =>
                {
                    return Err(NotIsolated::Whole);
                }
                _ => buddy.isolate(&self.inventory, block),
            }
            self.isolations.fetch_add(1, Ordering::Relaxed);
        }
        for cache in self.caches.iter() {
            let mut stock = cache.lock();
            stock.drain_block(block, &mut self.buddy.lock(), &self.inventory);
        }
        Ok(Isolation {
            allocator: self,
            block,
        })
    }
}

impl<'a, M: LinearMap> Isolation<'a, M> {
    /// Where the block begins.
    pub fn pa(&self) -> Pa {
        self.allocator.inventory.pa(self.block)
    }

    /// Number of the block's 512 frames that are held; all of them when nobody uses the block.
    pub fn held(&self) -> u32 {
        u32::from(
            self.allocator
                .inventory
                .frame(self.block)
                .held()
                .unwrap_or(0),
        )
    }

    /// What is still in use in the block: the address of each piece, its use and its order. It may
    /// change while this goes on.
    pub fn in_use(&self) -> impl Iterator<Item = (Pa, Use, Order)> + '_ {
        let inventory = &self.allocator.inventory;
        inventory
            .heads(self.block)
            .filter_map(|(index, state)| match state {
                State::Allocated { used, order } => Some((inventory.pa(index), used, order)),
                _ => None,
            })
    }

    /// Ends the isolation by allocating the block, of order [`Order::BLOCK_2M`], to be used as
    /// `used`. Its contents are dirty. Fails, and goes on, if frames of it are still in use.
    pub fn finish(self, used: Use) -> Result<Pa, Self> {
        // Under the lock, to see the frames as those left them who freed them.
        let held = {
            let _buddy = self.allocator.buddy.lock();
            self.held()
        };
        if held != BLOCK_FRAMES {
            return Err(self);
        }
        // All frames are held, and only an isolation's owner takes them: the block is ours.
        let inventory = &self.allocator.inventory;
        for offset in 1..BLOCK_FRAMES {
            inventory
                .frame(self.block.plus(offset))
                .set_state(State::Tail);
        }
        let becomes = Packed::allocated(used, Order::BLOCK_2M);
        let first = inventory.frame(self.block);
        first.set_packed(becomes);
        let mut buddy = self.allocator.buddy.lock();
        first.set_mobility(becomes.use_index().mobility());
        buddy.clear_isolation(inventory, self.block);
        buddy.tally.add(becomes.use_index(), BLOCK_FRAMES);
        drop(buddy);
        self.allocator.isolations.fetch_sub(1, Ordering::Relaxed);
        let pa = self.pa();
        core::mem::forget(self);
        Ok(pa)
    }
}

impl<M: LinearMap> Drop for Isolation<'_, M> {
    fn drop(&mut self) {
        let allocator = self.allocator;
        allocator
            .buddy
            .lock()
            .undo_isolation(&allocator.inventory, self.block);
        allocator.isolations.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<M: LinearMap> fmt::Debug for Isolation<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolation")
            .field("pa", &self.pa())
            .field("held", &self.held())
            .finish()
    }
}
