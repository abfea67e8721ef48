//! Doing an operation, on the tables and on the model: those that change a range.

use super::ops::{Pages, Place};
use super::{Mapped, PAGES, Page, Vm};
use crate::support::dirty_state;
use core::ops::Range;
use stage2::{
    Attributes, Ipa, IpaRange, Level, MapError, MappedInPart, OutOfFrames, PAGE_SIZE, Rights,
    Unmapped,
};

impl Vm {
    /// The addresses of these pages; they may reach beyond what is mapped, or beyond the VM's.
    pub(super) fn range(&self, pages: Pages) -> IpaRange {
        let (region, index) = pages.from;
        let start = self.ipa(region, index);
        IpaRange::new(start, start.offset(pages.count as u64 * Level::L3.size())).unwrap()
    }

    /// Which pages of which regions a range covers.
    fn covered(&self, range: IpaRange) -> Vec<(usize, Range<usize>)> {
        let regions = self.regions.borrow();
        let covered = |(number, region): (usize, &super::Region)| {
            let shared = IpaRange::entry(region.base, Level::L2).intersection(&range)?;
            let first = shared.start().index(Level::L3);
            Some((number, first..first + shared.pages() as usize))
        };
        regions.iter().enumerate().filter_map(covered).collect()
    }

    /// The same, with blocks whole: what a change of whole leaves reaches.
    fn leaves(&self, range: IpaRange) -> Vec<(usize, Range<usize>)> {
        let mut covered = self.covered(range);
        for (region, pages) in &mut covered {
            if self.mapped(*region) == Mapped::Block {
                *pages = 0..PAGES;
            }
        }
        covered
    }

    /// Blocks that are covered in part have been split.
    fn split_partly_covered(&self, covered: &[(usize, Range<usize>)]) {
        for (region, pages) in covered {
            if self.mapped(*region) == Mapped::Block && *pages != (0..PAGES) {
                self.set_mapped(*region, Mapped::Table);
            }
        }
    }

    /// The pages of `range` that the model knows, up to the first that it does not.
    fn known(&self, range: IpaRange) -> Vec<Place> {
        let covered = self.covered(range);
        let places = covered
            .into_iter()
            .flat_map(|(region, pages)| pages.map(move |index| (region, index)));
        let is_next = |(n, place): &(usize, Place)| {
            self.ipa(place.0, place.1) == range.start().offset(*n as u64 * PAGE_SIZE)
        };
        let run = places.enumerate().take_while(is_next);
        run.map(|(_, place)| place).collect()
    }

    pub(super) fn map_pages(
        &self,
        pages: Pages,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), OutOfFrames> {
        let start = self.ipa(pages.from.0, pages.from.1);
        let places = self.known(self.range(pages));
        let range = IpaRange::new(start, start.offset(places.len() as u64 * PAGE_SIZE)).unwrap();
        let data = self.machine.data();
        let mut frames = Vec::new();
        while frames.len() < places.len() {
            let Ok(frame) = data.allocate(Level::L3) else {
                // Without memory for the guest there is nothing to try.
                frames.into_iter().for_each(|frame| data.release(frame));
                return Ok(());
            };
            frames.push(frame);
        }
        let nth = |ipa: Ipa| ((ipa.get() - start.get()) / PAGE_SIZE) as usize;
        let new: Vec<Page> = frames
            .iter()
            .map(|frame| self.new_page(frame.pa(), attributes, written))
            .collect();
        let mut rest = frames.into_iter().enumerate();
        let frame = |ipa| {
            let (n, frame) = rest.next().expect("no more than it has pages");
            assert_eq!(n, nth(ipa), "each page is asked for once, in order");
            frame
        };
        let result = self
            .stage2
            .map_pages(range, frame, attributes, dirty_state(written));
        let (mapped, result) = match result {
            Ok(()) => (places.len(), Ok(())),
            Err(MappedInPart { end, reason, frame }) => {
                frame.into_iter().for_each(|frame| data.release(frame));
                (nth(end), Err(reason))
            }
        };
        rest.for_each(|(_, frame)| data.release(frame));
        for (n, ((region, index), page)) in places.iter().copied().zip(new).enumerate() {
            if n >= mapped {
                break;
            }
            assert!(self.page(region, index).is_none(), "mapped over a page");
            let region = &mut self.regions.borrow_mut()[region];
            region.mapped = Mapped::Table;
            region.pages[index] = Some(page);
        }
        match result {
            Ok(()) => {}
            Err(MapError::OutOfFrames) => return Err(OutOfFrames),
            Err(MapError::Unsupported) => {
                assert_eq!(mapped, 0);
                assert_ne!(self.effective(attributes.rights), attributes.rights);
            }
            Err(MapError::Occupied(_)) => {
                let (region, index) = places[mapped];
                assert!(self.page(region, index).is_some(), "nothing was there");
            }
            Err(other) => panic!("{other:?}"),
        }
        Ok(())
    }

