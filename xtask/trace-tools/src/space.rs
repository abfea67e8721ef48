//! A guest's memory as the events say it became: which pages and blocks are mapped, and what is
//! being worked on.
//!
//! Invariant: `pages` and `blocks` are the sums over the regions.

use std::ops::Range;

use trace::Event;
use trace::event::Step;

/// The size of a region in bytes: what a block of level 2 maps.
pub(crate) const REGION: u64 = 2 << 20;
/// The size of a page, and of a frame, in bytes.
pub(crate) const PAGE: u64 = 4 << 10;
/// Pages of a region.
pub(crate) const PAGES: u32 = 512;
/// Words that have a bit for each page of a region.
const WORDS: usize = PAGES as usize / 64;
/// Regions of a block of level 1.
const REGIONS_OF_LEVEL_1: usize = 512;
/// The most regions that are believed: 2 TiB. A recording is no more than a file.
const MOST_REGIONS: u64 = 1 << 20;

/// What is mapped in a region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Region {
    /// A bit for each page.
    pages: [u64; WORDS],
    /// One block maps it all.
    pub(crate) block: bool,
    /// It is being collapsed.
    pub(crate) busy: bool,
}

impl Region {
    /// How many of its pages are mapped by themselves.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.iter().map(|word| word.count_ones()).sum()
    }

    /// How many of these pages are mapped by themselves.
    pub(crate) fn pages_in(&self, pages: Range<usize>) -> u32 {
        let is_mapped = |page: &usize| self.pages[page / 64] >> (page % 64) & 1 != 0;
        pages.filter(is_mapped).count() as u32
    }

    fn set(&mut self, page: usize, mapped: bool) {
        let bit = 1 << (page % 64);
        if mapped {
            self.pages[page / 64] |= bit;
        } else {
            self.pages[page / 64] &= !bit;
        }
    }

    fn fill(&mut self, mapped: bool) {
        self.pages = [if mapped { u64::MAX } else { 0 }; WORDS];
    }

    /// Bytes that single pages map, and bytes that a block maps.
    fn mapped(&self) -> (u64, u64) {
        if self.block {
            (0, REGION)
        } else {
            (u64::from(self.pages()) * PAGE, 0)
        }
    }
}

/// One VM's memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    start: u64,
    /// Its RAM, in regions.
    pub(crate) regions: Vec<Region>,
    pages: u64,
    blocks: u64,
}

impl Space {
    /// The first address of its RAM (IPA).
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes that single pages map, and bytes that blocks map.
    pub(crate) fn mapped(&self) -> (u64, u64) {
        (self.pages, self.blocks)
    }

    /// Takes the next event of this VM, and returns the regions that it concerns.
    pub(crate) fn apply(&mut self, event: &Event) -> Range<usize> {
        match *event {
            Event::Ram { ipa, end } => self.set_up(ipa, end),
            Event::Map { level: 3, ipa, .. } => {
                self.page(ipa, |region, page| region.set(page, true));
            }
            Event::Map {
                level: level @ 1..=2,
                ipa,
                ..
            } => self.block(level, ipa, |region| region.block = true),
            Event::Unmap { level, ipa, end } => self.unmap(level, ipa, end),
            Event::Split {
                level: level @ 1..=2,
                ipa,
            } => self.block(level, ipa, |region| {
                // A block of level 1 becomes blocks of level 2.
                region.block = level == 1;
                region.fill(level == 2);
            }),
            Event::Collapse {
                step,
                level: level @ 1..=2,
                ipa,
                ..
            } => self.block(level, ipa, |region| {
                region.busy = matches!(step, Step::Begin | Step::Copy);
                if step == Step::Commit {
                    region.block = true;
                    region.fill(false);
                }
            }),
            Event::Migrate { ipa, .. } => self.page(ipa, |_, _| ()),
            _ => return 0..0,
        }
        self.regions_of(event)
    }

    fn set_up(&mut self, ipa: u64, end: u64) {
        let regions = end.saturating_sub(ipa).div_ceil(REGION).min(MOST_REGIONS);
        *self = Self {
            start: ipa,
            regions: vec![Region::default(); regions as usize],
            ..Self::default()
        };
    }

    /// The regions that an event of a block or page is about.
    fn regions_of(&self, event: &Event) -> Range<usize> {
        let (level, ipa) = match *event {
            Event::Map { level, ipa, .. }
            | Event::Split { level, ipa }
            | Event::Collapse { level, ipa, .. } => (level, ipa),
            Event::Migrate { ipa, .. } => (3, ipa),
            _ => return 0..0,
        };
        self.region(ipa)
            .map_or(0..0, |first| self.from(first, level))
    }

