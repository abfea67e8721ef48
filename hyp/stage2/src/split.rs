//! Splitting a block into a table of the next level.
//!
//! The table is filled before any lock is acquired, with the addresses, rights and marks of the
//! block as it was seen ([`Parts`]). Under the lock of the table that holds the entry the block is
//! compared with that: marks that came meanwhile are added, and anything else means another look.
//! The entry goes from block to table through a busy marker and a flush, or directly where the CPU
//! allows it, all under that lock, which is held for no longer than this takes.
//!
//! A block that a collapse made has a table in the deposit, which the split takes under that lock
//! instead. If the block is still what a collapse in place has made, its parts are there already;
//! else they are filled in under the lock.
//!
//! Lock order: the table that holds the entry, the new table.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, Pa};
use crate::deposit::{InUse, Kept};
use crate::descriptor::{Descriptor, EntryKind, Operation};
use crate::detached::{Spare, memory};
use crate::env::{Environment, Frames, OutOfFrames, TableFrame, TableWindow};
use crate::guard::{TableGuard, entry_address};
use crate::lookup::{Absent, Locked, MAX_RETRIES};
use crate::observer::{Observation, Observer, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;
use crate::sync::Ordering;

/// Why nothing was split. The tables are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// No frame was left for the table, and the block has none in the deposit.
    #[error("no frame is left for the table")]
    OutOfFrames,
    /// There is no block of this level at the address.
    #[error("no block of this level is there")]
    NoBlock,
    /// For a store: the block may not be stored to.
    #[error("the block may not be stored to")]
    Denied,
    /// The guest address is beyond the VM's.
    #[error("the guest address is beyond the VM's")]
    OutOfRange,
    /// The VM's tables have no blocks of this level.
    #[error("the level has no blocks")]
    WrongLevel,
    /// Another operation works on the region, or a reader may still look at the table in the
    /// deposit: wait, holding nothing, and try again.
    #[error("another operation works on the region")]
    Busy,
}

impl From<OutOfFrames> for SplitError {
    fn from(_: OutOfFrames) -> Self {
        SplitError::OutOfFrames
    }
}

