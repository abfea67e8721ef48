//! Other crates for such tables, with one lock round them, which is what their `&mut self` asks
//! for.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::hint::black_box;
use std::sync::Mutex;

use aarch64_paging::descriptor::Stage2Attributes;
use aarch64_paging::linearmap::LinearMap;
use aarch64_paging::paging::{Constraints, MemoryRegion, Stage2 as Regime};
use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::{
    GenericPTE, MappingFlags, PageSize, PageTable64, PagingHandler, PagingMetaData,
};
use stage2::{Level, PAGE_SIZE};

use crate::subject::{Operation, Subject};

const WHOLE: &str = "nobody panics under the lock";
const FITS: &str = "an address that can be mapped";

/// The tables of `aarch64-paging` under one lock.
pub(crate) struct Paging(Mutex<LinearMap<Regime>>);

const PAGE: Stage2Attributes = Stage2Attributes::VALID
    .union(Stage2Attributes::MEMATTR_NORMAL_INNER_WB)
    .union(Stage2Attributes::MEMATTR_NORMAL_OUTER_WB)
    .union(Stage2Attributes::S2AP_ACCESS_RW)
    .union(Stage2Attributes::SH_INNER)
    .union(Stage2Attributes::ACCESS_FLAG);
const READ_ONLY: Stage2Attributes = PAGE.difference(Stage2Attributes::S2AP_ACCESS_WO);
const PAGES: Constraints = Constraints::NO_BLOCK_MAPPINGS;

impl Subject for Paging {
    const NAME: &'static str = "aarch64-paging, one lock";
    const EXCLUSIVE: bool = true;

    fn new(_: usize) -> Self {
        Self(Mutex::new(LinearMap::new(1, 0, Regime)))
    }

    // It makes no block of a table.
    fn can(operation: Operation) -> bool {
        operation != Operation::Collapse
    }

    fn prepare(&self, operation: Operation, ipa: u64) {
        if operation == Operation::Split {
            let region = MemoryRegion::new(ipa as usize, (ipa + Level::L2.size()) as usize);
            let mut tables = self.0.lock().expect(WHOLE);
            tables
                .map_range(&region, Stage2Attributes::empty())
                .expect(FITS);
            tables.map_range(&region, PAGE).expect(FITS);
        }
    }

    #[inline(always)]
    fn run(&self, operation: Operation, ipa: u64) {
        let of = |size: u64| MemoryRegion::new(ipa as usize, (ipa + size) as usize);
        let (page, region) = (of(PAGE_SIZE), of(Level::L2.size()));
        let mut tables = self.0.lock().expect(WHOLE);
        let walk = |tables: &mut LinearMap<Regime>, range| {
            tables.walk_range(range, &mut |region, entry, level| {
                black_box((region, entry, level));
                Ok(())
            })
        };
        let done = match operation {
            Operation::MapFirst | Operation::Map => {
                tables.map_range_with_constraints(&page, PAGE, PAGES)
            }
            Operation::Lock | Operation::Walk => walk(&mut tables, &page),
            // It does not tell what was mapped, and the caller that unmaps has to know.
            Operation::Unmap => walk(&mut tables, &page)
                .and_then(|()| tables.map_range(&page, Stage2Attributes::empty())),
            Operation::MapRange => tables.map_range_with_constraints(&region, PAGE, PAGES),
            Operation::WalkRange => walk(&mut tables, &region),
            Operation::UnmapRange => walk(&mut tables, &region)
                .and_then(|()| tables.map_range(&region, Stage2Attributes::empty())),
            // A block is split where a part of it is to be mapped otherwise.
            Operation::Split => tables.map_range(&page, READ_ONLY),
            Operation::Collapse => unreachable!("see `can`"),
        };
        done.expect(FITS);
    }
}

/// The tables of `page_table_multiarch` under one lock.
pub(crate) struct Multiarch(Mutex<PageTable64<Shape, Entry, Heap>>);

/// Guest addresses of 39 bits.
struct Shape;

impl PagingMetaData for Shape {
    const LEVELS: usize = 3;
    const PA_MAX_BITS: usize = 48;
    const VA_MAX_BITS: usize = 39;
    type VirtAddr = VirtAddr;

    fn flush_tlb(_: Option<VirtAddr>) {}
}

/// Tables from the heap, at their own addresses.
struct Heap;

impl Heap {
    fn layout(count: usize) -> Layout {
        Layout::from_size_align(count * PAGE_SIZE as usize, PAGE_SIZE as usize)
            .expect("a few pages")
    }
}

impl PagingHandler for Heap {
    fn alloc_frames(count: usize, _align: usize) -> Option<PhysAddr> {
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(Self::layout(count)) };
        (!memory.is_null()).then(|| PhysAddr::from(memory as usize))
    }

    fn dealloc_frames(pa: PhysAddr, count: usize) {
        // SAFETY: it was allocated above, with this layout, and is given back once.
        unsafe { dealloc(pa.as_usize() as *mut u8, Self::layout(count)) };
    }

    fn phys_to_virt(pa: PhysAddr) -> VirtAddr {
        VirtAddr::from(pa.as_usize())
    }
}

