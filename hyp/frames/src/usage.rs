//! What memory is used for, in figures.
//!
//! Owns [`Tally`], the counts that each CPU keeps of its own doings, and [`Usage`], their sum. A
//! frame may be allocated on one CPU and freed on another: only the sum over all tallies means
//! something, and single counts wrap around.

use super::FrameAllocator;
use super::linear::LinearMap;
use super::state::{Order, UseIndex};
use core::fmt;
use stage2::PAGE_SIZE;

/// Frames per kind of [`Use`](super::Use).
pub(super) struct Tally([usize; UseIndex::COUNT]);

impl Tally {
    pub(super) const fn new() -> Self {
        Self([0; UseIndex::COUNT])
    }

    #[inline]
    pub(super) fn add(&mut self, used: UseIndex, frames: u32) {
        let count = &mut self.0[used.get()];
        *count = count.wrapping_add(frames as usize);
    }

    #[inline]
    pub(super) fn subtract(&mut self, used: UseIndex, frames: u32) {
        let count = &mut self.0[used.get()];
        *count = count.wrapping_sub(frames as usize);
    }

    pub(super) fn change(&mut self, from: UseIndex, to: UseIndex, frames: u32) {
        self.subtract(from, frames);
        self.add(to, frames);
    }

    fn add_all(&mut self, other: &Tally) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(count);
        }
    }

    fn get(&self, used: UseIndex) -> usize {
        self.0[used.get()]
    }
}

/// Where the frames are, each number in 4 KiB frames unless it says otherwise.
///
/// The CPUs are asked one after the other: exact when nothing is allocated or freed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// All that the allocator may hand out.
    pub total: usize,
    /// In free blocks.
    pub free: usize,
    /// Number of free blocks of each order.
    pub free_blocks: [usize; Order::COUNT],
    /// Free, in the CPUs' caches and their blocks ahead.
    pub cached: usize,
    /// Free, held by isolations.
    pub isolated: usize,
    /// Used by the hypervisor itself.
    pub hypervisor: usize,
    /// Used as translation tables.
    pub tables: usize,
    /// Guests' memory.
    pub data: usize,
    /// Set aside for guests.
    pub reserved: usize,
    /// The fewest frames that the free blocks ever held; those in caches are not among them.
    pub low_water: usize,
}

impl<M: LinearMap> FrameAllocator<M> {
    /// Where the frames are. Takes every CPU's cache for a moment, one after the other.
    pub fn usage(&self) -> Usage {
        let mut sum = Tally::new();
        let mut cached = 0;
        for cache in self.caches.iter() {
            cached += cache.ahead.lock().len();
            let stock = cache.lock();
            sum.add_all(&stock.tally);
            cached += stock.len();
        }
        let buddy = self.buddy.lock();
        sum.add_all(&buddy.tally);
        Usage {
            total: self.total,
            free: buddy.free(),
            free_blocks: buddy.blocks(),
            cached,
            isolated: buddy.isolated(),
            hypervisor: sum.get(UseIndex::HYPERVISOR),
            tables: sum.get(UseIndex::TABLE),
            data: sum.get(UseIndex::DATA),
            reserved: sum.get(UseIndex::RESERVED),
            low_water: buddy.low_water(),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |frames: usize| frames as u64 * PAGE_SIZE / 1024;
        write!(
            f,
            "{} KiB: {} free (lowest {}), {} cached, {} isolated, {} hypervisor, {} tables, {} data, {} reserved",
            kib(self.total),
            kib(self.free),
            kib(self.low_water),
            kib(self.cached),
            kib(self.isolated),
            kib(self.hypervisor),
            kib(self.tables),
            kib(self.data),
            kib(self.reserved),
        )
    }
}
