//! Collapsing by copying and moving, with other things happening while a page is copied.

use super::apply::nth;
use super::ops::{Op, Place};
use super::{PAGES, Page, Vm};
use stage2::{
    CollapseError, CopyPages, CopyPlan, GuestPage, Level, OutOfFrames, Pa, Refused, Unmapped,
    Unreadable,
};

/// Copies pages, and does operations before the copies of certain pages.
pub(super) struct Copying<'v> {
    vm: &'v Vm,
    region: usize,
    calls: usize,
    /// The guest runs for so many calls: one for each page, and nobody knows how many more if there
    /// are rounds.
    held_up_from: usize,
    /// The page that is held up, when it is one alone.
    only: Option<usize>,
    meanwhile: &'v [(usize, Op)],
    out_of_frames: bool,
}

impl Copying<'_> {
    fn call(&mut self) {
        if self.calls >= self.held_up_from {
            self.vm
                .check_is_busy((self.region, self.only.unwrap_or(self.calls % PAGES)));
        }
        for (before, op) in self.meanwhile {
            if *before == self.calls {
                self.out_of_frames |= self.vm.apply(op).is_err();
            }
        }
        self.calls += 1;
    }
}

impl CopyPages for Copying<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.call();
        self.vm.machine.data().copier().copy(from, to)
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.call();
        self.vm.machine.data().copier().zero(to);
    }

    fn release(&mut self, leaf: Unmapped) {
        let (region, index) = self.vm.place(leaf.ipa);
        let page = self
            .vm
            .page(region, index)
            .expect("only what was mapped is released");
        self.vm.compare(page, leaf.descriptor, 0);
        self.vm.machine.data().release(leaf.frame);
    }
}

impl Vm {
    pub(super) fn mover(&self, (region, index): Place) -> Copying<'_> {
        Copying {
            vm: self,
            region,
            calls: PAGES,
            held_up_from: PAGES,
            only: Some(index),
            meanwhile: &[],
            out_of_frames: false,
        }
    }

    pub(super) fn collapse_by_copying(
        &self,
        region: usize,
        plan: CopyPlan,
        meanwhile: &[(usize, Op)],
    ) -> Result<(), OutOfFrames> {
        let Ok(to) = self.machine.data().allocate(Level::L2) else {
            return Ok(());
        };
        let block = to.pa();
        let mut copying = Copying {
            vm: self,
            region,
            calls: 0,
            held_up_from: if plan.rounds == 0 { PAGES } else { usize::MAX },
            only: None,
            meanwhile,
            out_of_frames: false,
        };
        let could = self.regions.borrow()[region].can_be_copied(plan.max_empty);
        self.claimed.set(Some(region));
        let ipa = self.ipa(region, 5);
        let result = self.stage2.collapse_by_copying(ipa, to, plan, &mut copying);
        self.claimed.set(None);
        let Copying {
            mut out_of_frames, ..
        } = copying;
        match result {
            Ok(()) => {
                assert!(self.regions.borrow()[region].can_be_copied(plan.max_empty));
                self.adopt_copy(region, block);
            }
            Err(Refused { reason, frame }) => {
                // Whatever else happened, an undisturbed collapse of what can be collapsed
                // succeeds.
                let no_deposit = reason == CollapseError::OutOfFrames;
                assert!(!could || !meanwhile.is_empty() || no_deposit, "{reason:?}");
                out_of_frames |= no_deposit;
                assert!(could || reason != CollapseError::Hot);
                assert_eq!(frame.pa(), block);
                self.machine.data().release(frame);
            }
        }
        if out_of_frames {
            Err(OutOfFrames)
        } else {
            Ok(())
        }
    }

    /// The region is the block at `to`; where nothing was mapped there are zeros.
    fn adopt_copy(&self, region: usize, to: Pa) {
        let region = &mut self.regions.borrow_mut()[region];
        let like = *region.pages.iter().flatten().next().expect("not empty");
        for (index, page) in region.pages.iter_mut().enumerate() {
            let empty = Page {
                value: 0,
                dirty: false,
                maybe_dirty: false,
                accessed: false,
                ..like
            };
            let page = page.get_or_insert(empty);
            page.pa = nth(to, index);
        }
        region.become_block();
    }
}