    /// As many regions from `first` on as a leaf of this level maps.
    fn from(&self, first: usize, level: u8) -> Range<usize> {
        let count = if level == 1 { REGIONS_OF_LEVEL_1 } else { 1 };
        first..self.regions.len().min(first + count)
    }

    fn unmap(&mut self, level: u8, ipa: u64, end: u64) {
        let mut at = ipa.max(self.start);
        let end = end.min(self.start + self.regions.len() as u64 * REGION);
        while at < end {
            if level == 3 {
                self.page(at, |region, page| region.set(page, false));
                at += PAGE;
            } else {
                self.block(2, at, |region| region.block = false);
                at += REGION;
            }
        }
    }

    fn region(&self, ipa: u64) -> Option<usize> {
        let region = usize::try_from(ipa.checked_sub(self.start)? / REGION).ok()?;
        (region < self.regions.len()).then_some(region)
    }

    fn page(&mut self, ipa: u64, change: impl FnOnce(&mut Region, usize)) {
        if let Some(region) = self.region(ipa) {
            let page = (ipa - self.start) % REGION / PAGE;
            self.change(region, |region| change(region, page as usize));
        }
    }

    fn block(&mut self, level: u8, ipa: u64, change: impl Fn(&mut Region)) {
        if let Some(first) = self.region(ipa) {
            self.from(first, level)
                .for_each(|region| self.change(region, &change));
        }
    }

    /// Changes a region and keeps the sums right.
    fn change(&mut self, region: usize, change: impl FnOnce(&mut Region)) {
        let region = &mut self.regions[region];
        let (pages, blocks) = region.mapped();
        change(region);
        let after = region.mapped();
        self.pages = self.pages - pages + after.0;
        self.blocks = self.blocks - blocks + after.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace::event::Reason;

    const RAM: u64 = 0x4000_0000;

    fn space(regions: u64) -> Space {
        let mut space = Space::default();
        let end = RAM + regions * REGION;
        space.apply(&Event::Ram { ipa: RAM, end });
        space
    }

    fn collapse(step: Step, level: u8) -> Event {
        Event::Collapse {
            step,
            reason: Reason::Hot,
            level,
            ipa: RAM,
        }
    }

    #[test]
    fn pages_become_a_block_and_pages_again() {
        let mut space = space(2);
        for page in 0..3 {
            let (level, ipa, pa) = (3, RAM + page * PAGE, 0);
            assert_eq!(space.apply(&Event::Map { level, ipa, pa }), 0..1);
        }
        assert_eq!(space.mapped(), (3 * PAGE, 0));
        space.apply(&collapse(Step::Begin, 2));
        assert!(space.regions[0].busy);
        space.apply(&collapse(Step::Commit, 2));
        assert_eq!(
            (space.mapped(), space.regions[0].busy),
            ((0, REGION), false)
        );
        space.apply(&Event::Split { level: 2, ipa: RAM });
        assert_eq!(space.mapped(), (REGION, 0));
        let (level, ipa, end) = (3, RAM + PAGE, RAM + 4 * REGION);
        space.apply(&Event::Unmap { level, ipa, end });
        assert_eq!(space.mapped(), (PAGE, 0));
    }

    #[test]
    fn a_block_of_level_1_is_many_regions() {
        let mut space = space(600);
        let (level, ipa, pa) = (1, RAM, 0);
        assert_eq!(space.apply(&Event::Map { level, ipa, pa }), 0..512);
        assert_eq!(space.mapped(), (0, 1 << 30));
        space.apply(&Event::Split { level, ipa });
        assert_eq!(space.mapped(), (0, 1 << 30));
        let end = RAM + (1 << 30);
        space.apply(&Event::Unmap { level, ipa, end });
        assert_eq!(space.mapped(), (0, 0));
    }

    #[test]
    fn nonsense_is_of_no_consequence() {
        let mut space = space(u64::MAX >> 22);
        assert_eq!(space.regions.len() as u64, MOST_REGIONS);
        for ipa in [0, RAM - 1, u64::MAX] {
            let (level, pa) = (3, 0);
            assert_eq!(space.apply(&Event::Map { level, ipa, pa }), 0..0);
            let (ipa, end) = (u64::MAX, 0);
            space.apply(&Event::Unmap { level, ipa, end });
        }
        assert_eq!(space.mapped(), (0, 0));
    }
}
