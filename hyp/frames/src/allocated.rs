//! What becomes of allocated blocks: their use, and their size.
//!
//! Owns the calls that change an allocated block without freeing it, and the reverse map's
//! question: what is this frame used for? A block's owner makes the changes; two at a time on one
//! block would be a mistake of its owner, and is refused where it shows.

use super::FrameAllocator;
use super::alloc::Refused;
use super::frame::Index;
use super::linear::LinearMap;
use super::state::{Order, Packed, State, Use};
use stage2::Pa;

impl<M: LinearMap> FrameAllocator<M> {
    /// What the frame that contains `pa` is used for: in a block the use of just this frame, with
    /// its own address. None if it is free, or not the allocator's.
    ///
    /// A hint unless the caller owns the frame: who acts on it checks again, under the lock of the
    /// table that maps it.
    pub fn use_of(&self, pa: Pa) -> Option<Use> {
        let index = self.inventory.index(pa)?;
        if let State::Allocated { used, .. } = self.inventory.frame(index).state() {
            return Some(used);
        }
        // Somewhere in a block: look for the first frame that has a block which reaches this far.
        Order::all().skip(1).find_map(|larger| {
            let first = self.first_of_block(index, larger)?;
            match self.inventory.frame(first).state() {
                State::Allocated { used, order } if order >= larger => {
                    Some(used.at(index.0 - first.0))
                }
                _ => None,
            }
        })
    }

    /// Changes what the block that begins at `pa` is used for, from `from` to `to`; its size stays.
    /// The frame of a reservation becomes data so when it is mapped, and data gets its new address.
    pub fn change_use(&self, cpu: usize, pa: Pa, from: Use, to: Use) -> Result<(), Refused> {
        let found = self.packed(pa);
        let order = match found.state() {
            State::Allocated { order, .. } => order,
            _ => Order::PAGE,
        };
        self.exchange_use(cpu, pa, order, from, to)
            .map_err(|found| Refused::log(pa, found, "change the use of", order))
    }

    /// As [`FrameAllocator::change_use`] for a single frame, where another use than `from` is no
    /// mistake: of several who try only one succeeds. Says whether this one did.
    // Always inline: a fault in a reservation knows both uses, and their words take little to make
    // then.
    #[inline(always)]
    pub fn try_change_use(&self, cpu: usize, pa: Pa, from: Use, to: Use) -> bool {
        self.exchange_use(cpu, pa, Order::PAGE, from, to).is_ok()
    }

    /// Makes single frames of the allocated block of `order` that begins at `pa`, so that they can
    /// be freed one by one. Each has the use that it had as a part of the block.
    pub fn split(&self, pa: Pa, order: Order) -> Result<(), Refused> {
        let (first, used) = self.allocated(pa, order, "split")?;
        self.write_single(first, used, order);
        Ok(())
    }

    /// Makes one block of `order` of the allocated single frames that begin at `pa`, the reverse
    /// of [`FrameAllocator::split`]. They must all have the same use, at rising addresses.
    pub fn join(&self, pa: Pa, order: Order) -> Result<(), Refused> {
        let (first, used) = self.allocated(pa, Order::PAGE, "join")?;
        let refused = |pa| Refused::log(pa, self.packed(pa), "join to", order);
        if self.first_of_block(first, order) != Some(first) {
            return Err(refused(pa));
        }
        for offset in 1..order.frames() {
            let index = first.plus(offset);
            let wanted = Packed::allocated(used.at(offset), Order::PAGE);
            if self.inventory.frame(index).packed() != wanted {
                return Err(refused(self.inventory.pa(index)));
            }
        }
        // The first frame first: from then on all of the block is seen as one.
        let whole = Packed::allocated(used, order);
        self.inventory.frame(first).set_packed(whole);
        for offset in 1..order.frames() {
            self.inventory
                .frame(first.plus(offset))
                .set_packed(Packed::TAIL);
        }
        Ok(())
    }

