//! Doing an operation, on the tables and on the model: those that change one region.

use super::ops::{Op, Place};
use super::{Mapped, PAGES, Page, Region, Vm, is_movable};
use crate::support::dirty_state;
use stage2::lookup::Absent;
use stage2::{
    Attributes, CollapseError, CopyPlan, GuestFrame, Level, MapError, MigrateError, OutOfFrames,
    Pa, Refused, SplitError,
};

impl Vm {
    /// Does an operation and compares its answer with the model's. When it ran out of frames the
    /// model is as before, but blocks may have been split.
    pub(super) fn apply(&self, op: &Op) -> Result<(), OutOfFrames> {
        let result = self.apply_once(op);
        if result.is_err() {
            self.adopt_structure();
        }
        result
    }

    fn apply_once(&self, op: &Op) -> Result<(), OutOfFrames> {
        match *op {
            Op::MapPage(place, attributes, written) => self.map_page(place, attributes, written),
            Op::MapPages(pages, attributes, written) => self.map_pages(pages, attributes, written),
            Op::MapBlock(region, attributes, written) => {
                self.map_block(region, attributes, written)
            }
            Op::Populate {
                region,
                attributes,
                written,
                adjacent,
                ref holes,
            } => self.populate(region, attributes, written, adjacent, holes),
            Op::Unmap(pages) => self.unmap(pages),
            Op::Protect(pages, rights) => self.protect(pages, rights),
            Op::Split(region) => self.split(region),
            Op::CollapseInPlace(region) => self.collapse_in_place(region),
            Op::CollapseByCopying {
                region,
                max_empty,
                max_hot,
                rounds,
                ref meanwhile,
            } => {
                let plan = CopyPlan {
                    max_empty,
                    max_hot,
                    rounds,
                };
                self.collapse_by_copying(region, plan, meanwhile)
            }
            Op::Move(place) => {
                self.migrate_page(place);
                Ok(())
            }
            Op::MoveFromElsewhere(place) => {
                self.move_from_elsewhere(place);
                Ok(())
            }
            Op::FreeEmptyTables(pages) => {
                self.free_empty_tables(pages);
                Ok(())
            }
            Op::Age(pages) => {
                self.age(pages);
                Ok(())
            }
            Op::WriteProtect(pages) => {
                self.write_protect(pages);
                Ok(())
            }
            Op::TrapStores(pages) => {
                // What was written is as dirty as before.
                self.stage2.trap_stores(self.range(pages));
                Ok(())
            }
            Op::CollectDirty(pages) => {
                self.collect_dirty(pages);
                Ok(())
            }
            Op::Access {
                cpu,
                place,
                access,
                split_blocks,
            } => self.access(cpu, place, access, split_blocks),
            Op::Prefetch { cpu, pages } => {
                self.prefetch(cpu, pages);
                Ok(())
            }
        }
    }

    fn map_page(
        &self,
        place: Place,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), OutOfFrames> {
        // Without memory for the guest there is nothing to try.
        let Ok(frame) = self.machine.data().allocate(Level::L3) else {
            return Ok(());
        };
        self.map_page_at(place, frame, attributes, written)
    }

    /// Maps a page to a frame, which goes back if that cannot be done.
    fn map_page_at(
        &self,
        (region, index): Place,
        frame: GuestFrame,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), OutOfFrames> {
        let pa = frame.pa();
        let page = self.new_page(pa, attributes, written);
        let ipa = self.ipa(region, index);
        let result = self
            .stage2
            .map_page(ipa, frame, attributes, dirty_state(written));
        match self.given_back(result, pa) {
            Err(MapError::OutOfFrames) => return Err(OutOfFrames),
            Err(MapError::Unsupported) => {
                assert_ne!(self.effective(attributes.rights), attributes.rights);
                return Ok(());
            }
            Err(MapError::Occupied(_)) => {
                assert!(self.page(region, index).is_some());
                return Ok(());
            }
            result => assert_eq!(result, Ok(())),
        }
        assert!(self.page(region, index).is_none());
        let region = &mut self.regions.borrow_mut()[region];
        region.mapped = Mapped::Table;
        region.pages[index] = Some(page);
        Ok(())
    }

