//! Which RAM there is, and the metadata of its frames.
//!
//! Owns `Inventory`: the regions of physical memory, the array with one [`Frame`] for each of their
//! 4 KiB frames, and the ways between addresses and places in the array.
//!
//! Invariants: regions are sorted, disjoint, and begin and end at multiples of 2 MiB in physical
//! memory and of 512 in the array; RAM that does not fill such a region is surrounded by frames in
//! the state `Absent`. The regions never change after they were made.

use super::frame::{BLOCK_FRAMES, Frame, Index};
use super::linear::Carved;
use super::state::{Order, State};
use arrayvec::ArrayVec;
use stage2::{PAGE_SHIFT, Pa};

/// The most regions there can be, after those that touch were joined.
pub(super) const MAX_REGIONS: usize = 16;
/// The most frames there can be: 16 TiB. All indices stay below the list's end mark.
pub(super) const MAX_FRAMES: u64 = u32::MAX as u64 - BLOCK_FRAMES as u64;

/// A piece of physical memory without holes of 2 MiB or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// Page number (physical address >> 12) of the first frame.
    pub(super) first_page: u64,
    pub(super) frames: u32,
    /// Index of the first frame.
    pub(super) first: Index,
}

impl Region {
    #[inline]
    fn index_of(&self, page: u64) -> Option<Index> {
        let offset = page.wrapping_sub(self.first_page);
        (offset < u64::from(self.frames)).then(|| self.first.plus(offset as u32))
    }

    #[inline]
    fn page_of(&self, index: Index) -> Option<u64> {
        let offset = index.0.wrapping_sub(self.first.0);
        (offset < self.frames).then(|| self.first_page + u64::from(offset))
    }

    /// Where the block begins, if it does in this region, that makes a whole of the next order
    /// together with the block at `index`.
    fn buddy(&self, index: Index, order: Order) -> Option<Index> {
        self.index_of(self.page_of(index)? ^ u64::from(order.frames()))
    }
}

pub(super) struct Inventory {
    /// The regions, the lowest first.
    pub(super) regions: ArrayVec<Region, MAX_REGIONS>,
    frames: Carved<Frame>,
    /// Page number of the lowest region.
    lowest_page: u64,
    /// The frames of the lowest region, the only one on most machines: found without a search.
    lowest: Carved<Frame>,
}

impl Inventory {
    /// The inventory of these regions, at least one, with the metadata of all their frames.
    pub(super) fn new(
        regions: ArrayVec<Region, MAX_REGIONS>,
        frames: Carved<Frame>,
    ) -> Option<Self> {
        let lowest = regions.first()?;
        Some(Self {
            lowest_page: lowest.first_page,
            lowest: frames.prefix(lowest.frames as usize),
            regions,
            frames,
        })
    }

    /// The frame that contains `pa`, if that lies in a region.
    #[inline]
    pub(super) fn locate(&self, pa: Pa) -> Option<(Index, &Frame)> {
        let page = pa.get() >> PAGE_SHIFT;
        let offset = page.wrapping_sub(self.lowest_page);
        match self.lowest.get(offset as usize) {
            Some(frame) => Some((Index(offset as u32), frame)),
            None => self.locate_above(page),
        }
    }

    #[cold]
    fn locate_above(&self, page: u64) -> Option<(Index, &Frame)> {
        let index = self
            .regions
            .iter()
            .find_map(|region| region.index_of(page))?;
        Some((index, self.frame(index)))
    }

    /// The frame that contains `pa`, if that lies in a region, and those behind it in that region.
    pub(super) fn locate_run(&self, pa: Pa) -> Option<(Index, &[Frame])> {
        let (index, _) = self.locate(pa)?;
        let holds = |region: &&Region| region.page_of(index).is_some();
        let region = self.regions.iter().find(holds)?;
        let end = region.first.plus(region.frames);
        let frames = self.frames.part(index.0 as usize..end.0 as usize);
        Some((index, frames))
    }

    /// The place of the frame that contains `pa`, if that lies in a region.
    pub(super) fn index(&self, pa: Pa) -> Option<Index> {
        self.locate(pa).map(|(index, _)| index)
    }

    /// The metadata and the address of a frame.
    #[inline(always)]
    pub(super) fn resolve(&self, index: Index) -> (&Frame, Pa) {
        match self.lowest.get(index.0 as usize) {
            Some(frame) => (
                frame,
                Pa::new((self.lowest_page + u64::from(index.0)) << PAGE_SHIFT),
            ),
            None => (self.frame(index), self.pa_above(index)),
        }
    }

    fn pa_above(&self, index: Index) -> Pa {
        let page = self.regions.iter().find_map(|region| region.page_of(index));
        debug_assert!(page.is_some(), "{index:?} is in no region");
        Pa::new(page.unwrap_or(0) << PAGE_SHIFT)
    }

    /// The address of a frame.
    pub(super) fn pa(&self, index: Index) -> Pa {
        self.resolve(index).1
    }

    /// The metadata of a frame. Indices come from [`Inventory::index`] and from lists of what came
    /// from there, so they are always in range.
    #[inline]
    pub(super) fn frame(&self, index: Index) -> &Frame {
        &self.frames[index.0 as usize]
    }

    /// The metadata of the frames of a block.
    #[inline]
    pub(super) fn frames_of(&self, first: Index, order: Order) -> &[Frame] {
        let end = first.plus(order.frames());
        self.frames.part(first.0 as usize..end.0 as usize)
    }

    /// The metadata of the first frame of the 2 MiB block that `index` is in.
    #[inline]
    pub(super) fn block(&self, index: Index) -> &Frame {
        self.frame(index.block())
    }

    /// Where the block begins, if it does in the same region, that makes a whole of the next order
    /// together with the block at `index`. There is such a block if it begins there.
    pub(super) fn buddy(&self, index: Index, order: Order) -> Option<Index> {
        if order < Order::BLOCK_2M {
            return Some(Index(index.0 ^ order.frames()));
        }
        self.regions
            .iter()
            .find_map(|region| region.buddy(index, order))
    }

    /// Number of 2 MiB blocks.
    pub(super) fn blocks(&self) -> u32 {
        self.frames.len() as u32 / BLOCK_FRAMES
    }
}

impl Inventory {
    /// The frames of the 2 MiB block that starts at `block` which begin something: a free,
    /// isolated or allocated block, a cached frame, or no block at all.
    ///
    /// Each is looked at when it is reached, and the step to the next is as long as it said. Under
    /// the buddy's lock free and isolated blocks are seen as they are; without it, all is a hint.
    pub(super) fn heads(&self, block: Index) -> impl Iterator<Item = (Index, State)> + '_ {
        let mut offset = 0;
        core::iter::from_fn(move || {
            if offset >= BLOCK_FRAMES {
                return None;
            }
            let index = block.plus(offset);
            let state = self.frame(index).state();
            offset += state.frames();
            Some((index, state))
        })
    }
}