impl<E: Environment> Stage2<E> {
    /// Splits the block of `level` that maps `ipa`; what the guest sees stays the same.
    ///
    /// A block made by a collapse has a table in the deposit, so splitting it never fails for want
    /// of memory.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn split_block(&self, ipa: Ipa, level: Level) -> Result<(), SplitError> {
        self.split(ipa, level, None)
    }

    /// As [`split_block`](Self::split_block), for a store to the page at `ipa` under dirty logging:
    /// if the parts are pages, that one is marked as written from the beginning, and the store need
    /// not fault again.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn split_for_store(&self, ipa: Ipa, level: Level) -> Result<(), SplitError> {
        if level == Level::L2 && self.split_fast(ipa) {
            return Ok(());
        }
        self.split(ipa, level, Some(ipa))
    }

    /// Splits the block of level 2 that maps `ipa`, for a store to it, if nothing is in the way;
    /// says whether it did. That on its own, with its levels known, stays in registers.
    #[inline(always)]
    fn split_fast(&self, ipa: Ipa) -> bool {
        const LEVEL: Level = Level::L2;
        let mut parts = Parts::none(self);
        if parts.allocate().is_err() {
            return false;
        }
        let reader = self.change();
        let Some(Ok(table)) = reader.descend(ipa, LEVEL) else {
            return false;
        };
        let block = table.slot(ipa).load();
        let is_block = matches!(block.kind(LEVEL), EntryKind::Leaf(_));
        // A split of a block with a table in the deposit takes that out as well.
        let fits =
            is_block && block.is_writable() && !block.lets_stores_through() && !block.has_deposit();
        if !fits {
            return false;
        }
        parts.fill(block, LEVEL, Some(ipa));
        let Ok(mut table) = table.lock() else {
            return false;
        };
        let index = ipa.index(LEVEL);
        match parts.take_for(table.get(index)) {
            Some(child) => {
                self.split_locked(&mut table, LEVEL, index, block, child, Some(ipa));
                true
            }
            None => false,
        }
    }

    #[inline(never)]
    fn split(&self, ipa: Ipa, level: Level, stored: Option<Ipa>) -> Result<(), SplitError> {
        if !matches!(level, Level::L1 | Level::L2) || level < self.geometry().start() {
            return Err(SplitError::WrongLevel);
        }
        if !self.contains(IpaRange::entry(ipa, level)) {
            return Err(SplitError::OutOfRange);
        }
        let mut parts = Parts::none(self);
        for _ in 0..MAX_RETRIES {
            let reader = self.change();
            let table = match reader.descend(ipa, level).ok_or(SplitError::OutOfRange)? {
                Ok(table) => table,
                Err(stopped) => match stopped.absent {
                    Absent::Empty | Absent::Block(_) => return Err(SplitError::NoBlock),
                    Absent::Busy(_) | Absent::Contended => return Err(SplitError::Busy),
                    Absent::Bad(bad) => {
                        self.clear_bad(stopped, ipa, bad);
                        continue;
                    }
                },
            };
            let seen = table.slot(ipa).load();
            match seen.kind(level) {
                EntryKind::Leaf(_) if stored.is_some() && !seen.is_writable() => {
                    return Err(SplitError::Denied);
                }
                EntryKind::Leaf(_) => {}
                EntryKind::Busy(_) => return Err(SplitError::Busy),
                EntryKind::Empty | EntryKind::Table(_) | EntryKind::Bad => {
                    return Err(SplitError::NoBlock);
                }
            }
            if parts.is_none() && !seen.has_deposit() {
                drop(table);
                drop(reader);
                parts.allocate()?;
                continue;
            }
            parts.fill(seen, level, stored);
            let Ok(mut table) = table.lock() else {
                continue;
            };
            let index = ipa.index(level);
            // A faster thread may have put a table or a marker there, or changed the block's
            // rights.
            let block = table.get(index);
            if !block.is_or_gained_marks(seen) {
                continue;
            }
            let kept = block.has_deposit().then(|| table.take_kept(index));
            let child = match kept.flatten() {
                Some(Ok(kept)) => self.make_parts_again(kept, seen, level, stored),
                Some(Err(InUse::Seen(since))) => {
                    drop(table);
                    drop(reader);
                    if self.has_passed_since(since) {
                        continue;
                    }
                    return Err(SplitError::Busy);
                }
                Some(Err(InUse::Claimed)) => return Err(SplitError::Busy),
                None => match parts.take_for(block) {
                    Some(child) => child,
                    // The mark came of a bit that fell over in memory.
                    None => {
                        drop(table);
                        drop(reader);
                        parts.allocate()?;
                        continue;
                    }
                },
            };
            self.split_locked(&mut table, level, index, seen, child, stored);
            return Ok(());
        }
        Err(SplitError::Busy)
    }

    /// Puts the table `child`, which has the parts of the block as it was `seen`, in the block's
    /// place.
    #[inline(always)]
    fn split_locked(
        &self,
        table: &mut Locked<'_, E>,
        level: Level,
        index: usize,
        seen: Descriptor,
        child: Pa,
        stored: Option<Ipa>,
    ) {
        if stored.is_some() {
            table.count(Counter::WriteFaults);
        }
        let new = Descriptor::table(child);
        if self.direct_size_change() {
            // The parts can be seen before the block is out of all TLBs. Until then nobody else may
            // change one of them: the invalidation of a page need not reach a cached block.
            let meta = self.env().frames().table_meta(child);
            let (ipa, next) = (table.ipa(index), level.next().unwrap_or(level));
            let _parts = meta.map(|meta| TableGuard::lock(self, meta, child, ipa, next));
            let (old, stale) = table.replace(index, new);
            self.add_use(child, seen, old);
            let _ = self.flush(stale);
        } else {
            let marker = self.marker(Operation::Split);
            let (old, stale) = table.break_entry(index, marker);
            self.add_use(child, seen, old);
            let flushed = self.flush(stale);
            table.make_entry(index, marker, new, &flushed);
        }
        self.publish();
        table.count(Counter::Splits);
        let ipa = table.ipa(index);
        self.trace(Topic::Changes, move || Observation::Split { ipa, level });
    }

    /// Makes a table of a frame that is the caller's alone, with the parts of `block`; the one that
    /// `stored` is in, if it is a page, is marked as written.
    #[inline(always)]
    fn make_parts(&self, child: Pa, block: Descriptor, level: Level, stored: Option<Ipa>) {
        self.make_table(child, level.next().unwrap_or(level), ENTRIES);
        let first = block.part(self.format(), level, 0);
        self.fill_parts(child, first, level);
        self.mark_stored(child, first, level, stored);
    }

    /// As [`make_parts`](Self::make_parts), of a table that was kept: if the block is still what it
    /// was made, so are the parts. Returns the table.
    fn make_parts_again(
        &self,
        kept: Kept,
        block: Descriptor,
        level: Level,
        stored: Option<Ipa>,
    ) -> Pa {
        let child = kept.pa;
        self.make_table(child, level.next().unwrap_or(level), ENTRIES);
        let first = block.part(self.format(), level, 0);
        if kept.has_parts && memory(self, child).entries[0].load(Ordering::Relaxed) == first.bits()
        {
            self.trace_parts(child, first, level);
        } else {
            self.fill_parts(child, first, level);
        }
        self.mark_stored(child, first, level, stored);
        child
    }

    /// Fills a table that nobody can see with the parts, of which this is the first, of a block of
    /// `level`.
    // The address is in bits of its own, and the first one's are zero below the block's size. The
    // store of the table descriptor releases them all.
    #[inline(always)]
    fn fill_parts(&self, child: Pa, first: Descriptor, level: Level) {
        self.trace_parts(child, first, level);
        let parts = level.next().unwrap_or(level);
        let window = self.env().window();
        window.fill(TableFrame::at(child), first.bits(), parts.size());
    }

    /// Marks the part that `stored` is in as written, if it is a page.
    #[inline(always)]
    fn mark_stored(&self, child: Pa, first: Descriptor, level: Level, stored: Option<Ipa>) {
        let parts = level.next().unwrap_or(level);
        if let (Some(ipa), Level::L3) = (stored, parts) {
            let index = ipa.index(parts);
            let old = first.with_output(first.output().offset(index as u64 * parts.size()));
            let new = old.used(true);
            memory(self, child).entries[index].store(new.bits(), Ordering::Relaxed);
            if self.env().observer().traces(Topic::Protocol) {
                self.trace_written(self.order(), entry_address(child, index), old, new, false);
            }
        }
    }

    /// Tells a checker, if there is one, of the entries that the table at `child` is about to be
    /// filled with.
    #[inline(always)]
    fn trace_parts(&self, child: Pa, first: Descriptor, level: Level) {
        if self.env().observer().traces(Topic::Protocol) {
            self.trace_each_part(child, first, level.next().unwrap_or(level).size());
        }
    }

    #[cold]
    #[inline(never)]
    fn trace_each_part(&self, child: Pa, first: Descriptor, step: u64) {
        let mut pa = first.output();
        for (index, entry) in memory(self, child).entries.iter().enumerate() {
            let old = Descriptor::from_bits(entry.load(Ordering::Relaxed));
            let new = first.with_output(pa);
            self.trace_written(self.order(), entry_address(child, index), old, new, false);
            pa = pa.offset(step);
        }
    }

    /// Marks that the hardware set on the block after its parts were made from `filled`.
    #[inline(always)]
    fn add_use(&self, child: Pa, filled: Descriptor, block: Descriptor) {
        let late = block.bits() & !filled.bits();
        if late != 0 {
            self.add_to_parts(child, late);
        }
    }

    #[cold]
    #[inline(never)]
    fn add_to_parts(&self, child: Pa, late: u64) {
        for (index, entry) in memory(self, child).entries.iter().enumerate() {
            let old = entry.fetch_or(late, Ordering::Relaxed);
            let [old, new] = [old, old | late].map(Descriptor::from_bits);
            self.trace_written(self.order(), entry_address(child, index), old, new, false);
        }
    }
}

