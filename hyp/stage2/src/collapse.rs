//! Collapsing the 512 entries of a table to one block.
//!
//! Two ways: in place, when the leaves are contiguous already (here), and by copying them into a
//! new block (in [`copying`]).
//!
//! Rules that hold in both:
//! - The block takes the place of leaves that differ at most in address and marks of use: rights
//!   never widen, pinned and device pages are never moved.
//! - What was seen without a lock is a hint: it is checked again where nobody can change it any
//!   more.
//! - The locks of parent and child are held when the table is taken away. Holding the child's also
//!   means that nobody who had it before is still writing.
//! - The emptied table is not freed but kept for splitting the block again.
//!
//! Lock order: parent, child.

mod copying;
mod pages;
mod survey;

use crate::addr::{Ipa, IpaRange, Level};
use crate::copy::CopyPages;
use crate::deposit::Kept;
use crate::descriptor::{Descriptor, Difference, Operation};
use crate::detached::{Retired, Spare};
use crate::env::{Environment, Frames, OutOfFrames};
use crate::flush::Flushed;
use crate::frame::{GuestFrame, Refused};
use crate::lookup::{Absent, Locked, Reader, Unlocked};
use crate::observer::{CollapseStep, Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;
use survey::Run;

/// Why nothing was collapsed. What the guest sees is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollapseError {
    /// The guest address is beyond the VM's.
    #[error("the guest address is beyond the VM's")]
    OutOfRange,
    /// The VM's tables have no blocks of this level.
    #[error("the level has no blocks")]
    WrongLevel,
    /// By copying: the new frame is no block of level 2.
    #[error("the new frame is no block of level 2")]
    WrongSize,
    /// By copying: a table is in the new frame. Its maker's promise is broken.
    #[error("a table is in the new frame")]
    Table,
    /// There is no table below the entry.
    #[error("there is no table: {0:?}")]
    NoTable(Absent),
    /// Another collapse of the region is under way.
    #[error("another collapse of the region is under way")]
    Claimed,
    /// More entries are empty than the plan allows.
    #[error("too many entries are empty")]
    TooEmpty,
    /// No frame is left for the deposit of the table that holds the entry.
    #[error("no frame is left for the deposit")]
    OutOfFrames,
    /// By copying: a page's memory cannot be read.
    #[error("a page's memory cannot be read")]
    Unreadable,
    /// Another operation works on an entry: wait, holding nothing, and try again.
    #[error("another operation works on an entry")]
    Busy,
    /// A table stands in an entry: collapse that one first.
    #[error("a table stands in an entry")]
    Nested,
    /// An entry is malformed. The next operation that changes it clears it.
    #[error("an entry is bad")]
    Bad,
    /// In place: an entry has changed since it was looked at.
    #[error("an entry has changed since it was looked at")]
    Changed,
    /// The leaves differ in rights or memory type.
    #[error("the leaves differ in rights or memory type")]
    Mixed,
    /// A leaf must keep its frame.
    #[error("a leaf must keep its frame")]
    Pinned,
    /// In place: the leaves' frames are not contiguous, or do not begin at a multiple of the
    /// block's size.
    #[error("the frames do not follow each other from an aligned one on")]
    Scattered,
    /// By copying: more pages were written, mapped or unmapped since they were copied than the plan
    /// allows to copy again, or to zero, while the guest is held up.
    #[error("too many pages were written while they were copied")]
    Hot,
}

/// How much a collapse by copying may do.
#[derive(Clone, Copy, Debug)]
pub struct CopyPlan {
    /// Entries that may be empty, and become zeroed memory of the block.
    pub max_empty: usize,
    /// Pages that may be copied, or zeroed, while the guest is held up.
    pub max_hot: usize,
    /// How often the pages that changed meanwhile are copied again while the guest runs, as long as
    /// they are more than that.
    pub rounds: usize,
}

impl From<OutOfFrames> for CollapseError {
    fn from(_: OutOfFrames) -> Self {
        CollapseError::OutOfFrames
    }
}