    /// Makes single frames of the 2 MiB block of a guest's data that contains a frame, if it is in
    /// one; says whether it is a frame of its own now.
    ///
    /// So a block whose memory the guest has as a whole costs one word of metadata, and the other
    /// 511 are written when it turns out that it is given back in parts.
    #[cold]
    #[inline(never)]
    pub(super) fn break_up(&self, index: Index) -> bool {
        let first = index.block();
        // Two CPUs may give back two of its pages at the same moment: one of them breaks it up.
        let _one_at_a_time = self.buddy.lock();
        if let State::Allocated {
            used: used @ Use::Data { .. },
            order: Order::BLOCK_2M,
        } = self.inventory.frame(first).state()
        {
            self.write_single(first, used, Order::BLOCK_2M);
        }
        self.inventory
            .frame(index)
            .packed()
            .is_allocated(Order::PAGE)
    }

    /// Frees a 2 MiB block of a guest's data that the guest had as a whole, whether or not it was
    /// broken up since. Where frames of it are not used alike, nothing is freed.
    pub fn free_whole(&self, cpu: usize, pa: Pa) -> Result<(), Refused> {
        if !self.packed(pa).is_allocated(Order::BLOCK_2M) {
            self.join(pa, Order::BLOCK_2M)?;
        }
        self.free(cpu, pa, Order::BLOCK_2M)
    }

    fn write_single(&self, first: Index, used: Use, order: Order) {
        // The first frame last: until then all of the block is seen as one.
        let last = order.frames() - 1;
        let mut state = Packed::allocated(used.at(last), Order::PAGE);
        let step = state.page_step();
        for frame in self.inventory.frames_of(first, order).iter().rev() {
            frame.set_packed(state);
            state = state.minus(step);
        }
    }

    #[inline(always)]
    fn exchange_use(
        &self,
        cpu: usize,
        pa: Pa,
        order: Order,
        from: Use,
        to: Use,
    ) -> Result<(), Packed> {
        let (_, frame) = self.first_frame(pa).ok_or(Packed::ABSENT)?;
        if from == Use::Table && frame.table().is_table() {
            // No guest is ever given one.
            return Err(frame.packed());
        }
        let (from, to) = (Packed::allocated(from, order), Packed::allocated(to, order));
        frame.change_state(from, to)?;
        let (from, to) = (from.use_index(), to.use_index());
        if from != to {
            match self.caches.get(cpu) {
                Some(cache) => cache.lock().tally.change(from, to, order.frames()),
                None => self.buddy.lock().tally.change(from, to, order.frames()),
            }
        }
        Ok(())
    }

    /// The first frame, and the use, of the allocated block of `order` that begins at `pa`.
    fn allocated(&self, pa: Pa, order: Order, doing: &str) -> Result<(Index, Use), Refused> {
        let found = self.packed(pa);
        match (self.first_frame(pa), found.state()) {
            (Some((index, _)), State::Allocated { used, order: is }) if is == order => {
                Ok((index, used))
            }
            _ => Err(Refused::log(pa, found, doing, order)),
        }
    }

    /// The state of the frame that begins at `pa`.
    fn packed(&self, pa: Pa) -> Packed {
        self.first_frame(pa)
            .map_or(Packed::ABSENT, |(_, frame)| frame.packed())
    }

    /// The first frame of the aligned block of `order` that contains `index`, if all of that block
    /// is in one region.
    fn first_of_block(&self, index: Index, order: Order) -> Option<Index> {
        let pa = self.inventory.pa(index).get();
        let first = self.inventory.index(Pa::new(pa & !(order.bytes() - 1)))?;
        // A hole between regions would show as a different distance in the array.
        let last = self.inventory.index(Pa::new(pa | (order.bytes() - 1)))?;
        (last.0 - first.0 == order.frames() - 1).then_some(first)
    }
}
