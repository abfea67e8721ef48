//! Allocating and freeing.
//!
//! Owns the calls that take blocks out of the free memory and put them back, and their errors.

use super::frame::Index;
use super::linear::LinearMap;
use super::state::{Order, State, Use, UseIndex};
use super::{Contents, FrameAllocator};
use core::fmt;
use core::sync::atomic::Ordering;
use stage2::{PAGE_SIZE, Pa};

/// There is no free block of this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames {
    /// What was asked for.
    pub order: Order,
}

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no free block of {} KiB of physical memory",
            self.order.bytes() / 1024
        )
    }
}

impl core::error::Error for OutOfFrames {}

/// Why something could not be done to an allocated block: it is not what the caller thinks. That is
/// a mistake of the caller, such as freeing a block twice. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The block in question.
    pub pa: Pa,
    /// The state of its first frame; none if there is no such frame, or `pa` is no multiple of
    /// 4 KiB.
    pub found: Option<State>,
}

impl Refused {
    /// Logs the mistake, which must not go unseen, and returns it.
    #[cold]
    pub(super) fn log(pa: Pa, found: Option<State>, doing: &str, order: Order) -> Self {
        log::error!("refused to {doing} the block of order {order} at {pa}: found {found:?} there");
        Self { pa, found }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the block at {} is not what it was taken for, but {:?}",
            self.pa, self.found
        )
    }
}

impl core::error::Error for Refused {}

/// The largest order for which the CPUs' caches are emptied when the buddy has no block left: that
/// is worth it for what the hypervisor cannot do without, tables and their concatenated roots.
const WORTH_DRAINING: u8 = 4;

impl<M: LinearMap> FrameAllocator<M> {
    /// Allocates a block of `order`, aligned to its size, to be used as `used`.
    ///
    /// With [`Contents::Dirty`] it may contain what another VM left there: the caller overwrites
    /// all of it before any guest can see it.
    #[inline]
    pub fn alloc(
        &self,
        cpu: usize,
        order: Order,
        contents: Contents,
        used: Use,
    ) -> Result<Pa, OutOfFrames> {
        if order == Order::PAGE
            && let Some(cache) = self.caches.get(cpu)
        {
            let mut stock = cache.lock();
            if let Some(index) = stock.pop(contents) {
                stock.tally.add(UseIndex::of(used), 1);
                self.inventory
                    .frame(index)
                    .set_state(State::Allocated { used, order });
                drop(stock);
                return Ok(self.inventory.pa(index));
            }
        }
        self.alloc_elsewhere(cpu, order, contents, used)
    }

    /// Frees a block that was allocated, split or joined to have `order`.
    ///
    /// No translation, guest's or hypervisor's, may lead to it any more: the next owner could be
    /// another VM.
    #[inline]
    pub fn free(&self, cpu: usize, pa: Pa, order: Order) -> Result<(), Refused> {
        self.free_with(cpu, pa, order, Contents::Dirty)
    }

    /// As [`FrameAllocator::free`], for a single frame of which the caller knows that it is all
    /// zeros, such as a table without entries: it need not be cleared again.
    #[inline]
    pub fn free_zeroed(&self, cpu: usize, pa: Pa) -> Result<(), Refused> {
        self.free_with(cpu, pa, Order::PAGE, Contents::Zeroed)
    }

    /// Clears a free frame of this CPU's cache, so that a later allocation need not; for idle CPUs.
    /// Whether there was something to do.
    pub fn zero_ahead(&self, cpu: usize) -> bool {
        if self
            .caches
            .get(cpu)
            .is_none_or(|cache| cache.lock().has_zeroed_batch())
        {
            return false;
        }
        // Allocated meanwhile, so that nobody else can take it and no lock is held.
        match self.alloc(cpu, Order::PAGE, Contents::Dirty, Use::Hypervisor) {
            Ok(pa) => {
                // SAFETY: the frame was just allocated, so it is RAM and nobody else uses it.
                unsafe { self.map.zero(pa, PAGE_SIZE) };
                self.free_zeroed(cpu, pa).is_ok()
            }
            Err(OutOfFrames { .. }) => false,
        }
    }

    /// Gives the frames in all CPUs' caches back, so that they can be joined to larger blocks and
    /// serve other CPUs.
    pub fn drain_caches(&self) {
        for cache in self.caches.iter() {
            let mut stock = cache.lock();
            stock.drain(&mut self.buddy.lock(), &self.inventory);
        }
    }