impl<E: Environment> Stage2<E> {
    /// Collapses the table below the entry of `level` for `ipa` to a block, if its leaves are
    /// contiguous. The guest is held up for one invalidation, or not at all where the CPU allows
    /// it.
    ///
    /// May wait for a grace period.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn collapse_in_place(&self, ipa: Ipa, level: Level) -> Result<(), CollapseError> {
        self.may_wait();
        self.check_collapse(ipa, level)?;
        let ipa = ipa.align_down(level);
        self.trace_collapse(ipa, level, CollapseStep::Begun);
        let result = self.exchange_in_place(ipa, level);
        self.finish(ipa, level, result, Counter::CollapsesInPlace)
    }

    /// Collapses the level-3 table of `ipa` to the block `to`, copying what is mapped there.
    ///
    /// On success the frames that were mapped before have been given to [`CopyPages::release`]. On
    /// error none was, and the contents of `to` are unspecified.
    ///
    /// May wait for a grace period.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn collapse_by_copying(
        &self,
        ipa: Ipa,
        to: GuestFrame,
        plan: CopyPlan,
        contents: &mut impl CopyPages,
    ) -> Result<(), Refused<CollapseError>> {
        const LEVEL: Level = Level::L2;
        self.may_wait();
        if let Err(reason) = self.check_copy(ipa, &to) {
            return Err(Refused { reason, frame: to });
        }
        let ipa = ipa.align_down(LEVEL);
        self.trace_collapse(ipa, LEVEL, CollapseStep::Begun);
        let result = self.copy_and_exchange(ipa, &to, plan, contents);
        self.finish(ipa, LEVEL, result, Counter::CollapsesCopied)
            .map_err(|reason| Refused { reason, frame: to })
    }

    fn check_copy(&self, ipa: Ipa, to: &GuestFrame) -> Result<(), CollapseError> {
        self.check_collapse(ipa, Level::L2)?;
        if to.level() != Level::L2 {
            return Err(CollapseError::WrongSize);
        }
        if self.env().frames().holds_tables(to) {
            return Err(CollapseError::Table);
        }
        Ok(())
    }

    fn check_collapse(&self, ipa: Ipa, level: Level) -> Result<(), CollapseError> {
        if !matches!(level, Level::L1 | Level::L2) || level < self.geometry().start() {
            return Err(CollapseError::WrongLevel);
        }
        if !self.contains(IpaRange::entry(ipa, level)) {
            return Err(CollapseError::OutOfRange);
        }
        Ok(())
    }

    /// Counts what has come of a collapse, and frees what was kept for blocks that are part of the
    /// new one.
    fn finish(
        &self,
        ipa: Ipa,
        level: Level,
        result: Result<Retired, CollapseError>,
        done: Counter,
    ) -> Result<(), CollapseError> {
        let retired = result.inspect_err(|&error| {
            self.count(Counter::CollapsesAborted);
            self.trace_collapse(ipa, level, CollapseStep::GivenUp(error));
        })?;
        self.count(done);
        self.trace_collapse(ipa, level, CollapseStep::Done);
        self.reclaim(retired);
        Ok(())
    }

    fn trace_collapse(&self, ipa: Ipa, level: Level, step: CollapseStep) {
        self.trace(Topic::Changes, move || Observation::Collapse {
            ipa,
            level,
            step,
        });
    }

    fn exchange_in_place(&self, ipa: Ipa, level: Level) -> Result<Retired, CollapseError> {
        let mut page = Spare::none(self);
        loop {
            let reader = self.change();
            let holder = holder(&reader, ipa, level)?;
            let table = table_below(&holder, ipa)?;
            let run = Run::of(&table, level)?;
            if holder.has_deposit() || !page.is_none() {
                return self.exchange_run(&reader, &table, &run, (ipa, level), &mut page);
            }
            drop(table);
            drop(holder);
            drop(reader);
            page.fill()?;
        }
    }

    /// Collapses the `table` below the entry of a level for an address, if it still is this `run`.
    /// The frame in `page` is for the deposit, if there is none.
    fn exchange_run(
        &self,
        reader: &Reader<'_, E>,
        table: &Unlocked<'_, E>,
        run: &Run,
        (ipa, level): (Ipa, Level),
        page: &mut Spare<'_, E>,
    ) -> Result<Retired, CollapseError> {
        let mut parent = lock_holder(reader, ipa, level)?;
        let mut child = parent.slot(ipa).lock().map_err(CollapseError::NoTable)?;
        if child.meta().is_claimed() {
            return Err(CollapseError::Claimed);
        }
        let difference = run.difference(&child);
        if !difference.is_of_use() {
            drop(child);
            drop(parent);
            return Err(survey::why_no_run(table));
        }
        if !parent.open_deposit(page) {
            return Err(CollapseError::Changed);
        }
        let block = run.block(self.format(), level).with_deposit();
        let (flushed, gained) = self.exchange(&mut parent, ipa, block, &child, difference);
        self.publish();
        let mut retired = Retired::none();
        child.give_up_deposit(&mut retired);
        let kept = Kept {
            pa: child.pa(),
            has_parts: difference.is_none() && !gained,
        };
        self.keep(&mut parent, kept, ipa, &flushed);
        Ok(retired)
    }

    /// Puts `block` in the place of the table `child`, whose entries are what this `difference`
    /// says. Says whether any of these gained marks before the flush.
    fn exchange(
        &self,
        parent: &mut Locked<'_, E>,
        ipa: Ipa,
        block: Descriptor,
        child: &Locked<'_, E>,
        difference: Difference,
    ) -> (Flushed, bool) {
        let index = ipa.index(parent.level());
        // What the hardware marks in the old entries up to the flush holds for the block as well.
        let used = block.with_use_of(difference.marks_of_use());
        let marked = || {
            if used.may_gain_marks() {
                used.with_use_of(survey::marks(child))
            } else {
                used
            }
        };
        if self.direct_size_change() {
            // Nobody is to fault on what went through before.
            let (_, stale) = parent.replace(index, used);
            let flushed = self.flush(stale);
            let marks = marked();
            if marks != used {
                let _ = parent.update(index, |block| block.with_use_of(marks));
            }
            (flushed, marks != used)
        } else {
            let marker = self.marker(Operation::Collapse);
            let (_, stale) = parent.break_entry(index, marker);
            let flushed = self.flush(stale);
            let block = marked();
            parent.make_entry(index, marker, block, &flushed);
            (flushed, block != used)
        }
    }

    /// Keeps a table that a marked block at `ipa` has replaced with the one that has the block's
    /// entry.
    fn keep(&self, parent: &mut Locked<'_, E>, kept: Kept, ipa: Ipa, flushed: &Flushed) {
        let level = parent.level();
        parent.keep(ipa.index(level), kept, flushed);
        parent.count(Counter::TablesDetached);
        let level = level.next().unwrap_or(level);
        self.trace(Topic::Frees, move || Observation::Detached { ipa, level });
    }
}

