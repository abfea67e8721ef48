//! Taking over the machine's RAM at boot.
//!
//! Owns the way from what the device tree says to a [`FrameAllocator`]: regions are formed, the
//! metadata gets its place in the RAM itself, and what is left becomes free.

use super::Apart;
use super::FrameAllocator;
use super::buddy::Buddy;
use super::cache::CpuCache;
use super::frame::{BLOCK_FRAMES, Frame, Index};
use super::inventory::{Inventory, MAX_FRAMES, MAX_REGIONS, Region};
use super::linear::{Carved, LinearMap};
use super::state::{Mobility, Order, State};
use crate::lock::Mutex;
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::AtomicU32;
use stage2::{PAGE_SHIFT, PAGE_SIZE, Pa};

/// The most ranges of RAM, and of reserved memory, that [`Setup`] may name.
const MAX_RANGES: usize = 32;

/// What an allocator is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The machine's RAM, in any order. Only whole 4 KiB frames of it are used.
    pub ram: &'a [Range<Pa>],
    /// What must not be handed out, in any order, in RAM or not: the hypervisor's image, the device
    /// tree, the guest's image. Every frame that it touches is left alone.
    pub reserved: &'a [Range<Pa>],
    /// Number of CPUs: each gets a cache.
    pub cpus: usize,
    /// The most bytes to hand out; the RAM at the highest addresses is left out.
    pub limit: Option<u64>,
}

/// Why no allocator could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// No RAM is left after the reserved ranges, or there is none at all.
    NoRam,
    /// More ranges, or regions, than there is room to note.
    TooManyRanges,
    /// More RAM than 16 TiB.
    TooMuchRam,
    /// No free range of RAM is long enough for the metadata.
    NoRoomForMetadata {
        /// What the metadata needs in one piece.
        bytes: u64,
    },
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::NoRam => f.write_str(
                "the device tree names no RAM that is not reserved; give the machine more memory",
            ),
            InitError::TooManyRanges => write!(
                f,
                "more than {MAX_RANGES} ranges of RAM or of reserved memory, or {MAX_REGIONS} regions"
            ),
            InitError::TooMuchRam => f.write_str("more than 16 TiB of RAM; give the machine less"),
            InitError::NoRoomForMetadata { bytes } => write!(
                f,
                "the frames' metadata needs {} KiB in one piece, and no free RAM is that long; give the machine more memory",
                bytes / 1024
            ),
        }
    }
}

impl core::error::Error for InitError {}

/// A range of page numbers.
type Pages = Range<u64>;
type Ranges = ArrayVec<Pages, MAX_RANGES>;

impl<M: LinearMap> FrameAllocator<M> {
    /// Takes over the RAM that `setup` describes.
    ///
    /// # Safety
    ///
    /// - The ranges of RAM are RAM, and `map` reaches all of them.
    /// - Except for the reserved ranges nothing else accesses them from now on, other than through
    ///   what the allocator hands out.
    pub unsafe fn new(map: M, setup: &Setup<'_>) -> Result<Self, InitError> {
        let ram = sorted(setup.ram, inward)?;
        let mut taken = sorted(setup.reserved, outward)?;
        let regions = regions(&ram)?;
        let highest = regions.last().ok_or(InitError::NoRam)?;
        let frames = highest.first.plus(highest.frames).0 as usize;

        let frame_bytes = (frames * size_of::<Frame>()) as u64;
        let bytes = frame_bytes + (setup.cpus * size_of::<CpuCache>()) as u64;
        let pages = bytes.div_ceil(PAGE_SIZE);
        let place = room(&ram, &taken, pages).ok_or(InitError::NoRoomForMetadata { bytes })?;
        taken
            .try_push(place..place + pages)
            .map_err(|_| InitError::TooManyRanges)?;
        let pa = Pa::new(place << PAGE_SHIFT);

        // SAFETY: `room` found these pages inside one range of RAM and outside all reserved ones,
        // so nobody else uses them by the caller's promise, and now they are marked as taken. The
        // array is at a multiple of 4096. The value built below keeps `map` as long as the arrays.
        let frames = unsafe { Carved::new(&map, pa, frames, Frame::new) };
        // SAFETY: as above; behind the frames, which are a multiple of 512 times 64 bytes, so the
        // address is aligned for the caches' 128 bytes, and `pages` has room for both.
        let caches =
            unsafe { Carved::new(&map, pa.offset(frame_bytes), setup.cpus, CpuCache::new) };

        let inventory = Inventory::new(regions, frames).ok_or(InitError::NoRam)?;
        let mut buddy = Buddy::new();
        let limit = setup.limit.map_or(u64::MAX, |bytes| bytes >> PAGE_SHIFT);
        let total = release(&inventory, &mut buddy, &ram, &taken, limit);
        if total == 0 {
            return Err(InitError::NoRam);
        }
        buddy.mark_low_water();
        let (isolations, blocks_prezeroed) = (AtomicU32::new(0), AtomicU32::new(0));
        let buddy = Apart(Mutex::new(buddy));
        Ok(Self {
            caches,
            inventory,
            map,
            total: total as usize,
            isolations,
            blocks_prezeroed,
            buddy,
        })
    }
}