    /// Releases the frame at `pa`, which a call that was refused has given back.
    fn given_back<R>(&self, result: Result<(), Refused<R>>, pa: Pa) -> Result<(), R> {
        result.map_err(|Refused { reason, frame }| {
            assert_eq!(frame.pa(), pa);
            self.machine.data().release(frame);
            reason
        })
    }

    pub(super) fn new_page(&self, pa: Pa, attributes: Attributes, written: bool) -> Page {
        let value = self.value();
        self.machine.data().write(pa, value);
        Page {
            pa,
            attributes,
            value,
            accessed: true,
            dirty: false,
            maybe_dirty: written && attributes.rights.write,
        }
    }

    fn map_block(
        &self,
        region: usize,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), OutOfFrames> {
        let Ok(block) = self.machine.data().allocate(Level::L2) else {
            return Ok(());
        };
        let pa = block.pa();
        let page = |index| self.new_page(nth(pa, index), attributes, written);
        let pages: Vec<Page> = (0..PAGES).map(page).collect();
        let ipa = self.ipa(region, 0);
        let result = self
            .stage2
            .map_block(ipa, block, attributes, dirty_state(written));
        match self.given_back(result, pa) {
            Err(MapError::OutOfFrames) => return Err(OutOfFrames),
            Err(MapError::Unsupported) => {
                assert_ne!(self.effective(attributes.rights), attributes.rights);
            }
            Err(MapError::Occupied(_)) => assert_ne!(self.mapped(region), Mapped::Nothing),
            result => {
                assert_eq!(result, Ok(()));
                assert_eq!(self.mapped(region), Mapped::Nothing);
                let region = &mut self.regions.borrow_mut()[region];
                region.mapped = Mapped::Block;
                region
                    .pages
                    .copy_from_slice(&pages.into_iter().map(Some).collect::<Vec<_>>());
            }
        }
        Ok(())
    }

    fn populate(
        &self,
        region: usize,
        attributes: Attributes,
        written: bool,
        adjacent: bool,
        holes: &[usize],
    ) -> Result<(), OutOfFrames> {
        let Ok(block) = self.machine.data().allocate(Level::L2) else {
            return Ok(());
        };
        let mut frames: Vec<GuestFrame> = block.into_parts().collect();
        if !adjacent {
            frames.reverse();
        }
        let mut result = Ok(());
        for (index, frame) in frames.into_iter().enumerate() {
            let wanted = self.page(region, index).is_none() && !holes.contains(&index);
            if wanted && result.is_ok() {
                result = self.map_page_at((region, index), frame, attributes, written);
            } else {
                self.machine.data().release(frame);
            }
        }
        result
    }

    fn split(&self, region: usize) -> Result<(), OutOfFrames> {
        match self.stage2.split_block(self.ipa(region, 7), Level::L2) {
            Err(SplitError::OutOfFrames) => return Err(OutOfFrames),
            Err(SplitError::NoBlock) => assert_ne!(self.mapped(region), Mapped::Block),
            result => {
                assert_eq!(result, Ok(()));
                assert_eq!(self.mapped(region), Mapped::Block);
                self.set_mapped(region, Mapped::Table);
            }
        }
        Ok(())
    }