/// The table that holds the entry of `level` for `ipa`.
fn holder<'r, E: Environment>(
    reader: &'r Reader<'_, E>,
    ipa: Ipa,
    level: Level,
) -> Result<Unlocked<'r, E>, CollapseError> {
    match reader.descend(ipa, level) {
        None => Err(CollapseError::OutOfRange),
        Some(Ok(table)) => Ok(table),
        Some(Err(stopped)) => Err(CollapseError::NoTable(stopped.absent)),
    }
}

fn lock_holder<'r, E: Environment>(
    reader: &'r Reader<'_, E>,
    ipa: Ipa,
    level: Level,
) -> Result<Locked<'r, E>, CollapseError> {
    let changed = CollapseError::NoTable(Absent::Contended);
    holder(reader, ipa, level)?.lock().map_err(|_| changed)
}

/// The table below the entry of `level` for `ipa`.
fn table_of<'r, E: Environment>(
    reader: &'r Reader<'_, E>,
    ipa: Ipa,
    level: Level,
) -> Result<Unlocked<'r, E>, CollapseError> {
    table_below(&holder(reader, ipa, level)?, ipa)
}

/// The table below the entry for `ipa` of the one that holds it.
fn table_below<'r, E: Environment>(
    holder: &Unlocked<'r, E>,
    ipa: Ipa,
) -> Result<Unlocked<'r, E>, CollapseError> {
    holder
        .slot(ipa)
        .map_nolock()
        .map_err(CollapseError::NoTable)
}