/// The whole pages in a range of addresses.
fn inward(range: &Range<Pa>) -> Pages {
    range.start.get().div_ceil(PAGE_SIZE)..range.end.get() >> PAGE_SHIFT
}

/// The pages that a range of addresses touches.
fn outward(range: &Range<Pa>) -> Pages {
    range.start.get() >> PAGE_SHIFT..range.end.get().div_ceil(PAGE_SIZE)
}

/// The ranges in whole pages, sorted, those that touch or overlap made one, empty ones left out.
fn sorted(ranges: &[Range<Pa>], pages: fn(&Range<Pa>) -> Pages) -> Result<Ranges, InitError> {
    let mut all = Ranges::new();
    for range in ranges.iter().map(pages).filter(|range| !range.is_empty()) {
        all.try_push(range).map_err(|_| InitError::TooManyRanges)?;
    }
    all.sort_unstable_by_key(|range| range.start);
    let mut joined = Ranges::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    Ok(joined)
}

/// The regions that contain these ranges of RAM: widened to whole 2 MiB, and one where they touch.
fn regions(ram: &Ranges) -> Result<ArrayVec<Region, MAX_REGIONS>, InitError> {
    const BLOCK: u64 = Order::BLOCK_2M.frames() as u64;
    let mut regions = ArrayVec::<Region, MAX_REGIONS>::new();
    let mut total = 0;
    for range in ram {
        let wide = range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK);
        let joins = regions
            .last()
            .is_some_and(|last| wide.start <= last.first_page + u64::from(last.frames));
        let start = match regions.last() {
            Some(last) if joins => last.first_page + u64::from(last.frames),
            _ => wide.start,
        };
        let added = wide.end - start;
        if total + added > MAX_FRAMES {
            return Err(InitError::TooMuchRam);
        }
        match regions.last_mut() {
            Some(last) if joins => last.frames += added as u32,
            _ => {
                let first = Index(total as u32);
                let region = Region {
                    first_page: start,
                    frames: added as u32,
                    first,
                };
                regions
                    .try_push(region)
                    .map_err(|_| InitError::TooManyRanges)?;
            }
        }
        total += added;
    }
    Ok(regions)
}

/// The lowest page from which on `pages` pages are RAM and not taken.
fn room(ram: &Ranges, taken: &Ranges, pages: u64) -> Option<u64> {
    let starts = ram
        .iter()
        .map(|range| range.start)
        .chain(taken.iter().map(|range| range.end));
    let fits = |&start: &u64| {
        ram.iter()
            .any(|range| range.start <= start && start + pages <= range.end)
            && !taken
                .iter()
                .any(|range| range.start < start + pages && start < range.end)
    };
    starts.filter(fits).min()
}

/// Makes all RAM free that is not taken, up to `limit` frames, and marks all other frames. Returns
/// the number of frames made free.
fn release(
    inventory: &Inventory,
    buddy: &mut Buddy,
    ram: &Ranges,
    taken: &Ranges,
    limit: u64,
) -> u64 {
    let mut left = limit;
    for region in &inventory.regions {
        let region_end = region.first_page + u64::from(region.frames);
        let mut page = region.first_page;
        while page < region_end {
            let end = run_end(page, region_end, ram, taken);
            let contains = |range: &Pages| range.contains(&page);
            let (free, state) = if !ram.iter().any(contains) {
                (0, State::Absent)
            } else if taken.iter().any(contains) {
                (0, State::Permanent)
            } else {
                (left.min(end - page), State::Permanent)
            };
            let index = |page: u64| region.first.plus((page - region.first_page) as u32);
            // What is left of a 2 MiB block never becomes a whole one.
            for edge in [page, page + free] {
                if !edge.is_multiple_of(BLOCK_FRAMES.into()) && edge < region_end {
                    let block = inventory.block(index(edge));
                    block.set_mobility(Mobility::Fixed);
                }
            }
            give(inventory, buddy, index(page), page..page + free);
            for other in page + free..end {
                inventory.frame(index(other)).set_state(state);
            }
            left -= free;
            page = end;
        }
    }
    limit - left
}

/// Where the first range begins or ends behind `page`, or `end` if none does before that.
fn run_end(page: u64, end: u64, ram: &Ranges, taken: &Ranges) -> u64 {
    let bounds = ram
        .iter()
        .chain(taken)
        .flat_map(|range| [range.start, range.end]);
    bounds
        .filter(|&bound| page < bound && bound < end)
        .min()
        .unwrap_or(end)
}

/// Gives the pages, of which `index` is the first, to the buddy in blocks as large as can be.
fn give(inventory: &Inventory, buddy: &mut Buddy, mut index: Index, mut pages: Pages) {
    while let Some(fitting) = Order::fitting(pages.end - pages.start) {
        let aligned = Order::new(pages.start.trailing_zeros() as u8).unwrap_or(Order::BLOCK_1G);
        let order = fitting.min(aligned);
        buddy.give_back(inventory, index, order);
        index = index.plus(order.frames());
        pages.start += u64::from(order.frames());
    }
}
