//! The free blocks of all orders.
//!
//! Owns the lists of free blocks, strung together through the frames' metadata, and what is counted
//! with them. All of it is behind one lock, the last in the allocator's lock order: nothing else is
//! locked while it is held, and the time it is held does not grow with the size of memory.
//!
//! Invariants:
//! - A block is in list *n* if and only if its first frame is `Free` of order *n*; its other frames
//!   are `Tail`.
//! - No two buddies of one order are both free: they are joined at once.
//! - What is given back inside an isolated 2 MiB block goes to the isolation, not to a list.

use super::account::Tally;
use super::frame::Index;
use super::inventory::Inventory;
use super::state::{Order, Packed, State};

pub(super) struct Buddy {
    /// First block of each list.
    lists: [Option<Index>; Order::COUNT],
    /// Blocks in each list.
    blocks: [usize; Order::COUNT],
    /// Bit *n*: list *n* has a block.
    occupied: u32,
    /// Frames in all lists.
    free: usize,
    /// The fewest frames that the lists ever held.
    low_water: usize,
    /// Frames held by isolations.
    isolated: usize,
    /// Uses counted by those who hold the buddy's lock and no cache.
    pub(super) tally: Tally,
}

impl Buddy {
    pub(super) const fn new() -> Self {
        Self {
            lists: [None; Order::COUNT],
            blocks: [0; Order::COUNT],
            occupied: 0,
            free: 0,
            low_water: 0,
            isolated: 0,
            tally: Tally::new(),
        }
    }

    /// Takes a block of `order` out of the lists and gives it the state `becomes`. The smallest
    /// block that will do is used, and what is too much of it goes back into the lists.
    pub(super) fn take(
        &mut self,
        inventory: &Inventory,
        order: Order,
        becomes: Packed,
    ) -> Option<Index> {
        let found = self.smallest_from(order)?;
        let index = self.lists[usize::from(found.get())]?;
        self.unlink(inventory, index, found);
        for lower in Order::range(order, found).rev() {
            self.push(inventory, index.plus(lower.frames()), lower);
        }
        inventory.frame(index).set_packed(becomes);
        self.low_water = self.low_water.min(self.free);
        Some(index)
    }

    /// Takes single frames for a CPU's cache, and hands each to `to` as `Cached`: those of one block of
    /// `batch`, or, while there are smaller ones, about half as many, so that small blocks are used up
    /// and a larger one is taken whole. Never more than one and a half of `batch`.
    pub(super) fn take_for_cache(
        &mut self,
        inventory: &Inventory,
        batch: Order,
        mut to: impl FnMut(Index),
    ) {
        let mut taken = 0;
        while taken < batch.frames() / 2
            && let Some(smallest) = self.smallest_from(Order::PAGE)
            && let order = smallest.min(batch)
            && let Some(first) = self.take(inventory, order, Packed::CACHED)
        {
            // Highest first: caches hand out what was put in last, so guests get rising addresses.
            for (offset, frame) in (0..order.frames())
                .zip(inventory.frames_of(first, order))
                .rev()
            {
                frame.set_packed(Packed::CACHED);
                to(first.plus(offset));
            }
            taken += order.frames();
        }
    }

    /// Takes back a block that nobody uses. It is joined with its free buddies, unless its 2 MiB
    /// block is being isolated.
    pub(super) fn give_back(&mut self, inventory: &Inventory, index: Index, order: Order) {
        if order <= Order::BLOCK_2M
            && let Some(held) = inventory.block(index).held()
        {
            inventory.frame(index).set_state(State::Isolated { order });
            inventory
                .block(index)
                .set_held(Some(held + order.frames() as u16));
            self.isolated += order.frames() as usize;
            return;
        }
        let (mut index, mut order) = (index, order);
        while let Some(above) = order.above()
            && let Some(buddy) = inventory.buddy(index, order)
            && inventory.frame(buddy).state() == (State::Free { order })
        {
            self.unlink(inventory, buddy, order);
            inventory.frame(index.max(buddy)).set_state(State::Tail);
            index = index.min(buddy);
            order = above;
        }
        self.push(inventory, index, order);
    }

