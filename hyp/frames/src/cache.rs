//! Each CPU's own stock of single frames.
//!
//! Owns [`CpuCache`]: two stacks of free 4 KiB frames, those known to be zeroed and the others,
//! once for movable and once for fixed memory, and the CPU's tally. In the common case a CPU
//! acquires only its own cache's lock, and all of that is on cache lines which no other CPU writes.
//! Other CPUs acquire it to drain the cache, for an isolation, and for the figures. Lock order: a
//! cache, then the buddy; never two caches.
//!
//! Invariant: under the cache's lock, the frames in its stacks are `Cached`, and in no other list.

use super::Fill;
use super::buddy::Buddy;
use super::frame::Index;
use super::inventory::Inventory;
use super::prezeroed::Prezeroed;
use super::state::{Mobility, Order, UseIndex};
use super::usage::Tally;
use crate::lock::{Mutex, MutexGuard};

/// Frames that a stack has room for; a power of two.
const CAPACITY: usize = 64;
/// Frames that come from the buddy at once, or about so many.
const BATCH_ORDER: Order = Order::new(5).expect("an order");
/// Frames that go to the buddy at once.
const BATCH: usize = BATCH_ORDER.frames() as usize;

const _: () = assert!(BATCH + BATCH / 2 <= CAPACITY);

/// A stack of free frames.
pub(super) struct Stack {
    len: usize,
    frames: [Index; CAPACITY],
}

