//! Tables on their way out, and fresh ones on their way in.
//!
//! Owns the life of a table frame outside the tree: a [`Spare`] waits to be installed, and goes back
//! if it is not; a [`Retired`] list waits for a grace period before its frames are freed. The lists
//! are linked through the metadata of the frames, so that freeing never needs memory.
//!
//! Order of a table's end, enforced by what each step takes: detach (under the locks of parent and
//! child), flush, grace period, free.

use crate::addr::{Level, Pa};
use crate::descriptor::Descriptor;
use crate::env::{Environment, Frames, OutOfFrames, TableFrame, Window};
use crate::flush::Flushed;
use crate::observe::{Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;

/// A list of table frames, linked through their metadata.
pub(crate) struct TableList {
    head: Option<Pa>,
}

impl TableList {
    pub(crate) const fn new() -> Self {
        Self { head: None }
    }

    pub(crate) fn push<F: Frames>(&mut self, frames: &F, pa: Pa) {
        if let Some(meta) = frames.table_meta(pa) {
            meta.set_next(self.head);
            self.head = Some(pa);
        }
    }

    pub(crate) fn pop<F: Frames>(&mut self, frames: &F) -> Option<Pa> {
        let pa = self.head?;
        self.head = frames.table_meta(pa).and_then(|meta| meta.next());
        Some(pa)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }
}

/// Detached tables whose translations are flushed; readers may still look at them.
#[must_use = "the frames are lost unless a grace period is awaited and they are freed"]
pub(crate) struct Retired(TableList);

impl Retired {
    /// The detached tables, of which the proof says that no walk cache holds them any more.
    pub(crate) fn new(tables: TableList, _proof: &Flushed) -> Self {
        Self(tables)
    }
}

impl<E: Environment> Stage2<E> {
    /// Waits for a grace period and hands each retired frame to `reuse`, which nobody can reach then.
    ///
    /// Called outside read sections and with no lock held.
    pub(crate) fn after_grace(&self, retired: Retired, mut reuse: impl FnMut(Pa)) {
        let Retired(mut tables) = retired;
        if tables.is_empty() {
            return;
        }
        self.synchronize();
        let frames = self.env().frames();
        while let Some(pa) = tables.pop(frames) {
            if let Some(meta) = frames.table_meta(pa) {
                meta.cease_to_be_table();
                self.tell_checker(|order| Observation::TableEnded { order, table: pa });
            }
            reuse(pa);
        }
    }

    /// Frees retired tables after a grace period.
    pub(crate) fn reclaim(&self, retired: Retired) {
        self.after_grace(retired, |pa| self.free_table(pa));
    }

    /// Gives a frame back that was not used. It may have come from the deposit, so that is where it is
    /// offered first.
    #[cold]
    fn give_back(&self, pa: Pa) {
        let frames = self.env().frames();
        if let Some(pa) = self.deposit.keep(frames, pa) {
            frames.free_tables(TableFrame::at(pa), 0);
        }
    }

    /// Gives a frame back that is no table any more, or never became one.
    pub(crate) fn free_table(&self, pa: Pa) {
        self.env().frames().free_tables(TableFrame::at(pa), 0);
        self.count(Counter::TablesFreed);
        self.tell(Topic::Frees, move || Observation::TableFreed { pa });
    }
}

/// At most one fresh table frame, allocated while no lock is held and used under one.
///
/// What is not used goes back when it is dropped.
pub(crate) struct Spare<'s, E: Environment> {
    stage2: &'s Stage2<E>,
    pa: Option<Pa>,
}

impl<'s, E: Environment> Spare<'s, E> {
    pub(crate) fn none(stage2: &'s Stage2<E>) -> Self {
        Self { stage2, pa: None }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.pa.is_none()
    }

    /// Sees to it that there is a frame for splitting `block`, which may have one in the deposit. Its
    /// contents are whatever they are.
    pub(crate) fn fill_for(&mut self, block: Descriptor) -> Result<(), OutOfFrames> {
        if self.pa.is_none() && block.has_deposit() {
            self.pa = self.stage2.deposit.take(self.stage2.env().frames());
        }
        self.fill_with_any()
    }

    /// Sees to it that there is a frame. Its contents are whatever they are.
    #[inline]
    pub(crate) fn fill_with_any(&mut self) -> Result<(), OutOfFrames> {
        if self.pa.is_none() {
            self.pa = Some(self.stage2.env().frames().allocate_filled_table()?);
        }
        Ok(())
    }

    /// Sees to it that there is a frame, of empty entries.
    pub(crate) fn fill(&mut self) -> Result<(), OutOfFrames> {
        if self.pa.is_none() {
            self.pa = Some(self.stage2.env().frames().allocate_tables(0)?);
        }
        Ok(())
    }

    /// Takes the frame, as a table of `level` that nobody can see yet.
    #[inline]
    pub(crate) fn take(&mut self, level: Level) -> Option<Pa> {
        let pa = self.pa.take()?;
        if let Some(meta) = self.stage2.env().frames().table_meta(pa) {
            meta.become_table(self.stage2.owner(), level);
            self.stage2.tell_checker(|order| Observation::TableMade {
                order,
                table: pa,
                level,
                root: None,
            });
        }
        Some(pa)
    }
}

impl<E: Environment> Drop for Spare<'_, E> {
    #[inline]
    fn drop(&mut self) {
        if let Some(pa) = self.pa.take() {
            self.stage2.give_back(pa);
        }
    }
}

/// The memory of a table that the caller alone can change.
pub(crate) fn memory<E: Environment>(stage2: &Stage2<E>, pa: Pa) -> <E::Window as Window>::Ref<'_> {
    stage2.env().window().table(TableFrame::at(pa))
}
