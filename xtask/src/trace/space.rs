//! A guest's memory as the events say it became: which pages and blocks are mapped.

use trace::Event;
use trace::event::Step;

/// The size of a region in bytes: what one block maps.
pub(super) const REGION: u64 = 2 << 20;
const PAGE: u64 = 4 << 10;
/// Pages of a region.
pub(super) const PAGES: u32 = 512;

/// What is mapped in a region.
#[derive(Clone, Debug, Default)]
pub(super) struct Region {
    pages: [u64; 8],
    /// One block maps it all.
    pub(super) block: bool,
    /// It is being collapsed.
    pub(super) busy: bool,
}

impl Region {
    /// How many of its pages are mapped by themselves.
    pub(super) fn pages(&self) -> u32 {
        self.pages.iter().map(|word| word.count_ones()).sum()
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
        self.pages = [if mapped { u64::MAX } else { 0 }; 8];
    }
}

/// One VM's memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    start: u64,
    /// Its RAM, in regions.
    pub(super) regions: Vec<Region>,
}

impl Space {
    /// The first address of its RAM (IPA).
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes that single pages map, and bytes that blocks map.
    pub(super) fn mapped(&self) -> (u64, u64) {
        self.regions.iter().fold((0, 0), |(pages, blocks), region| {
            if region.block {
                (pages, blocks + REGION)
            } else {
                (pages + u64::from(region.pages()) * PAGE, blocks)
            }
        })
    }

    /// Takes the next event of this VM.
    pub(super) fn apply(&mut self, event: &Event) {
        match *event {
            Event::Ram { ipa, end } => {
                self.start = ipa;
                let regions = end.saturating_sub(ipa).div_ceil(REGION);
                self.regions = vec![Region::default(); usize::try_from(regions).unwrap_or(0)];
            }
            Event::Map { level: 2, ipa, .. } => self.with(ipa, |region, _| region.block = true),
            Event::Map { level: 3, ipa, .. } => {
                self.with(ipa, |region, page| region.set(page, true));
            }
            Event::Unmap { level, ipa, end } => self.unmap(level, ipa, end),
            Event::Split { level: 2, ipa } => self.with(ipa, |region, _| {
                region.block = false;
                region.fill(true);
            }),
            Event::Collapse {
                step,
                level: 2,
                ipa,
                ..
            } => self.with(ipa, |region, _| {
                region.busy = matches!(step, Step::Begin | Step::Copy);
                if step == Step::Commit {
                    region.block = true;
                    region.fill(false);
                }
            }),
            _ => {}
        }
    }

    fn unmap(&mut self, level: u8, ipa: u64, end: u64) {
        let mut at = ipa.max(self.start);
        let end = end.min(self.start + self.regions.len() as u64 * REGION);
        while at < end {
            if level == 2 {
                self.with(at, |region, _| region.block = false);
                at += REGION;
            } else {
                self.with(at, |region, page| region.set(page, false));
                at += PAGE;
            }
        }
    }

    fn with(&mut self, ipa: u64, change: impl FnOnce(&mut Region, usize)) {
        let at = ipa.wrapping_sub(self.start);
        let region = usize::try_from(at / REGION).ok();
        if let Some(region) = region.and_then(|index| self.regions.get_mut(index)) {
            change(region, (at % REGION / PAGE) as usize);
        }
    }
}