    #[inline(never)]
    fn alloc_elsewhere(
        &self,
        cpu: usize,
        order: Order,
        contents: Contents,
        used: Use,
    ) -> Result<Pa, OutOfFrames> {
        let becomes = State::Allocated { used, order };
        let (index, known) = self
            .take_page(cpu, order, becomes)
            .or_else(|| self.take_block(order, becomes))
            .or_else(|| {
                if order.get() > WORTH_DRAINING {
                    return None;
                }
                self.drain_caches();
                self.take_block(order, becomes)
            })
            .ok_or(OutOfFrames { order })?;
        let pa = self.inventory.pa(index);
        if contents == Contents::Zeroed && known == Contents::Dirty {
            // SAFETY: the block was just taken out of the free memory, so it is RAM of a range
            // that the allocator was made with, and nobody else uses it.
            unsafe { self.map.zero(pa, order.bytes()) };
        }
        Ok(pa)
    }

    /// Takes a single frame from the CPU's cache, after refilling that if need be.
    fn take_page(&self, cpu: usize, order: Order, becomes: State) -> Option<(Index, Contents)> {
        if order != Order::PAGE {
            return None;
        }
        let mut stock = self.caches.get(cpu)?.lock();
        let taken = match stock.pop(Contents::Dirty) {
            Some(index) => (index, Contents::Dirty),
            None => {
                stock.refill(&mut self.buddy.lock(), &self.inventory);
                let dirty = stock
                    .pop(Contents::Dirty)
                    .map(|index| (index, Contents::Dirty));
                dirty.or_else(|| Some((stock.pop(Contents::Zeroed)?, Contents::Zeroed)))?
            }
        };
        if let State::Allocated { used, .. } = becomes {
            stock.tally.add(UseIndex::of(used), 1);
        }
        self.inventory.frame(taken.0).set_state(becomes);
        Some(taken)
    }

    /// Takes a block from the buddy.
    fn take_block(&self, order: Order, becomes: State) -> Option<(Index, Contents)> {
        let mut buddy = self.buddy.lock();
        let index = buddy.take(&self.inventory, order, becomes)?;
        if let State::Allocated { used, .. } = becomes {
            buddy.tally.add(UseIndex::of(used), order.frames());
        }
        Some((index, Contents::Dirty))
    }

    #[inline]
    fn free_with(
        &self,
        cpu: usize,
        pa: Pa,
        order: Order,
        contents: Contents,
    ) -> Result<(), Refused> {
        let refused = |found| Refused::log(pa, found, "free", order);
        let index = self.first_frame(pa).ok_or_else(|| refused(None))?;
        if order != Order::PAGE {
            return self
                .free_block(index, order)
                .map_err(|found| refused(Some(found)));
        }
        let Some(cache) = self.caches.get(cpu) else {
            return self
                .free_block(index, order)
                .map_err(|found| refused(Some(found)));
        };
        let mut stock = cache.lock();
        match self.inventory.frame(index).end_use(order, State::Cached) {
            Ok(used) => stock.tally.subtract(used, 1),
            Err(found) => {
                drop(stock);
                return Err(refused(Some(found)));
            }
        }
        if self.is_isolated(index) {
            self.buddy.lock().give_back(&self.inventory, index, order);
        } else {
            stock.push(index, contents, &self.inventory, &self.buddy);
        }
        Ok(())
    }

    /// Frees a block past the caches.
    #[inline(never)]
    fn free_block(&self, index: Index, order: Order) -> Result<(), State> {
        let mut buddy = self.buddy.lock();
        let used = self.inventory.frame(index).end_use(order, State::Tail)?;
        buddy.tally.subtract(used, order.frames());
        buddy.give_back(&self.inventory, index, order);
        Ok(())
    }

    /// Whether a frame must not go to a cache, because its 2 MiB block is being isolated.
    ///
    /// Asked under a cache's lock. An isolation announces itself and then drains every cache, under
    /// that cache's lock: either it finds the frame there, or it is seen here.
    #[inline]
    fn is_isolated(&self, index: Index) -> bool {
        self.isolations.load(Ordering::Relaxed) != 0 && self.inventory.block(index).held().is_some()
    }

    /// The place of the frame that begins at `pa`.
    #[inline]
    pub(super) fn first_frame(&self, pa: Pa) -> Option<Index> {
        if pa.get() & (PAGE_SIZE - 1) != 0 {
            return None;
        }
        self.inventory.index(pa)
    }
}
