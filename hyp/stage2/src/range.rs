//! The driver of operations on a range: one run of entries of one table at a time.
//!
//! Owns the loop that all of them share: find the deepest table for the cursor, lock it, change a
//! run of its entries, flush while the lock is still held (so that nothing new is made before the
//! old is gone from all TLBs), unlock, go on. A busy marker is waited for, with nothing held, and
//! never skipped: what its owner is about to make belongs to the range too.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, Pa};
use crate::descriptor::{Descriptor, EntryKind};
use crate::env::{Environment, OutOfFrames};
use crate::flush::Stale;
use crate::lookup::{Absent, Locked};
use crate::split::SplitError;
use crate::stage2::{Stage2, next_entry};

/// What an operation does with the leaves of its range.
pub(crate) trait Edit<E: Environment> {
    /// Whether a block that the range covers in part must be split; otherwise it is edited whole.
    const SPLITS_BLOCKS: bool;

    /// Changes leaves, under the table's lock: the one of this index, which was loaded as `seen`,
    /// and as many behind it as this edit takes at once. Blocks behind it only if the range covers
    /// them.
    fn leaves(&mut self, table: &mut Locked<'_, E>, index: usize, seen: Descriptor) -> Edited;

    /// The leaves of the run are changed, and not flushed yet: tells the observer what
    /// [`leaves`](Self::leaves) has not. By value, so that the table need not be in memory for it.
    fn trace(&self, _stage2: &Stage2<E>, _table: Pa) {}

    /// The leaves of the run are flushed and no lock is held.
    fn run_ends(&mut self, _stage2: &Stage2<E>) {}
}

/// What an edit has done.
pub(crate) struct Edited {
    /// How many entries it is done with, one at least.
    pub(crate) entries: usize,
    /// What must be flushed.
    pub(crate) stale: Option<Stale>,
}

impl Edited {
    /// One leaf was looked at.
    pub(crate) const fn one(stale: Option<Stale>) -> Self {
        Self { entries: 1, stale }
    }
}

/// How a run came to its end.
enum Step {
    /// Go on at this address.
    On(Ipa),
    /// A marker stands at the cursor.
    Wait,
    /// The block of this level at the cursor is covered in part.
    Split(Level),
}

impl<E: Environment> Stage2<E> {
    /// Applies `edit` to all leaves of `range`, which the caller has checked to be in the VM.
    pub(crate) fn edit_range<T: Edit<E>>(
        &self,
        range: IpaRange,
        edit: &mut T,
    ) -> Result<(), OutOfFrames> {
        let mut cursor = range.start();
        while cursor < range.end() {
            match self.edit_run(cursor, range, edit) {
                Step::On(next) => cursor = next,
                Step::Wait => self.wait(),
                Step::Split(level) => self.split_for_range(cursor, level)?,
            }
        }
        Ok(())
    }

    /// Splits the blocks at the end of `range` that it covers in part, so that out of memory shows
    /// before anything is changed. (Those at its start are the first that
    /// [`edit_range`](Self::edit_range) meets, and splits before it changes anything.) Splitting
    /// changes no translation.
    pub(crate) fn split_end(&self, range: IpaRange) -> Result<(), OutOfFrames> {
        let last = Ipa::new(range.end().get() - 1);
        // What is true of one page of 2 MiB is true of the other pages.
        if range.start().align_down(Level::L2) == last.align_down(Level::L2) {
            return Ok(());
        }
        self.split_if_in_part(last, range)
    }

    /// Splits the blocks round `ipa`, if there are any, that `range` covers in part.
    fn split_if_in_part(&self, ipa: Ipa, range: IpaRange) -> Result<(), OutOfFrames> {
        // Most often there is no block, which one look tells.
        if let Some(seen) = self.query(ipa)
            && (seen.level == Level::L3 || seen.descriptor == Descriptor::EMPTY)
        {
            return Ok(());
        }
        for level in [Level::L1, Level::L2] {
            let in_part = !range.covers(&IpaRange::entry(ipa, level));
            if in_part && level >= self.geometry().start() {
                self.split_for_range(ipa, level)?;
            }
        }
        Ok(())
    }

    fn split_for_range(&self, ipa: Ipa, level: Level) -> Result<(), OutOfFrames> {
        loop {
            match self.split_block(ipa, level) {
                Err(SplitError::OutOfFrames) => return Err(OutOfFrames),
                Err(SplitError::Busy) => self.wait(),
                // Whatever is there now, it is no block of this level.
                Ok(())
                | Err(
                    SplitError::NoBlock
                    | SplitError::Denied
                    | SplitError::OutOfRange
                    | SplitError::WrongLevel,
                ) => return Ok(()),
            }
        }
    }

    fn edit_run<T: Edit<E>>(&self, cursor: Ipa, range: IpaRange, edit: &mut T) -> Step {
        let reader = self.change();
        let table = match reader.descend(cursor, Level::L3) {
            None => return Step::On(range.end()),
            Some(Ok(table)) => table,
            Some(Err(stopped)) => match stopped.absent {
                Absent::Empty => return Step::On(next_entry(cursor, stopped.holder.level())),
                Absent::Busy(_) | Absent::Contended => return Step::Wait,
                Absent::Block(_) => stopped.holder,
                Absent::Bad(bad) => {
                    self.clear_bad(stopped, cursor, bad);
                    return Step::On(cursor);
                }
            },
        };
        let Ok(mut table) = table.lock() else {
            return Step::On(cursor);
        };
        let mut stale = None;
        let step = self.edit_locked(&mut table, cursor, range, edit, &mut stale);
        if table.is_traced() {
            edit.trace(self, table.pa());
        }
        if let Some(stale) = stale {
            let _ = self.flush(stale);
        }
        drop(table);
        drop(reader);
        edit.run_ends(self);
        step
    }

    fn edit_locked<T: Edit<E>>(
        &self,
        table: &mut Locked<'_, E>,
        cursor: Ipa,
        range: IpaRange,
        edit: &mut T,
        stale: &mut Option<Stale>,
    ) -> Step {
        let level = table.level();
        let mut ipa = cursor;
        let mut index = cursor.index(level);
        while index < ENTRIES && ipa < range.end() {
            let entry = table.get(index);
            let Edited {
                entries,
                stale: new,
            } = match entry.kind(level) {
                EntryKind::Empty => Edited::one(None),
                EntryKind::Leaf(_) => {
                    if T::SPLITS_BLOCKS && !range.covers(&IpaRange::entry(ipa, level)) {
                        return if ipa == cursor {
                            Step::Split(level)
                        } else {
                            Step::On(ipa)
                        };
                    }
                    edit.leaves(table, index, entry)
                }
                EntryKind::Busy(_) => {
                    return if ipa == cursor {
                        Step::Wait
                    } else {
                        Step::On(ipa)
                    };
                }
                // Another run, one level further down.
                EntryKind::Table(_) => break,
                EntryKind::Bad => Edited::one(Some(table.clear_bad(index))),
            };
            if let Some(new) = new {
                *stale = Some(new.after(*stale));
            }
            ipa = ipa.align_down(level).offset(entries as u64 * level.size());
            index += entries;
        }
        Step::On(ipa)
    }
}
