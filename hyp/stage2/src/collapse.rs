//! Collapsing the 512 entries of a table to one block.
//!
//! Two ways: in place, when the leaves are contiguous already, and by copying them into a new block.
//! Copying happens while the guest runs: first all stores to the region are made to trap and the
//! pages are copied; then the region is taken away for the moment it takes to copy again what was
//! written meanwhile.
//!
//! Rules that hold here:
//! - The table is *claimed* while it is copied with no lock held: it stays in its place, and nobody
//!   else collapses it.
//! - What was checked before a lock was dropped is checked again: the survey is made twice, the
//!   second time under the locks of parent and child, in that order. Holding the child's lock also
//!   means that nobody who had it before is still writing.
//! - Between break and make stands a busy marker; what the guest could still write through cached
//!   translations is read only after the flush.
//! - The block takes the place of leaves that differ at most in address and marks of use: rights
//!   never widen, pinned and device pages are never moved.
//! - The emptied table is not freed but kept for splitting the block again.
//!
//! Lock order: parent, child.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, Pa};
use crate::copy::Contents;
use crate::descriptor::{Descriptor, Kind, Marker, Memory, Work};
use crate::detached::{Retired, TableList, memory};
use crate::env::{Cpus, Environment, Frames};
use crate::flush::Flushed;
use crate::held::Held;
use crate::lookup::{Absent, Locked, Unlocked};
use crate::observe::{CollapseStep, Observation, Topic};
use crate::stage2::{Stage2, next_entry};
use crate::stats::Counter;
use crate::sync::Ordering;

/// Pages copied in one step, after which other threads of the CPU get their turn.
const STEP: usize = 16;

/// Why nothing was collapsed. What the guest sees is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollapseError {
    /// The address is beyond the VM's, the level has no blocks, or the new block is not aligned.
    OutOfRange,
    /// There is no table below the entry.
    NoTable(Absent),
    /// Somebody else collapses the region.
    Claimed,
    /// More entries are empty than the plan allows.
    TooEmpty,
    /// Somebody works on an entry, or a table stands in one.
    Busy,
    /// The leaves differ in rights or memory type.
    Mixed,
    /// A leaf must keep its frame.
    Pinned,
    /// In place: the leaves' frames are not contiguous, or do not begin at a multiple of the block's size.
    Scattered,
    /// By copying: more pages were written since they were copied than the plan allows to copy
    /// again while the guest is held up.
    Hot,
}

/// How much a collapse by copying may do.
#[derive(Clone, Copy, Debug)]
pub struct CopyPlan {
    /// Entries that may be empty, and become zeroed memory of the block.
    pub max_empty: usize,
    /// Pages that may be copied while the guest is held up.
    pub max_hot: usize,
}

/// What a table's entries have in common.
struct Survey {
    /// A leaf that stands for all.
    like: Descriptor,
    /// Leaves that must be copied (again).
    hot: usize,
}

/// A table that stays in its place, and is nobody else's to collapse, until this is dropped.
struct Claim<'s, E: Environment> {
    stage2: &'s Stage2<E>,
    table: Pa,
    ipa: Ipa,
    level: Level,
}

impl<E: Environment> Stage2<E> {
    /// Collapses the table below the entry of `level` for `ipa` to a block, if its leaves are
    /// contiguous. The guest is held up for one invalidation, or not at all where the CPU allows it.
    ///
    /// Waits for a grace period afterwards: called outside read sections, with no lock held.
    pub fn collapse_in_place(&self, ipa: Ipa, level: Level) -> Result<(), CollapseError> {
        self.check_collapse(ipa, level)?;
        let ipa = ipa.align_down(level);
        self.tell_of_collapse(ipa, level, CollapseStep::Begun);
        let result = self.exchange_in_place(ipa, level);
        self.finish(ipa, level, result, Counter::CollapsesInPlace)
    }

    /// Collapses the table below the entry of `level` for `ipa` to the block at `to`, whose frames
    /// are the caller's, copying what is mapped there.
    ///
    /// On success the frames that were mapped before have been given to [`Contents::release`]. On error none was,
    /// and `to` is still the caller's, with unspecified contents.
    ///
    /// Waits for a grace period afterwards: called outside read sections, with no lock held.
    pub fn collapse_by_copying(
        &self,
        ipa: Ipa,
        level: Level,
        to: Pa,
        plan: CopyPlan,
        contents: &mut impl Contents,
    ) -> Result<(), CollapseError> {
        self.check_collapse(ipa, level)?;
        if level != Level::L2 || !to.fits(level) {
            return Err(CollapseError::OutOfRange);
        }
        let ipa = ipa.align_down(level);
        self.tell_of_collapse(ipa, level, CollapseStep::Begun);
        let result = self.copy_and_exchange(ipa, to, plan, contents);
        self.finish(ipa, level, result, Counter::CollapsesCopied)
    }