impl Stack {
    const fn new() -> Self {
        Self {
            len: 0,
            frames: [Index(0); CAPACITY],
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<Index> {
        self.len = self.len.checked_sub(1)?;
        Some(self.frames[self.len % CAPACITY])
    }

    /// Whether there is no room for another frame.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len == CAPACITY
    }

    /// Gives a batch of frames, those that lay there longest, to the buddy.
    #[inline(never)]
    pub(super) fn make_room(&mut self, buddy: &mut Buddy, inventory: &Inventory) {
        self.give_back(BATCH, buddy, inventory);
    }

    /// Puts a frame, which is `Cached`, on top of a stack that has room for it.
    #[inline]
    pub(super) fn push(&mut self, index: Index) {
        debug_assert!(self.len < CAPACITY);
        self.frames[self.len % CAPACITY] = index;
        self.len += 1;
    }

    /// Gives the lowest `count` frames, or as many as there are, back to the buddy.
    fn give_back(&mut self, count: usize, buddy: &mut Buddy, inventory: &Inventory) {
        let count = count.min(self.len);
        for &index in &self.frames[..count] {
            buddy.give_back(inventory, index, Order::PAGE);
        }
        self.frames.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Gives all frames of the 2 MiB block that starts at `block` back to the buddy.
    fn give_back_block(&mut self, block: Index, buddy: &mut Buddy, inventory: &Inventory) {
        let mut kept = 0;
        for i in 0..self.len {
            let index = self.frames[i];
            if index.block() == block {
                buddy.give_back(inventory, index, Order::PAGE);
            } else {
                self.frames[kept] = index;
                kept += 1;
            }
        }
        self.len = kept;
    }
}

/// A CPU's stock of frames and its block ahead, each behind its lock, on cache lines of its own.
#[repr(C, align(128))]
pub(super) struct CpuCache {
    stock: Mutex<Stock>,
    pub(super) ahead: Mutex<Prezeroed>,
}

impl CpuCache {
    pub(super) const fn new() -> Self {
        Self {
            stock: Mutex::new(Stock {
                tally: Tally::new(),
                stacks: [Stacks::new(), Stacks::new()],
            }),
            ahead: Mutex::new(Prezeroed::new()),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock()
    }

    /// Takes a frame for this use, if there is one at hand that has these contents or can be given
    /// them, and says what it contains. Its state is still `Cached`.
    #[inline]
    pub(super) fn pop(&self, fill: Fill, used: UseIndex) -> Option<(Index, Fill)> {
        let mut stock = self.lock();
        if let Some(index) = stock.pop(fill, used) {
            return Some((index, fill));
        }
        match fill {
            Fill::Zeroed => Some((stock.pop(Fill::Dirty, used)?, Fill::Dirty)),
            // Zeroed frames are kept for callers that need them.
            Fill::Dirty => None,
        }
    }
}

/// What a CPU's lock protects.
#[repr(C)]
pub(super) struct Stock {
    /// What this CPU allocated and freed.
    pub(super) tally: Tally,
    /// By mobility.
    stacks: [Stacks; Mobility::COUNT],
}

/// Frames of 2 MiB blocks of one mobility, or of the other where there were no more of those.
struct Stacks {
    dirty: Stack,
    zeroed: Stack,
}

impl Stacks {
    const fn new() -> Self {
        Self {
            dirty: Stack::new(),
            zeroed: Stack::new(),
        }
    }

    #[inline]
    fn of(&mut self, fill: Fill) -> &mut Stack {
        match fill {
            Fill::Dirty => &mut self.dirty,
            Fill::Zeroed => &mut self.zeroed,
        }
    }
}

impl Stock {
    /// Takes a frame with just these contents for this use, if there is one.
    #[inline]
    pub(super) fn pop(&mut self, fill: Fill, used: UseIndex) -> Option<Index> {
        self.pop_from(used.mobility(), fill, used)
    }

    /// As [`Stock::pop`], from the stacks for this mobility.
    #[inline]
    pub(super) fn pop_from(
        &mut self,
        mobility: Mobility,
        fill: Fill,
        used: UseIndex,
    ) -> Option<Index> {
        let index = self.stack(mobility, fill).pop()?;
        self.tally.add(used, 1);
        Some(index)
    }

    /// Whether there is a frame with these contents.
    pub(super) fn has(&mut self, mobility: Mobility, fill: Fill) -> bool {
        self.stack(mobility, fill).len != 0
    }

    /// Fetches frames from the buddy, about a batch if there are so many. There is no dirty one
    /// left.
    pub(super) fn refill(&mut self, mobility: Mobility, buddy: &mut Buddy, inventory: &Inventory) {
        let stack = self.stack(mobility, Fill::Dirty);
        debug_assert_eq!(stack.len, 0);
        let to = |index| stack.push(index);
        buddy.take_for_cache(inventory, BATCH_ORDER, mobility, to);
    }

    /// Whether there is a batch of zeroed frames.
    pub(super) fn has_zeroed_batch(&self, mobility: Mobility) -> bool {
        self.stacks[mobility as usize].zeroed.len >= BATCH
    }

    /// Number of frames.
    pub(super) fn len(&self) -> usize {
        let frames = |stacks: &Stacks| stacks.dirty.len + stacks.zeroed.len;
        self.stacks.iter().map(frames).sum()
    }

    /// Gives all frames back to the buddy.
    pub(super) fn drain(&mut self, buddy: &mut Buddy, inventory: &Inventory) {
        for Stacks { dirty, zeroed } in &mut self.stacks {
            dirty.give_back(CAPACITY, buddy, inventory);
            zeroed.give_back(CAPACITY, buddy, inventory);
        }
    }

    /// Gives the frames of the 2 MiB block that starts at `block` back to the buddy.
    pub(super) fn drain_block(&mut self, block: Index, buddy: &mut Buddy, inventory: &Inventory) {
        for Stacks { dirty, zeroed } in &mut self.stacks {
            dirty.give_back_block(block, buddy, inventory);
            zeroed.give_back_block(block, buddy, inventory);
        }
    }

    /// The stack of frames for this mobility that have these contents.
    #[inline]
    pub(super) fn stack(&mut self, mobility: Mobility, fill: Fill) -> &mut Stack {
        self.stacks[mobility as usize].of(fill)
    }
}
