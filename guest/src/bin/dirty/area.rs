//! The memory that is written to, and the copy of it.

use core::sync::atomic::Ordering::Relaxed;

use guest::{
    pool::{PAGE_SIZE, Page, Pool},
    println,
    span::Span,
    tables,
};

/// Size of a region: what one call tells of.
const REGION_SIZE: u64 = 2 << 20;
/// Pages of a region.
const REGION_PAGES: usize = (REGION_SIZE / PAGE_SIZE) as usize;
/// Regions of the area.
const REGIONS: usize = 4;
/// Pages of the area.
pub(crate) const PAGES: usize = REGIONS * REGION_PAGES;
/// Differences that are printed.
const PRINTED: u64 = 8;

/// The area, whose regions are what a block would map, and the copy behind it.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    pool: Pool,
    first: usize,
}

impl Area {
    /// In the free memory of the machine.
    pub(crate) fn new(pool: Pool) -> Self {
        let starts = |&page: &usize| pool.ipa(page).is_multiple_of(REGION_SIZE);
        let contiguous = |&page: &usize| {
            let last = page + 2 * PAGES - 1;
            last < pool.pages()
                && pool.ipa(last) - pool.ipa(page) == (last - page) as u64 * PAGE_SIZE
        };
        let first = (0..pool.pages()).filter(starts).find(contiguous);
        let first = first.expect("dirty needs at least 32 MiB of RAM");
        Self { pool, first }
    }

    /// Page `index` of the area.
    pub(crate) fn page(&self, index: usize) -> &'static Page {
        self.pool.page(self.first + index)
    }

    /// The address of page `index` of the area.
    pub(crate) fn ipa(&self, index: usize) -> u64 {
        self.pool.ipa(self.first + index)
    }

    fn region(&self, region: usize) -> Span {
        Span::sized(self.ipa(region * REGION_PAGES), REGION_SIZE)
    }

    /// Takes what was written so far for seen.
    pub(crate) fn clean(&self) {
        for region in 0..REGIONS {
            let region = self.region(region);
            assert!(tables::clean(region), "{region} cannot be cleaned");
        }
    }

    /// Copies everything.
    pub(crate) fn copy_all(&self) {
        (0..PAGES).for_each(|index| self.copy(index));
    }

    /// Copies what was written since the last time; returns how many pages that are.
    pub(crate) fn copy_dirty(&self) -> u64 {
        let mut copied = 0;
        for region in 0..REGIONS {
            let span = self.region(region);
            let dirty = tables::collect(span);
            let dirty = dirty.unwrap_or_else(|| panic!("what is dirty of {span} is not told"));
            let told = (0..REGION_PAGES).filter(|&page| dirty.has(page));
            for page in told {
                self.copy(region * REGION_PAGES + page);
            }
            copied += dirty.count;
        }
        copied
    }

    fn copy(&self, index: usize) {
        let copy = self.page(PAGES + index);
        for (to, from) in copy.0.iter().zip(&self.page(index).0) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    /// How many pages of area and copy differ; the first ones are printed.
    pub(crate) fn differences(&self) -> u64 {
        let mut differences = 0;
        for index in 0..PAGES {
            let words = self.page(index).0.iter().zip(&self.page(PAGES + index).0);
            let mut pairs = words.map(|(here, there)| (here.load(Relaxed), there.load(Relaxed)));
            let Some((here, there)) = pairs.find(|(here, there)| here != there) else {
                continue;
            };
            differences += 1;
            if differences <= PRINTED {
                let ipa = self.ipa(index);
                println!("dirty: the page at {ipa:#x} has {here:#x}, its copy {there:#x}");
            }
        }
        differences
    }
}
