//! The free blocks of all orders.
//!
//! Owns the lists of free blocks, strung together through the frames' metadata, and what is counted
//! with them. All of it is behind one lock, the last in the allocator's lock order: nothing else is
//! locked while it is held, and the time it is held does not grow with the size of memory.
//!
//! Invariants:
//! - A block is in list *n* if and only if its first frame is `Free` of order *n*; its other frames
//!   are `Tail`.
//! - A block below 2 MiB is in a list of the [`Mobility`] of the 2 MiB block that it is part of,
//!   which changes only while none of its parts is in a list. Larger ones are in those for what can
//!   be moved.
//! - No two buddies of one order are both free: they are joined at once.
//! - What is given back inside an isolated 2 MiB block goes to the isolation, not to a list.
//!
//! A single frame that stays where it is keeps a 2 MiB block from ever being made free by moving.
//! So those are kept together: 2 MiB blocks are broken up for what is movable or for what is fixed,
//! and small blocks are taken from those of their kind. Where neither those nor a whole 2 MiB block
//! is left, a fixed frame takes over a 2 MiB block of the other kind, with all that is free in it,
//! so that the next fixed one finds its place there; a movable frame takes a single small block,
//! since it can leave again.

use super::frame::Index;
use super::inventory::Inventory;
use super::state::{Mobility, Order, Packed, State};
use super::usage::Tally;

/// Room for the lists of both mobilities: a power of two, so that a place need not be checked.
const PLACES: usize = 64;

/// Where the list of blocks of this order and mobility is.
const fn place(mobility: Mobility, order: Order) -> usize {
    const { assert!(Order::COUNT <= PLACES / Mobility::COUNT) };
    (mobility as usize * (PLACES / Mobility::COUNT) + order.get() as usize) % PLACES
}

pub(super) struct Buddy {
    /// First block of each list, at its [`place`].
    lists: [Option<Index>; PLACES],
    /// Blocks of each order.
    blocks: [usize; Order::COUNT],
    /// Bit *n*: the list at place *n* has a block.
    occupied: u64,
    /// Frames in all lists.
    free: usize,
    /// The fewest frames that the lists ever held.
    low_water: usize,
    /// Frames held by isolations.
    isolated: usize,
    /// Uses counted by callers that hold the buddy's lock and no cache's.
    pub(super) tally: Tally,
}

impl Buddy {
    pub(super) const fn new() -> Self {
        Self {
            lists: [None; PLACES],
            blocks: [0; Order::COUNT],
            occupied: 0,
            free: 0,
            low_water: 0,
            isolated: 0,
            tally: Tally::new(),
        }
    }

    /// Takes a block of `order` out of the lists, for what can be moved or not, and gives it the
    /// state `becomes`. The smallest block that will do is used, and what is too much of it goes
    /// back into the lists.
    pub(super) fn take(
        &mut self,
        inventory: &Inventory,
        order: Order,
        mobility: Mobility,
        becomes: Packed,
    ) -> Option<Index> {
        let (of, found) = self.find(inventory, order, mobility)?;
        let index = self.first(of, found)?;
        self.unlink(inventory, index, found);
        if found >= Order::BLOCK_2M {
            inventory.block(index).set_mobility(mobility);
        }
        for lower in Order::range(order, found).rev() {
            self.push(inventory, index.plus(lower.frames()), lower);
        }
        inventory.frame(index).set_packed(becomes);
        self.low_water = self.low_water.min(self.free);
        Some(index)
    }

    /// Takes single frames for a CPU's cache, for what can be moved or not, and hands each to `to`
    /// as `Cached`: those of one block of `batch`, or, while there are smaller ones, about half as
    /// many, so that small blocks are used up and a larger one is taken whole. Never more than one
    /// and a half of `batch`.
    pub(super) fn take_for_cache(
        &mut self,
        inventory: &Inventory,
        batch: Order,
        mobility: Mobility,
        mut to: impl FnMut(Index),
    ) {
        let mut taken = 0;
        while taken < batch.frames() / 2
            && let Some((_, smallest)) = self.find(inventory, Order::PAGE, mobility)
            && let order = smallest.min(batch)
            && let Some(first) = self.take(inventory, order, mobility, Packed::CACHED)
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
        self.clear_isolation(inventory, block);
        for (index, state) in inventory.heads(block) {
            if let State::Isolated { order } = state {
                self.give_back(inventory, index, order);
            }
        }
    }