    fn collapse_in_place(&self, region: usize) -> Result<(), OutOfFrames> {
        let result = self
            .stage2
            .collapse_in_place(self.ipa(region, 3), Level::L2);
        let mut regions = self.regions.borrow_mut();
        let region = &mut regions[region];
        match result {
            Err(CollapseError::OutOfFrames) => return Err(OutOfFrames),
            Err(CollapseError::NoTable(Absent::Empty)) => {
                assert_eq!(region.mapped, Mapped::Nothing);
            }
            Err(CollapseError::NoTable(Absent::Block(_))) => {
                assert_eq!(region.mapped, Mapped::Block);
            }
            Err(CollapseError::TooEmpty) => {
                assert!(region.pages.iter().any(Option::is_none));
            }
            Err(CollapseError::Mixed) => assert!(!region.is_uniform()),
            Err(CollapseError::Pinned) => assert!(!region.is_movable()),
            Err(CollapseError::Scattered) => assert!(!region.is_contiguous()),
            result => {
                assert_eq!(result, Ok(()));
                assert_eq!(region.mapped, Mapped::Table);
                assert!(region.is_uniform() && region.is_movable() && region.is_contiguous());
                region.become_block();
            }
        }
        Ok(())
    }

    fn migrate_page(&self, place @ (region, index): Place) {
        let Ok(to) = self.machine.data().allocate(Level::L3) else {
            return;
        };
        let (page, new) = (self.page(region, index), to.pa());
        let from = page.map_or(new, |page| page.pa);
        let result =
            self.stage2
                .migrate_page(self.ipa(region, index), from, to, &mut self.mover(place));
        match (page, self.mapped(region), self.given_back(result, new)) {
            (None, _, Err(MigrateError::Changed)) => {}
            (_, Mapped::Block, Err(MigrateError::Changed)) => {}
            (Some(page), _, Err(MigrateError::Pinned)) => assert!(!is_movable(page)),
            (Some(page), Mapped::Table, Ok(())) => {
                assert!(is_movable(page));
                self.update(region, index..index + 1, |page| page.pa = new);
            }
            unexpected => panic!("{unexpected:?}"),
        }
    }

    fn move_from_elsewhere(&self, place @ (region, index): Place) {
        let Ok(to) = self.machine.data().allocate(Level::L3) else {
            return;
        };
        let (new, elsewhere) = (to.pa(), nth(to.pa(), 1));
        if self
            .page(region, index)
            .is_none_or(|page| page.pa != elsewhere)
        {
            let ipa = self.ipa(region, index);
            let result = self
                .stage2
                .migrate_page(ipa, elsewhere, to, &mut self.mover(place));
            assert_eq!(self.given_back(result, new), Err(MigrateError::Changed));
        } else {
            self.machine.data().release(to);
        }
    }
}

impl Region {
    fn is_uniform(&self) -> bool {
        let mut pages = self.pages.iter().flatten();
        let first = pages.next();
        pages.all(|page| Some(page.attributes) == first.map(|page| page.attributes))
    }

    fn is_movable(&self) -> bool {
        self.pages.iter().flatten().all(|&page| is_movable(page))
    }

    fn is_contiguous(&self) -> bool {
        let first = self.pages[0].map_or(Pa::new(1), |page| page.pa);
        first.is_aligned(Level::L2)
            && (0..PAGES)
                .all(|index| self.pages[index].is_some_and(|page| page.pa == nth(first, index)))
    }

    /// Whether a collapse by copying can succeed.
    pub(super) fn can_be_copied(&self, max_empty: usize) -> bool {
        let empty = self.pages.iter().filter(|page| page.is_none()).count();
        let enough = empty <= max_empty && empty < PAGES;
        self.mapped == Mapped::Table && enough && self.is_uniform() && self.is_movable()
    }

    /// The marks of use are the block's, from now on.
    pub(super) fn become_block(&mut self) {
        self.mapped = Mapped::Block;
        let pages = || self.pages.iter().flatten();
        let accessed = pages().any(|page| page.accessed);
        let maybe_dirty = pages().any(|page| page.maybe_dirty);
        for page in self.pages.iter_mut().flatten() {
            page.accessed = accessed;
            page.maybe_dirty = maybe_dirty;
        }
    }
}

/// The frame so many frames further on.
pub(super) fn nth(pa: Pa, index: usize) -> Pa {
    pa.offset(index as u64 * Level::L3.size())
}