    pub(super) fn unmap(&self, pages: Pages) -> Result<(), OutOfFrames> {
        let range = self.range(pages);
        let mut unmapped = Vec::new();
        let result = self.stage2.unmap(range, |leaf| unmapped.push(leaf));
        if result.is_err() {
            assert_eq!(unmapped, [], "nothing is unmapped when frames run out");
            return result;
        }
        let covered = self.covered(range);
        self.split_partly_covered(&covered);
        for leaf in unmapped {
            self.take_away(leaf);
        }
        for (region, pages) in covered {
            let mut regions = self.regions.borrow_mut();
            let region = &mut regions[region];
            assert!(
                region.pages[pages].iter().all(Option::is_none),
                "a leaf was left out"
            );
            if region.mapped == Mapped::Block {
                region.mapped = Mapped::Nothing;
            }
        }
        Ok(())
    }

    /// A leaf is no longer mapped: compares it with the model, and gives its frames back.
    pub(super) fn take_away(&self, leaf: Unmapped) {
        let (region, first) = self.place(leaf.ipa);
        let count = (leaf.level().size() / Level::L3.size()) as usize;
        let is_block = self.mapped(region) == Mapped::Block;
        assert_eq!(leaf.level(), if is_block { Level::L2 } else { Level::L3 });
        for index in first..first + count {
            let page = self.regions.borrow_mut()[region].pages[index].take();
            let page = page.expect("only what was mapped is unmapped");
            self.compare(page, leaf.descriptor, index - first);
        }
        self.machine.data().release(leaf.frame);
    }

    pub(super) fn protect(&self, pages: Pages, rights: Rights) -> Result<(), OutOfFrames> {
        let range = self.range(pages);
        self.stage2.protect(range, rights)?;
        let covered = self.covered(range);
        self.split_partly_covered(&covered);
        let rights = self.effective(rights);
        for (region, pages) in covered {
            self.update(region, pages, |page| page.attributes.rights = rights);
        }
        Ok(())
    }

    pub(super) fn age(&self, pages: Pages) {
        let range = self.range(pages);
        let mut used = Vec::new();
        self.stage2.age(range, |ipa, level| used.push((ipa, level)));
        let mut expected = Vec::new();
        for (region, pages) in self.leaves(range) {
            let is_block = self.mapped(region) == Mapped::Block;
            let level = if is_block { Level::L2 } else { Level::L3 };
            let step = (level.size() / Level::L3.size()) as usize;
            for index in pages.clone().step_by(step) {
                if self.page(region, index).is_some_and(|page| page.accessed) {
                    expected.push((self.ipa(region, index), level));
                }
            }
            self.update(region, pages, |page| page.accessed = false);
        }
        assert_eq!(used, expected);
    }

    pub(super) fn write_protect(&self, pages: Pages) {
        let range = self.range(pages);
        self.stage2.write_protect(range);
        self.clean(range);
    }

    pub(super) fn collect_dirty(&self, pages: Pages) {
        let range = self.range(pages);
        let mut reported = Vec::new();
        self.stage2
            .collect_dirty(range, |dirty| reported.push(dirty));
        let is_reported = |ipa: Ipa| {
            let page = IpaRange::entry(ipa, Level::L3);
            reported.iter().filter(|dirty| dirty.covers(&page)).count()
        };
        for (region, pages) in self.covered(range) {
            for index in pages {
                let page = self.page(region, index);
                let times = is_reported(self.ipa(region, index));
                assert!(times <= 1);
                assert!(
                    times == 1 || page.is_none_or(|page| !page.dirty),
                    "dirt was lost"
                );
                assert!(
                    times == 0 || page.is_some_and(|page| page.maybe_dirty),
                    "false dirt"
                );
            }
        }
        assert!(reported.iter().all(|dirty| range.covers(dirty)));
        self.clean(range);
    }

    /// What was collected is clean; a block covered in part was not collected as a whole, and is
    /// not.
    fn clean(&self, range: IpaRange) {
        let is_whole = |(region, pages): &(usize, Range<usize>)| {
            self.mapped(*region) != Mapped::Block || *pages == (0..PAGES)
        };
        for (region, pages) in self.covered(range).into_iter().filter(is_whole) {
            self.update(region, pages, |page: &mut Page| {
                page.dirty = false;
                page.maybe_dirty = false;
            });
        }
    }

    pub(super) fn free_empty_tables(&self, pages: Pages) {
        let range = self.range(pages);
        let freed = self.stage2.free_empty_tables(range);
        let mut expected = 0;
        for (region, pages) in self.covered(range) {
            let is_free =
                self.regions.borrow()[region].is_empty() && self.claimed.get() != Some(region);
            if self.mapped(region) == Mapped::Table && is_free && pages == (0..PAGES) {
                self.set_mapped(region, Mapped::Nothing);
                expected += 1;
            }
        }
        // Tables above them may have become empty, and been covered whole, too.
        assert!(freed >= expected);
    }
}
