//! Tables on their way out, and fresh ones on their way in.
//!
//! Owns the life of a table frame outside the tree: a [`Spare`] waits to be installed, and goes
//! back if it is not; a [`Retired`] list waits for a grace period before its frames are freed. The
//! lists are linked through the metadata of the frames, so that freeing never needs memory.
//!
//! Order of a table's end, enforced by what each step takes: detach (under the locks of parent and
//! child), flush, grace period, free.

use crate::addr::{Level, Pa};
use crate::env::{Cpus, Environment, Frames, OutOfFrames, TableFrame, TableWindow};
use crate::flush::Flushed;
use crate::grace::Moment;
use crate::meta::TableMeta;
use crate::observer::{Observation, Topic};
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
pub(crate) struct Retired {
    tables: TableList,
    /// Pages of deposits, which no reader looks at.
    pages: TableList,
    /// When the last of them was detached.
    since: Moment,
}

impl Retired {
    /// No tables.
    pub(crate) const fn none() -> Self {
        Self {
            tables: TableList::new(),
            pages: TableList::new(),
            since: Moment::FIRST,
        }
    }

    /// Adds tables that were detached by this moment, of which the proof says that no walk cache
    /// holds them any more.
    pub(crate) fn add<F: Frames>(
        &mut self,
        frames: &F,
        mut tables: TableList,
        since: Moment,
        _proof: &Flushed,
    ) {
        while let Some(pa) = tables.pop(frames) {
            self.tables.push(frames, pa);
        }
        self.since = self.since.max(since);
    }

    /// Adds a table that was kept, and so flushed, when it was detached.
    pub(crate) fn push_kept<F: Frames>(&mut self, frames: &F, pa: Pa) {
        if let Some(meta) = frames.table_meta(pa) {
            self.since = self.since.max(meta.detached());
            self.tables.push(frames, pa);
        }
    }

    /// Adds the page of a deposit that has ended.
    pub(crate) fn push_page<F: Frames>(&mut self, frames: &F, pa: Pa) {
        self.pages.push(frames, pa);
    }
}

impl<E: Environment> Stage2<E> {
    /// Frees retired tables, which nobody can reach when a grace period has passed since they were
    /// detached: waits for that, and for the collapses that have claims on them.
    ///
    /// Called outside read sections and with no lock held.
    pub(crate) fn reclaim(&self, retired: Retired) {
        let Retired {
            mut tables,
            mut pages,
            since,
        } = retired;
        while let Some(pa) = pages.pop(self.env().frames()) {
            self.give_back(pa);
        }
        if tables.is_empty() {
            return;
        }
        self.wait_since(since);
        let frames = self.env().frames();
        while let Some(pa) = tables.pop(frames) {
            while frames.table_meta(pa).is_some_and(TableMeta::is_claimed) {
                self.env().cpus().yield_now();
            }
            self.end_table(pa);
            self.free_table(pa);
        }
    }

    /// Makes a table of `level`, with so many entries in use, of a frame that is the caller's
    /// alone.
    #[inline(always)]
    pub(crate) fn make_table(&self, pa: Pa, level: Level, live: usize) {
        if let Some(meta) = self.env().frames().table_meta(pa) {
            meta.become_table(self.owner(), level, live as u16);
            self.trace_protocol(|order| Observation::TableMade {
                order,
                table: pa,
                level,
                root: None,
            });
        }
    }

    /// Makes an ordinary frame of a table that nobody can reach any more.
    pub(crate) fn end_table(&self, pa: Pa) {
        if let Some(meta) = self.env().frames().table_meta(pa) {
            meta.cease_to_be_table();
            self.trace_protocol(|order| Observation::TableEnded { order, table: pa });
        }
    }

    #[cold]
    fn give_back(&self, pa: Pa) {
        self.env().frames().free_tables(TableFrame::at(pa), 0);
    }

    /// Gives a frame back that is no table any more, or never became one.
    pub(crate) fn free_table(&self, pa: Pa) {
        self.env().frames().free_tables(TableFrame::at(pa), 0);
        self.count(Counter::TablesFreed);
        self.trace(Topic::Frees, move || Observation::TableFreed { pa });
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

    pub(crate) fn stage2(&self) -> &'s Stage2<E> {
        self.stage2
    }

    /// The frame, if there is one.
    pub(crate) fn pa(&self) -> Option<Pa> {
        self.pa
    }

    pub(crate) fn is_none(&self) -> bool {
        self.pa.is_none()
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

    /// Takes the frame.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Pa> {
        self.pa.take()
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
pub(crate) fn memory<E: Environment>(
    stage2: &Stage2<E>,
    pa: Pa,
) -> <E::TableWindow as TableWindow>::Ref<'_> {
    stage2.env().window().table(TableFrame::at(pa))
}
