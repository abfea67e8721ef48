//! A 2 MiB block that each CPU zeroes while it has nothing else to do.
//!
//! Owns [`Prezeroed`]: one block a CPU at most, of which the first frames are zeroed already. A CPU
//! has one only after it was asked for a zeroed block, and as long as there is memory in plenty: it
//! is free memory, and goes back to the buddy when any CPU runs out.
//!
//! It has a lock of its own, under which one page is zeroed at a time. Other CPUs acquire it only
//! when they find no memory, and for the figures. Lock order: it comes before the buddy's.

use super::FrameAllocator;
use super::buddy::Buddy;
use super::frame::Index;
use super::inventory::Inventory;
use super::linear::LinearMap;
use super::state::{Mobility, Order, Packed, State};
use core::sync::atomic::Ordering;
use stage2::{PAGE_SHIFT, Pa};

const ORDER: Order = Order::BLOCK_2M;
const HELD: Packed = Packed::new(State::Cached { order: ORDER });
/// No block is taken ahead if less than this part of all frames is free.
const PLENTY: usize = 8;
/// Pages that a fault zeroes before it looks for interrupts.
const AT_ONCE: u32 = 16;

/// A CPU's block.
pub(super) struct Prezeroed {
    /// The block, which is `Cached`, and in no list.
    block: Option<Index>,
    /// How many of its frames are zeroed.
    zeroed: u32,
    /// Whether a block was asked for since the last one had to be given back.
    wanted: bool,
}

impl Prezeroed {
    pub(super) const fn new() -> Self {
        Self {
            block: None,
            zeroed: 0,
            wanted: false,
        }
    }

    /// Frames held.
    pub(super) fn len(&self) -> usize {
        self.block.map_or(0, |_| ORDER.frames() as usize)
    }

    /// Takes the block, and says how many of its frames are zeroed.
    #[inline]
    fn take(&mut self) -> Option<(Index, u32)> {
        self.wanted = true;
        Some((self.block.take()?, self.zeroed))
    }

    /// Sees to it that there is a block, unless none is wanted or memory is not plentiful.
    fn fill(&mut self, buddy: &mut Buddy, inventory: &Inventory, plenty: usize) -> Option<Index> {
        if self.block.is_none() && buddy.free() >= plenty {
            self.block = buddy.take(inventory, ORDER, Mobility::Movable, HELD);
            self.zeroed = 0;
        }
        self.block
    }
}

impl<M: LinearMap> FrameAllocator<M> {
    /// Takes this CPU's block, if it has one, zeroed to its end.
    #[inline]
    pub(super) fn take_prezeroed(&self, cpu: usize, becomes: Packed) -> Option<Pa> {
        let cache = self.caches.get(cpu)?;
        let (index, zeroed) = cache.ahead.lock().take()?;
        let (frame, pa) = self.inventory.resolve(index);
        frame.set_packed(becomes);
        self.blocks_prezeroed.fetch_sub(1, Ordering::Relaxed);
        cache.lock().tally.add(becomes.use_index(), ORDER.frames());
        let done = u64::from(zeroed) << PAGE_SHIFT;
        if done < ORDER.bytes() {
            // SAFETY: the block was just taken, so it is RAM of a range that the allocator was made
            // with, and nobody else uses it.
            unsafe { self.map.zero(pa.offset(done), ORDER.bytes() - done) };
        }
        Some(pa)
    }

    /// Zeroes this CPU's block to its end, for a fault that is about to take it, unless
    /// `interrupted` says, after each few pages, that the CPU has something more urgent to do.
    /// Returns whether it got there; what it has zeroed stays so. Where there is no block to be had
    /// this is at its end, too.
    #[inline]
    pub fn zero_block(&self, cpu: usize, interrupted: impl Fn() -> bool) -> bool {
        self.is_block_zeroed(cpu) || self.zero_block_now(cpu, &interrupted)
    }

    /// Whether this CPU has a block that is zeroed to its end.
    fn is_block_zeroed(&self, cpu: usize) -> bool {
        self.caches.get(cpu).is_some_and(|cache| {
            let ahead = cache.ahead.lock();
            ahead.block.is_some() && ahead.zeroed == ORDER.frames()
        })
    }

    #[cold]
    fn zero_block_now(&self, cpu: usize, interrupted: &dyn Fn() -> bool) -> bool {
        if let Some(cache) = self.caches.get(cpu) {
            cache.ahead.lock().wanted = true;
        }
        if !self.zero_part_of_block(cpu, AT_ONCE, 0) {
            // Another CPU may have the last block ahead.
            self.give_back_prezeroed();
        }
        while self.zero_part_of_block(cpu, AT_ONCE, 0) {
            if interrupted() {
                return false;
            }
        }
        true
    }

    /// Zeroes one more page of this CPU's block, if it was asked for one; whether there was one to
    /// be zeroed.
    pub(super) fn prezero_block(&self, cpu: usize) -> bool {
        let cache = self.caches.get(cpu);
        cache.is_some_and(|cache| cache.ahead.lock().wanted)
            && self.zero_part_of_block(cpu, 1, self.total / PLENTY)
    }

    /// Zeroes `pages` more of this CPU's block, which is taken from the buddy if that has `plenty`
    /// frames; whether there was one to be zeroed.
    fn zero_part_of_block(&self, cpu: usize, pages: u32, plenty: usize) -> bool {
        let Some(cache) = self.caches.get(cpu) else {
            return false;
        };
        let mut ahead = cache.ahead.lock();
        if ahead.block.is_none() {
            // Counted first: who finds the buddy without this block finds it counted.
            self.blocks_prezeroed.fetch_add(1, Ordering::Relaxed);
            if ahead
                .fill(&mut self.buddy.lock(), &self.inventory, plenty)
                .is_none()
            {
                self.blocks_prezeroed.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let Some(block) = ahead.block.filter(|_| ahead.zeroed < ORDER.frames()) else {
            return false;
        };
        let pages = pages.min(ORDER.frames() - ahead.zeroed);
        let first = u64::from(ahead.zeroed) << PAGE_SHIFT;
        let part = self.inventory.pa(block).offset(first);
        // SAFETY: the block is this CPU's own as long as its lock is held: RAM of a range that the
        // allocator was made with, which nobody else uses; the part ends where the block does, or
        // before.
        unsafe { self.map.zero(part, u64::from(pages) << PAGE_SHIFT) };
        ahead.zeroed += pages;
        true
    }

    /// Gives all CPUs' blocks to the buddy, since memory is short.
    #[cold]
    pub(super) fn give_back_prezeroed(&self) {
        // Acquire: who finds that another CPU has given them back finds them in the buddy.
        if self.blocks_prezeroed.load(Ordering::Acquire) == 0 {
            return;
        }
        for cache in self.caches.iter() {
            let mut ahead = cache.ahead.lock();
            if let Some(block) = ahead.block.take() {
                ahead.wanted = false;
                self.buddy.lock().give_back(&self.inventory, block, ORDER);
                self.blocks_prezeroed.fetch_sub(1, Ordering::Release);
            }
        }
    }
}