    /// Ends the isolation of the 2 MiB block that starts at `block`, whose frames the caller takes.
    pub(super) fn clear_isolation(&mut self, inventory: &Inventory, block: Index) {
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

    /// The list from which a block of `order` is best taken: of which mobility, and of which order.
    fn find(
        &mut self,
        inventory: &Inventory,
        order: Order,
        mobility: Mobility,
    ) -> Option<(Mobility, Order)> {
        let whole = order.max(Order::BLOCK_2M);
        let own = (self.smallest_from(order, mobility))
            .or_else(|| self.smallest_from(whole, Mobility::Movable));
        own.or_else(|| match mobility {
            Mobility::Movable => self.smallest_from(order, Mobility::Fixed),
            Mobility::Fixed => {
                self.take_over(inventory, order)?;
                self.smallest_from(order, Mobility::Fixed)
            }
        })
    }

    /// The list of the smallest order, from `order` on, of this mobility that has a block.
    fn smallest_from(&self, order: Order, mobility: Mobility) -> Option<(Mobility, Order)> {
        let occupied = self.occupied_of(mobility) >> order.get();
        if occupied == 0 {
            return None;
        }
        let found = Order::new(order.get() + occupied.trailing_zeros() as u8)?;
        Some((mobility, found))
    }

    fn first(&self, mobility: Mobility, order: Order) -> Option<Index> {
        self.lists[place(mobility, order)]
    }

    /// Bit *n*: there is a block of order *n* for this mobility.
    fn occupied_of(&self, mobility: Mobility) -> u32 {
        (self.occupied >> place(mobility, Order::PAGE)) as u32
    }

    /// Makes the 2 MiB block that has the largest free part of those for what is movable one for
    /// what is fixed; none if that part is smaller than `order`. There is no whole 2 MiB block.
    #[cold]
    fn take_over(&mut self, inventory: &Inventory, order: Order) -> Option<()> {
        let largest = self.occupied_of(Mobility::Movable).checked_ilog2()?;
        let largest = Order::new(largest as u8).filter(|&largest| largest >= order)?;
        let block = self.first(Mobility::Movable, largest)?.block();
        let parts = || {
            inventory
                .heads(block)
                .filter_map(|(index, state)| match state {
                    State::Free { order } => Some((index, order)),
                    _ => None,
                })
        };
        parts().for_each(|(index, order)| self.unlink(inventory, index, order));
        inventory.frame(block).set_mobility(Mobility::Fixed);
        parts().for_each(|(index, order)| self.push(inventory, index, order));
        Some(())
    }

    /// Notes in the 2 MiB block that free blocks of it have so many frames more, or fewer, and says
    /// where the list is that a block of `order` belongs in.
    #[inline]
    fn place_of(inventory: &Inventory, index: Index, order: Order, change: i32) -> usize {
        if order >= Order::BLOCK_2M {
            return place(Mobility::Movable, order);
        }
        let block = inventory.block(index);
        block.set_small_free((i32::from(block.small_free()) + change) as u16);
        place(block.mobility(), order)
    }

    fn push(&mut self, inventory: &Inventory, index: Index, order: Order) {
        let place = Self::place_of(inventory, index, order, order.frames() as i32);
        let frame = inventory.frame(index);
        let first = self.lists[place].replace(index);
        frame.set_state(State::Free { order });
        frame.set_prev(None);
        frame.set_next(first);
        if let Some(first) = first {
            inventory.frame(first).set_prev(Some(index));
        }
        self.blocks[usize::from(order.get())] += 1;
        self.occupied |= 1 << place;
        self.free += order.frames() as usize;
    }

    fn unlink(&mut self, inventory: &Inventory, index: Index, order: Order) {
        let place = Self::place_of(inventory, index, order, -(order.frames() as i32));
        let frame = inventory.frame(index);
        let (prev, next) = (frame.prev(), frame.next());
        match prev {
            Some(prev) => inventory.frame(prev).set_next(next),
            None => {
                debug_assert_eq!(self.lists[place], Some(index), "another list's block");
                self.lists[place] = next;
            }
        }
        if let Some(next) = next {
            inventory.frame(next).set_prev(prev);
        }
        self.blocks[usize::from(order.get())] -= 1;
        if self.lists[place].is_none() {
            self.occupied &= !(1 << place);
        }
        self.free -= order.frames() as usize;
    }
}
