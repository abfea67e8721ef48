//! Changing what a mapping allows: rights of a range, the access flag, and dirty logging.
//!
//! Dirty logging keeps no bitmap of its own. A leaf whose stores trap is clean, unless a mark says
//! that they were made to trap for another reason. The first store lets stores through (the fault
//! handler, or the hardware with FEAT_HAFDBS), and collecting makes them trap again. So a write
//! fault touches nothing but its own table, and a page's dirt travels with its entry through moves,
//! splits and collapses.

use crate::addr::{Ipa, IpaRange, Level};
use crate::descriptor::{Descriptor, Rights};
use crate::env::{Environment, OutOfFrames};
use crate::lookup::Locked;
use crate::range::{Edit, Edited};
use crate::stage2::Stage2;

struct Protect<'s, E: Environment> {
    stage2: &'s Stage2<E>,
    rights: Rights,
}

impl<E: Environment> Edit<E> for Protect<'_, E> {
    const SPLITS_BLOCKS: bool = true;

    fn leaves(&mut self, table: &mut Locked<'_, E>, index: usize, _: Descriptor) -> Edited {
        let (format, level) = (self.stage2.format(), table.level());
        let (_, stale) = table.update(index, |entry| entry.with_rights(format, level, self.rights));
        Edited::one(Some(stale))
    }
}

/// Clears the access flag, telling which were set.
struct Age<F>(F);

impl<E: Environment, F: FnMut(Ipa, Level)> Edit<E> for Age<F> {
    const SPLITS_BLOCKS: bool = false;

    fn leaves(&mut self, table: &mut Locked<'_, E>, index: usize, seen: Descriptor) -> Edited {
        if !seen.is_accessed() {
            return Edited::one(None);
        }
        let (_, stale) = table.update(index, Descriptor::without_accessed);
        (self.0)(table.ipa(index), table.level());
        Edited::one(Some(stale))
    }
}

/// Makes stores trap, telling which went through.
struct Clean<F> {
    range: IpaRange,
    dirty: F,
}

impl<E: Environment, F: FnMut(IpaRange)> Edit<E> for Clean<F> {
    const SPLITS_BLOCKS: bool = false;

    fn leaves(&mut self, table: &mut Locked<'_, E>, index: usize, seen: Descriptor) -> Edited {
        if !seen.is_written() {
            // With hardware dirty state a store may go through at any time, and is then seen next
            // time.
            return Edited::one(None);
        }
        let covered = IpaRange::entry(table.ipa(index), table.level());
        if let Some(dirty) = covered.intersection(&self.range) {
            (self.dirty)(dirty);
        }
        let (_, stale) = if self.range.covers(&covered) {
            table.update(index, Descriptor::cleaned)
        } else if seen.lets_stores_through() {
            // The rest of the block is not reported, so it must stay dirty; but stores trap from
            // now on.
            table.update(index, Descriptor::closed)
        } else {
            return Edited::one(None);
        };
        Edited::one(Some(stale))
    }
}

/// Makes stores trap, and keeps in mind which went through.
struct Close;

impl<E: Environment> Edit<E> for Close {
    const SPLITS_BLOCKS: bool = false;

    fn leaves(&mut self, table: &mut Locked<'_, E>, index: usize, seen: Descriptor) -> Edited {
        if !seen.lets_stores_through() {
            return Edited::one(None);
        }
        let (_, stale) = table.update(index, Descriptor::closed);
        Edited::one(Some(stale))
    }
}

impl<E: Environment> Stage2<E> {
    /// Gives all mappings of `range` these rights. Whatever is mapped later has its own.
    ///
    /// Blocks that the range covers in part are split first, and if there is no frame for that,
    /// nothing is changed (but see [`unmap`](Self::unmap) for blocks mapped during the call).
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn protect(&self, range: IpaRange, rights: Rights) -> Result<(), OutOfFrames> {
        self.may_wait();
        let Some(range) = range.intersection(&self.geometry().range()) else {
            return Ok(());
        };
        self.split_end(range)?;
        self.edit_range(
            range,
            &mut Protect {
                stage2: self,
                rights,
            },
        )
    }

    /// Clears the access flags of `range`, and reports each leaf that had it set by its first guest
    /// address and level. A block is one leaf, also if the range covers it in part.
    ///
    /// `accessed` is called with a table lock held: it must be short and must not come back here.
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn age(&self, range: IpaRange, accessed: impl FnMut(Ipa, Level)) {
        self.edit_whole(range, &mut Age(accessed));
    }

    /// Makes the next store to each page of `range` fault (or be marked by the hardware): the
    /// beginning of dirty logging.
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn write_protect(&self, range: IpaRange) {
        self.collect_dirty(range, |_| {});
    }

    /// Collects what was written in `range` since stores were last made to trap, and makes them
    /// trap again.
    ///
    /// What is reported is true of all stores until this returns, those through translations that
    /// were still cached included; so copy pages after it has returned, not while it runs. Blocks
    /// are reported whole, as far as they lie in the range; one that lies in it in part traps as
    /// well, and is reported again, since the rest of it is not reported here. A leaf unmapped
    /// since the last call is reported by [`unmap`](Self::unmap) alone.
    ///
    /// `dirty` is called with a table lock held: it must be short and must not come back here.
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn collect_dirty(&self, range: IpaRange, dirty: impl FnMut(IpaRange)) {
        self.edit_whole(range, &mut Clean { range, dirty });
    }

    /// Makes the next store to each page of `range` fault. What was written is still collected
    /// later. A block is one leaf, also if the range covers it in part. Pages that were written and
    /// are collapsed by copying let stores through again, as a block that was written.
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn trap_stores(&self, range: IpaRange) {
        self.edit_whole(range, &mut Close);
    }

    /// Applies an edit that splits nothing, and so cannot run out of frames.
    fn edit_whole<T: Edit<E>>(&self, range: IpaRange, edit: &mut T) {
        const { assert!(!T::SPLITS_BLOCKS) };
        self.may_wait();
        if let Some(range) = range.intersection(&self.geometry().range()) {
            let result = self.edit_range(range, edit);
            debug_assert!(result.is_ok());
        }
    }
}