    fn check_collapse(&self, ipa: Ipa, level: Level) -> Result<(), CollapseError> {
        let fits = matches!(level, Level::L1 | Level::L2)
            && level >= self.geometry().start()
            && self.contains(IpaRange::entry(ipa, level));
        if fits {
            Ok(())
        } else {
            Err(CollapseError::OutOfRange)
        }
    }

    /// Counts, and sends the emptied table on its way.
    fn finish(
        &self,
        ipa: Ipa,
        level: Level,
        result: Result<Retired, CollapseError>,
        done: Counter,
    ) -> Result<(), CollapseError> {
        let retired = result.inspect_err(|&error| {
            self.count(Counter::CollapsesAborted);
            self.tell_of_collapse(ipa, level, CollapseStep::GivenUp(error));
        })?;
        self.count(done);
        self.tell_of_collapse(ipa, level, CollapseStep::Done);
        self.after_grace(retired, |table| {
            self.forget_deposits_of(table);
            if let Some(surplus) = self.deposit.keep(self.env().frames(), table) {
                self.free_table(surplus);
            }
        });
        Ok(())
    }

    fn tell_of_collapse(&self, ipa: Ipa, level: Level, step: CollapseStep) {
        self.tell(Topic::Changes, move || Observation::Collapse {
            ipa,
            level,
            step,
        });
    }

    /// The blocks of a collapsed table are gone, and with them what was kept for splitting them.
    fn forget_deposits_of(&self, table: Pa) {
        let table = memory(self, table);
        let marked = table
            .entries
            .iter()
            .filter(|entry| Descriptor::from_bits(entry.load(Ordering::Relaxed)).has_deposit());
        for _ in marked {
            self.forget_deposit();
        }
    }

    fn exchange_in_place(&self, ipa: Ipa, level: Level) -> Result<Retired, CollapseError> {
        let reader = self.read();
        let mut parent = lock_holder(&reader, ipa, level)?;
        let child = parent.slot(ipa).lock().map_err(CollapseError::NoTable)?;
        if child.meta().is_claimed() {
            return Err(CollapseError::Claimed);
        }
        let survey = survey(&child, 0)?;
        let first = contiguous(&child, level).ok_or(CollapseError::Scattered)?;
        let block = survey
            .like
            .merged(self.format(), level, first)
            .with_deposit(true);
        self.deposit.promise();
        let index = ipa.index(level);
        let flushed = if self.direct_size_change() {
            let (_, stale) = parent.replace(index, block);
            let flushed = self.flush(stale);
            // What was marked in the old entries up to the flush holds for the block as well.
            let marks = marks_of(&child);
            let _ = parent.update(index, |block| block.with_use_of(marks));
            flushed
        } else {
            let marker = self.marker(Work::Collapse);
            let (_, stale) = parent.break_entry(index, marker);
            let flushed = self.flush(stale);
            let block = block.with_use_of(marks_of(&child));
            parent.make_entry(index, marker, block, &flushed);
            flushed
        };
        self.publish();
        Ok(self.retire(child.pa(), ipa, level, &flushed))
    }

