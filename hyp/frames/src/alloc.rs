//! Allocating and freeing.
//!
//! Owns the calls that take blocks out of the free memory and put them back, and their errors.

use super::cache::CpuCache;
use super::frame::{Frame, Index};
use super::linear::LinearMap;
use super::state::{Mobility, Order, Packed, State, Use, UseIndex};
use super::{Fill, FrameAllocator};
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
    /// The state of its first frame; `Absent` also if `pa` is no multiple of 4 KiB.
    pub found: State,
}

impl Refused {
    /// Logs the mistake, which must not go unseen, and returns it.
    #[cold]
    pub(super) fn log(pa: Pa, found: Packed, doing: &str, order: Order) -> Self {
        let found = found.state();
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
    /// With [`Fill::Dirty`] it may contain what another VM left there: the caller overwrites
    /// all of it before any guest can see it.
    // Always inline: `used` is mostly constant, and is packed when this is compiled then.
    #[inline(always)]
    pub fn alloc(
        &self,
        cpu: usize,
        order: Order,
        fill: Fill,
        used: Use,
    ) -> Result<Pa, OutOfFrames> {
        let becomes = Packed::allocated(used, order);
        let found = if order == Order::PAGE {
            self.alloc_page(cpu, fill, becomes)
        } else if order == Order::BLOCK_2M && fill == Fill::Zeroed {
            self.take_prezeroed(cpu, becomes)
                .or_else(|| self.alloc_elsewhere(cpu, order, fill, becomes))
        } else {
            self.alloc_elsewhere(cpu, order, fill, becomes)
        };
        found.ok_or(OutOfFrames { order })
    }

    /// Frees a block that was allocated, split or joined to have `order`, or a single frame of a 2
    /// MiB block of a guest's data: the others become single frames then, too.
    ///
    /// No translation, guest's or hypervisor's, may lead to it any more: the next owner could be
    /// another VM.
    #[inline]
    pub fn free(&self, cpu: usize, pa: Pa, order: Order) -> Result<(), Refused> {
        let freed = if order == Order::PAGE {
            self.free_page(cpu, pa, Fill::Dirty)
        } else {
            self.free_block(pa, order)
        };
        freed.map_err(|found| Refused::log(pa, found, "free", order))
    }

    /// As [`FrameAllocator::free`], for a single frame of which the caller knows that it is all
    /// zeros, such as a table without entries: it need not be cleared again.
    pub fn free_zeroed(&self, cpu: usize, pa: Pa) -> Result<(), Refused> {
        let freed = self.free_page(cpu, pa, Fill::Zeroed);
        freed.map_err(|found| Refused::log(pa, found, "free", Order::PAGE))
    }

    /// Clears a page of free memory, so that a later allocation on this CPU need not; for idle
    /// CPUs. Whether there was something to do.
    pub fn prezero(&self, cpu: usize) -> bool {
        self.prezero_page(cpu) || self.prezero_block(cpu)
    }

    /// Clears a free frame of this CPU's cache; whether there was one to be cleared.
    fn prezero_page(&self, cpu: usize) -> bool {
        let Some(cache) = self.caches.get(cpu) else {
            return false;
        };
        // Allocated meanwhile, so that nobody else can take it and no lock is held.
        let becomes = Packed::allocated(Use::Hypervisor, Order::PAGE);
        let used = becomes.use_index();
        let take = |mobility| Some((self.take_to_zero(cache, mobility, used)?, mobility));
        let Some((index, mobility)) = Mobility::ALL.into_iter().find_map(take) else {
            return false;
        };
        let (frame, pa) = self.inventory.resolve(index);
        frame.set_packed(becomes);
        // SAFETY: the frame was just taken out of the cache, so it is RAM of a range that the
        // allocator was made with, and nobody else uses it.
        unsafe { self.map.zero(pa, PAGE_SIZE) };
        // Back to where it came from, also if that is not its block's kind: else the place that it
        // leaves would be filled again and again.
        let ended = frame.end_use(Order::PAGE, Packed::TAIL);
        ended.is_ok_and(|used| {
            self.put_page_for(cpu, index, Fill::Zeroed, used, mobility);
            true
        })
    }

    /// Takes a frame out of a cache that is to be zeroed, unless enough are.
    fn take_to_zero(&self, cache: &CpuCache, mobility: Mobility, used: UseIndex) -> Option<Index> {
        let mut stock = cache.lock();
        if stock.has_zeroed_batch(mobility) {
            return None;
        }
        if !stock.has(mobility, Fill::Dirty) {
            stock.refill(mobility, &mut self.buddy.lock(), &self.inventory);
        }
        stock.pop_from(mobility, Fill::Dirty, used)
    }

    /// Gives the frames in all CPUs' caches back, so that they can be joined to larger blocks and
    /// serve other CPUs.
    pub fn drain_caches(&self) {
        self.give_back_prezeroed();
        for cache in self.caches.iter() {
            let mut stock = cache.lock();
            stock.drain(&mut self.buddy.lock(), &self.inventory);
        }
    }

    #[inline(always)]
    fn alloc_page(&self, cpu: usize, fill: Fill, becomes: Packed) -> Option<Pa> {
        if let Some(cache) = self.caches.get(cpu)
            && let Some((index, known)) = cache.pop(fill, becomes.use_index())
        {
            let (frame, pa) = self.inventory.resolve(index);
            frame.set_packed(becomes);
            if fill == Fill::Zeroed && known == Fill::Dirty {
                // SAFETY: the frame was just taken out of the cache, so it is RAM of a range that
                // the allocator was made with, and nobody else uses it.
                unsafe { self.map.zero(pa, PAGE_SIZE) };
            }
            return Some(pa);
        }
        self.alloc_elsewhere(cpu, Order::PAGE, fill, becomes)
    }

    /// Allocates what the CPU does not have at hand.
    #[inline(never)]
    fn alloc_elsewhere(&self, cpu: usize, order: Order, fill: Fill, becomes: Packed) -> Option<Pa> {
        let (index, known) = self
            .take_page(cpu, order, becomes)
            .or_else(|| self.take_block(order, becomes))
            .or_else(|| {
                if order.get() > WORTH_DRAINING {
                    self.give_back_prezeroed();
                } else {
                    self.drain_caches();
                }
                self.take_block(order, becomes)
            })?;
        let pa = self.inventory.pa(index);
        if fill == Fill::Zeroed && known == Fill::Dirty {
            // SAFETY: the block was just taken out of the free memory, so it is RAM of a range
            // that the allocator was made with, and nobody else uses it.
            unsafe { self.map.zero(pa, order.bytes()) };
        }
        Some(pa)
    }

    /// Takes a single frame with any contents from the CPU's cache, after refilling that if need
    /// be, and says what it contains. With none left in the buddy, what the CPU has of the other
    /// mobility will do, before all caches are emptied for it.
    fn take_page(&self, cpu: usize, order: Order, becomes: Packed) -> Option<(Index, Fill)> {
        if order != Order::PAGE {
            return None;
        }
        let (index, fill) = {
            let used = becomes.use_index();
            let mobility = used.mobility();
            let mut stock = self.caches.get(cpu)?.lock();
            if !stock.has(mobility, Fill::Dirty) {
                stock.refill(mobility, &mut self.buddy.lock(), &self.inventory);
            }
            let stacks = [mobility, mobility.other()]
                .into_iter()
                .flat_map(|mobility| [Fill::Dirty, Fill::Zeroed].map(|fill| (mobility, fill)));
            let take = |(mobility, fill)| {
                let index = stock.pop_from(mobility, fill, used)?;
                Some((index, fill))
            };
            stacks.into_iter().find_map(take)?
        };
        self.inventory.frame(index).set_packed(becomes);
        Some((index, fill))
    }

    /// Takes a block from the buddy.
    fn take_block(&self, order: Order, becomes: Packed) -> Option<(Index, Fill)> {
        let mut buddy = self.buddy.lock();
        let used = becomes.use_index();
        let index = buddy.take(&self.inventory, order, used.mobility(), becomes)?;
        buddy.tally.add(used, order.frames());
        Some((index, Fill::Dirty))
    }

    /// Frees a single frame, or says what was found in its place.
    fn free_page(&self, cpu: usize, pa: Pa, fill: Fill) -> Result<(), Packed> {
        let (index, frame) = self.first_frame(pa).ok_or(Packed::ABSENT)?;
        let ended = frame.end_use(Order::PAGE, Packed::TAIL);
        let used = match ended {
            Err(_) if self.break_up(index) => frame.end_use(Order::PAGE, Packed::TAIL)?,
            ended => ended?,
        };
        self.put_page(cpu, index, fill, used);
        Ok(())
    }

    /// Makes a single frame free that nobody uses any more, and which is `Tail`: puts it into the
    /// CPU's cache.
    #[inline]
    pub(super) fn put_page(&self, cpu: usize, index: Index, fill: Fill, used: UseIndex) {
        let mobility = self.inventory.block(index).mobility();
        self.put_page_for(cpu, index, fill, used, mobility);
    }

    /// As [`FrameAllocator::put_page`], to be used next for what is of this mobility.
    // Always inline: the contents are mostly constant.
    #[inline(always)]
    fn put_page_for(
        &self,
        cpu: usize,
        index: Index,
        fill: Fill,
        used: UseIndex,
        mobility: Mobility,
    ) {
        let Some(cache) = self.caches.get(cpu) else {
            let mut buddy = self.buddy.lock();
            buddy.tally.subtract(used, 1);
            return buddy.give_back(&self.inventory, index, Order::PAGE);
        };
        let mut stock = cache.lock();
        stock.tally.subtract(used, 1);
        if self.is_isolated(index) {
            self.buddy
                .lock()
                .give_back(&self.inventory, index, Order::PAGE);
        } else {
            let stack = stock.stack(mobility, fill);
            if stack.is_full() {
                stack.make_room(&mut self.buddy.lock(), &self.inventory);
            }
            self.inventory.frame(index).set_packed(Packed::CACHED);
            stack.push(index);
        }
    }

    /// Frees a block past the caches, or says what was found in its place.
    #[inline(never)]
    fn free_block(&self, pa: Pa, order: Order) -> Result<(), Packed> {
        let (index, frame) = self.first_frame(pa).ok_or(Packed::ABSENT)?;
        let used = frame.end_use(order, Packed::TAIL)?;
        let mut buddy = self.buddy.lock();
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

    /// The frame that begins at `pa`.
    #[inline]
    pub(super) fn first_frame(&self, pa: Pa) -> Option<(Index, &Frame)> {
        if pa.get() & (PAGE_SIZE - 1) != 0 {
            return None;
        }
        self.inventory.locate(pa)
    }
}