    /// Begins to isolate the 2 MiB block that starts at `block`: its free parts leave the lists,
    /// and what is given back from now on is held as well.
    pub(super) fn isolate(&mut self, inventory: &Inventory, block: Index) {
        let mut held = 0;
        for (index, state) in inventory.heads(block) {
            if let State::Free { order } = state {
                self.unlink(inventory, index, order);
                inventory.frame(index).set_state(State::Isolated { order });
                held += order.frames();
            }
        }
        inventory.frame(block).set_held(Some(held as u16));
        self.isolated += held as usize;
        self.low_water = self.low_water.min(self.free);
    }

    /// Ends the isolation of the 2 MiB block that starts at `block`; what it held goes back into
    /// the lists.
    pub(super) fn undo_isolation(&mut self, inventory: &Inventory, block: Index) {
        self.forget_isolation(inventory, block);
        for (index, state) in inventory.heads(block) {
            if let State::Isolated { order } = state {
                self.give_back(inventory, index, order);
            }
        }
    }

    /// Ends the isolation of the 2 MiB block that starts at `block`, whose frames the caller takes.
    pub(super) fn forget_isolation(&mut self, inventory: &Inventory, block: Index) {
        let held = inventory.frame(block).held().unwrap_or(0);
        inventory.frame(block).set_held(None);
        self.isolated -= usize::from(held);
    }

    /// Frames in the lists.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// The fewest frames that were ever in the lists since [`Buddy::mark_low_water`].
    pub(super) fn low_water(&self) -> usize {
        self.low_water
    }

    /// Begins to watch for the fewest frames in the lists.
    pub(super) fn mark_low_water(&mut self) {
        self.low_water = self.free;
    }

    /// Frames held by isolations.
    pub(super) fn isolated(&self) -> usize {
        self.isolated
    }

    /// Number of free blocks of each order.
    pub(super) fn blocks(&self) -> [usize; Order::COUNT] {
        self.blocks
    }

    /// The smallest order, from `order` on, of which there is a free block.
    fn smallest_from(&self, order: Order) -> Option<Order> {
        let occupied = self.occupied >> order.get();
        if occupied == 0 {
            return None;
        }
        Order::new(order.get() + occupied.trailing_zeros() as u8)
    }

    fn push(&mut self, inventory: &Inventory, index: Index, order: Order) {
        let list = usize::from(order.get());
        let frame = inventory.frame(index);
        let first = self.lists[list].replace(index);
        frame.set_state(State::Free { order });
        frame.set_prev(None);
        frame.set_next(first);
        if let Some(first) = first {
            inventory.frame(first).set_prev(Some(index));
        }
        self.blocks[list] += 1;
        self.occupied |= 1 << list;
        self.free += order.frames() as usize;
        if order < Order::BLOCK_2M {
            let block = inventory.block(index);
            block.set_small_free(block.small_free() + order.frames() as u16);
        }
    }

    fn unlink(&mut self, inventory: &Inventory, index: Index, order: Order) {
        let list = usize::from(order.get());
        let frame = inventory.frame(index);
        let (prev, next) = (frame.prev(), frame.next());
        match prev {
            Some(prev) => inventory.frame(prev).set_next(next),
            None => self.lists[list] = next,
        }
        if let Some(next) = next {
            inventory.frame(next).set_prev(prev);
        }
        self.blocks[list] -= 1;
        if self.lists[list].is_none() {
            self.occupied &= !(1 << list);
        }
        self.free -= order.frames() as usize;
        if order < Order::BLOCK_2M {
            let block = inventory.block(index);
            block.set_small_free(block.small_free() - order.frames() as u16);
        }
    }
}