    fn copy_and_exchange(
        &self,
        ipa: Ipa,
        to: Pa,
        plan: CopyPlan,
        contents: &mut impl Contents,
    ) -> Result<Retired, CollapseError> {
        let begin = self.env().clock();
        let claim = self.claim_for_copy(ipa, plan)?;
        contents.held_up(self.env().clock().wrapping_sub(begin));
        let mut zeroed = [false; ENTRIES];
        for first in (0..ENTRIES).step_by(STEP) {
            self.copy_step(&claim, first, to, &mut zeroed, contents);
            self.env().cpus().give_way();
        }
        self.tell_of_collapse(ipa, Level::L2, CollapseStep::Copied);
        let begin = self.env().clock();
        let (marker, flushed) = self.break_claimed(&claim, plan)?;
        // From here on the region is ours alone: the guest faults on the marker, everybody else
        // waits for it, and no translation is left through which a store could come.
        let table = memory(self, claim.table);
        let entry =
            |index: usize| Descriptor::from_bits(table.entries[index].load(Ordering::Acquire));
        if (0..ENTRIES).filter(|&index| is_hot(entry(index))).count() > plan.max_hot {
            self.make_claimed(&claim, marker, Descriptor::table(claim.table), &flushed);
            return Err(CollapseError::Hot);
        }
        let mut block = None;
        for (index, zeroed) in zeroed.iter().enumerate() {
            let old = entry(index);
            let page = to.offset(index as u64 * Level::L3.size());
            match old.kind(Level::L3) {
                Kind::Leaf(from) => {
                    if is_hot(old) {
                        contents.copy(from, page);
                        self.count(Counter::PagesRecopied);
                    }
                    block = Some(old.with_use_of(block.unwrap_or(old)));
                }
                _ if !zeroed => contents.zero(page),
                _ => {}
            }
        }
        let Some(like) = block else {
            // Cannot be: the survey under both locks found a leaf. Give the table back.
            self.make_claimed(&claim, marker, Descriptor::table(claim.table), &flushed);
            return Err(CollapseError::TooEmpty);
        };
        contents.complete();
        let block = like.merged(self.format(), Level::L2, to);
        let block = if like.is_written() {
            block.open()
        } else {
            block
        };
        self.deposit.promise();
        self.make_claimed(&claim, marker, block.with_deposit(true), &flushed);
        contents.held_up(self.env().clock().wrapping_sub(begin));
        self.release_old(&claim, contents);
        Ok(self.retire(claim.table, ipa, Level::L2, &flushed))
    }

    /// Claims the table of `ipa`, if it can be collapsed, and makes all stores to its pages trap.
    fn claim_for_copy(&self, ipa: Ipa, plan: CopyPlan) -> Result<Claim<'_, E>, CollapseError> {
        let reader = self.read();
        let holder = holder(&reader, ipa, Level::L2)?;
        let mut table = holder.slot(ipa).lock().map_err(CollapseError::NoTable)?;
        survey(&table, plan.max_empty)?;
        if !table.meta().claim() {
            return Err(CollapseError::Claimed);
        }
        let claim = Claim {
            stage2: self,
            table: table.pa(),
            ipa,
            level: Level::L2,
        };
        let mut stale = None;
        for index in 0..ENTRIES {
            if let Kind::Leaf(_) = table.kind(index) {
                let (_, change) = table.update(index, Descriptor::as_copied);
                stale = Some(change.after(stale));
            }
        }
        if let Some(stale) = stale {
            let _ = self.flush(stale);
        }
        Ok(claim)
    }

    /// Copies some pages, with no lock held. A page that is unmapped or written meanwhile will be
    /// found not to be clean any more.
    fn copy_step(
        &self,
        claim: &Claim<'_, E>,
        first: usize,
        to: Pa,
        zeroed: &mut [bool; ENTRIES],
        contents: &mut impl Contents,
    ) {
        for (index, zeroed) in zeroed.iter_mut().enumerate().skip(first).take(STEP) {
            let entry = memory(self, claim.table).entries[index].load(Ordering::Acquire);
            let page = to.offset(index as u64 * Level::L3.size());
            match Descriptor::from_bits(entry).kind(Level::L3) {
                Kind::Leaf(from) => contents.copy(from, page),
                _ => {
                    contents.zero(page);
                    *zeroed = true;
                }
            }
        }
    }

    /// Takes the claimed table out of the tree, leaving a marker, if it can still be collapsed.
    fn break_claimed(
        &self,
        claim: &Claim<'_, E>,
        plan: CopyPlan,
    ) -> Result<(Marker, Flushed), CollapseError> {
        let reader = self.read();
        let mut parent = lock_holder(&reader, claim.ipa, claim.level)?;
        let child = parent
            .slot(claim.ipa)
            .lock()
            .map_err(CollapseError::NoTable)?;
        let survey = survey(&child, plan.max_empty)?;
        if survey.hot > plan.max_hot {
            return Err(CollapseError::Hot);
        }
        let marker = self.marker(Work::Collapse);
        let (_, stale) = parent.break_entry(claim.ipa.index(claim.level), marker);
        drop(child);
        drop(parent);
        Ok((marker, self.flush(stale)))
    }

    /// Ends the marker of a claimed region.
    fn make_claimed(
        &self,
        claim: &Claim<'_, E>,
        marker: Marker,
        new: Descriptor,
        flushed: &Flushed,
    ) {
        // The marker keeps the holder in its place, so it is found at once, or, when other changes
        // crowd the way, after a while.
        loop {
            let reader = self.read();
            if let Ok(mut parent) = lock_holder(&reader, claim.ipa, claim.level) {
                parent.make_entry(claim.ipa.index(claim.level), marker, new, flushed);
                self.publish();
                return;
            }
            drop(reader);
            self.env().cpus().relax();
        }
    }

    fn release_old(&self, claim: &Claim<'_, E>, contents: &mut impl Contents) {
        let mut ipa = claim.ipa;
        for entry in &memory(self, claim.table).entries {
            let old = Descriptor::from_bits(entry.load(Ordering::Relaxed));
            if let Kind::Leaf(_) = old.kind(Level::L3) {
                contents.release(ipa, old);
            }
            ipa = next_entry(ipa, Level::L3);
        }
    }

    /// Sends the table that a block of `level` at `ipa` has replaced on its way.
    fn retire(&self, table: Pa, ipa: Ipa, level: Level, flushed: &Flushed) -> Retired {
        let mut tables = TableList::new();
        tables.push(self.env().frames(), table);
        self.count(Counter::TablesDetached);
        let level = level.next().unwrap_or(level);
        self.tell(Topic::Frees, move || Observation::Detached { ipa, level });
        Retired::new(tables, flushed)
    }
}