/// A stage-2 descriptor, whose encoding the crate leaves to its user where the host is no Arm.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

impl Entry {
    const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
    const VALID: u64 = 1;
    const TABLE_OR_PAGE: u64 = 1 << 1;
    const LEAF: u64 = 0b1111 << 2 | 0b11 << 8 | 1 << 10 | Self::VALID;
    const READ: u64 = 1 << 6;
    const WRITE: u64 = 1 << 7;
}

impl GenericPTE for Entry {
    #[inline]
    fn new_page(pa: PhysAddr, flags: MappingFlags, is_huge: bool) -> Self {
        let mut entry = Self(pa.as_usize() as u64 & Self::ADDRESS);
        entry.set_flags(flags, is_huge);
        entry
    }

    #[inline]
    fn new_table(pa: PhysAddr) -> Self {
        Self(pa.as_usize() as u64 & Self::ADDRESS | Self::TABLE_OR_PAGE | Self::VALID)
    }

    #[inline]
    fn paddr(&self) -> PhysAddr {
        PhysAddr::from((self.0 & Self::ADDRESS) as usize)
    }

    #[inline]
    fn flags(&self) -> MappingFlags {
        let mut flags = MappingFlags::empty();
        flags.set(MappingFlags::READ, self.0 & Self::READ != 0);
        flags.set(MappingFlags::WRITE, self.0 & Self::WRITE != 0);
        flags
    }

    #[inline]
    fn set_paddr(&mut self, pa: PhysAddr) {
        self.0 = self.0 & !Self::ADDRESS | pa.as_usize() as u64 & Self::ADDRESS;
    }

    #[inline]
    fn set_flags(&mut self, flags: MappingFlags, is_huge: bool) {
        let choose = |flag, bit| if flags.contains(flag) { bit } else { 0 };
        let page = if is_huge { 0 } else { Self::TABLE_OR_PAGE };
        self.0 = self.0 & Self::ADDRESS
            | Self::LEAF
            | page
            | choose(MappingFlags::READ, Self::READ)
            | choose(MappingFlags::WRITE, Self::WRITE);
    }

    #[inline]
    fn bits(self) -> usize {
        self.0 as usize
    }

    #[inline]
    fn is_unused(&self) -> bool {
        self.0 == 0
    }

    #[inline]
    fn is_present(&self) -> bool {
        self.0 & Self::VALID != 0
    }

    #[inline]
    fn is_huge(&self) -> bool {
        self.0 & (Self::VALID | Self::TABLE_OR_PAGE) == Self::VALID
    }

    #[inline]
    fn clear(&mut self) {
        self.0 = 0;
    }
}

impl Subject for Multiarch {
    const NAME: &'static str = "page_table_multiarch, one lock";
    const EXCLUSIVE: bool = true;

    fn new(_: usize) -> Self {
        Self(Mutex::new(PageTable64::try_new().expect("a root")))
    }

    // It neither splits nor merges.
    fn can(operation: Operation) -> bool {
        !matches!(operation, Operation::Collapse | Operation::Split)
    }

    #[inline(always)]
    fn run(&self, operation: Operation, ipa: u64) {
        let (at, to) = (VirtAddr::from(ipa as usize), PhysAddr::from(ipa as usize));
        let flags = MappingFlags::READ | MappingFlags::WRITE;
        let size = Level::L2.size() as usize;
        let mut tables = self.0.lock().expect(WHOLE);
        let done = match operation {
            Operation::MapFirst | Operation::Map => {
                tables.cursor().map(at, to, PageSize::Size4K, flags)
            }
            Operation::Lock | Operation::Walk => tables.query(at).map(|page| {
                black_box(page);
            }),
            Operation::Unmap => tables.cursor().unmap(at).map(|page| {
                black_box(page);
            }),
            Operation::MapRange => {
                let same = |at: VirtAddr| PhysAddr::from(at.as_usize());
                tables.cursor().map_region(at, same, size, flags, false)
            }
            // Its own walk is of the whole tree only.
            Operation::WalkRange => (0..size)
                .step_by(PAGE_SIZE as usize)
                .try_for_each(|offset| {
                    black_box(tables.query(at + offset)?);
                    Ok(())
                }),
            // By one call for all of it, it would not tell what was mapped.
            Operation::UnmapRange => {
                let mut cursor = tables.cursor();
                (0..size)
                    .step_by(PAGE_SIZE as usize)
                    .try_for_each(|offset| {
                        black_box(cursor.unmap(at + offset)?);
                        Ok(())
                    })
            }
            Operation::Collapse | Operation::Split => unreachable!("see `can`"),
        };
        done.expect(FITS);
    }
}