/// A table with the parts of a block, which nobody can see yet. It goes back to the allocator
/// unless it is taken.
struct Parts<'s, E: Environment> {
    spare: Spare<'s, E>,
    /// The block whose parts it has, if it has been filled.
    block: Option<Descriptor>,
}

impl<'s, E: Environment> Parts<'s, E> {
    fn none(stage2: &'s Stage2<E>) -> Self {
        Self {
            spare: Spare::none(stage2),
            block: None,
        }
    }

    fn is_none(&self) -> bool {
        self.spare.is_none()
    }

    /// Sees to it that there is a frame. Called with no lock held.
    #[inline]
    fn allocate(&mut self) -> Result<(), OutOfFrames> {
        self.spare.fill_with_any()
    }

    /// Fills the table with the parts of `block`; the one that `stored` is in, if it is a page, is
    /// marked as written.
    #[inline(always)]
    fn fill(&mut self, block: Descriptor, level: Level, stored: Option<Ipa>) {
        let (stage2, Some(pa)) = (self.spare.stage2(), self.spare.pa()) else {
            return;
        };
        match self.block {
            None => stage2.make_parts(pa, block, level, stored),
            Some(filled) if filled == block => {}
            Some(_) => {
                let first = block.part(stage2.format(), level, 0);
                stage2.fill_parts(pa, first, level);
                stage2.mark_stored(pa, first, level, stored);
            }
        }
        self.block = Some(block);
    }

    /// Takes the table for this block, if it has the parts of that, but for marks that came since.
    #[inline(always)]
    fn take_for(&mut self, block: Descriptor) -> Option<Pa> {
        let filled = self.block.filter(|&seen| block.is_or_gained_marks(seen));
        filled.and_then(|_| {
            self.block = None;
            self.spare.take()
        })
    }
}

impl<E: Environment> Drop for Parts<'_, E> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.block.is_some()
            && let Some(pa) = self.spare.pa()
        {
            self.spare.stage2().end_table(pa);
        }
    }
}