impl<E: Environment> Drop for Claim<'_, E> {
    fn drop(&mut self) {
        // The claim keeps the table where it is or, once detached, from being freed before this.
        if let Some(meta) = self.stage2.env().frames().table_meta(self.table) {
            let level = self.level.next().unwrap_or(self.level);
            let _held = Held::lock(self.stage2, meta, self.table, self.ipa, level);
            meta.release_claim();
        }
    }
}

/// The table that holds the entry of `level` for `ipa`.
fn holder<'r, E: Environment>(
    reader: &'r crate::lookup::Reader<'_, E>,
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
    reader: &'r crate::lookup::Reader<'_, E>,
    ipa: Ipa,
    level: Level,
) -> Result<Locked<'r, E>, CollapseError> {
    let changed = CollapseError::NoTable(Absent::Contended);
    holder(reader, ipa, level)?.lock().map_err(|_| changed)
}

/// Looks whether all entries of a table could be parts of one block.
fn survey<E: Environment>(
    table: &Locked<'_, E>,
    max_empty: usize,
) -> Result<Survey, CollapseError> {
    if ENTRIES - table.live() > max_empty || table.is_empty() {
        return Err(CollapseError::TooEmpty);
    }
    let mut like: Option<Descriptor> = None;
    let mut hot = 0;
    for index in 0..ENTRIES {
        let entry = table.get(index);
        match entry.kind(table.level()) {
            Kind::Empty => continue,
            Kind::Leaf(_) => {}
            Kind::Busy(_) | Kind::Table(_) | Kind::Bad => return Err(CollapseError::Busy),
        }
        if entry.is_pinned() || entry.memory() == Memory::Device {
            return Err(CollapseError::Pinned);
        }
        if !entry
            .with_deposit(false)
            .is_like(like.unwrap_or(entry).with_deposit(false))
        {
            return Err(CollapseError::Mixed);
        }
        hot += usize::from(is_hot(entry));
        like = like.or(Some(entry));
    }
    like.map(|like| Survey { like, hot })
        .ok_or(CollapseError::TooEmpty)
}

/// Whether a page must be copied (again): it was written, or mapped, since the last copy.
fn is_hot(entry: Descriptor) -> bool {
    matches!(entry.kind(Level::L3), Kind::Leaf(_))
        && (entry.lets_stores_through() || !entry.is_copied())
}

/// Where the block would begin, if the leaves of a full table are the parts of one.
fn contiguous<E: Environment>(table: &Locked<'_, E>, level: Level) -> Option<Pa> {
    let first = table.get(0).output();
    let size = table.level().size();
    let in_order =
        (0..ENTRIES).all(|index| table.get(index).output() == first.offset(index as u64 * size));
    (first.is_aligned(level) && in_order).then_some(first)
}

/// The marks of use of all entries together.
fn marks_of<E: Environment>(table: &Locked<'_, E>) -> Descriptor {
    (0..ENTRIES)
        .map(|index| table.get(index))
        .fold(Descriptor::EMPTY, Descriptor::with_use_of)
}
