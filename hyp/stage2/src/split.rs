//! Splitting a block into a table of the next level.
//!
//! The table is complete, with the block's addresses, rights and marks, before it can be seen. The
//! entry goes from block to table through a busy marker and a flush, or directly where the CPU allows
//! it. The lock of the table that holds the entry is held throughout: splitting is short.
//!
//! Lock order: the table that holds the entry, the new table.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, Pa};
use crate::deposit::InUse;
use crate::descriptor::{Descriptor, Kind, Work};
use crate::detached::{Spare, memory};
use crate::env::{Environment, Frames, OutOfFrames, TableFrame, Window};
use crate::held::{Held, entry_address};
use crate::lookup::{Absent, Locked, MAX_RETRIES};
use crate::observe::{Observation, Topic};
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
    /// Somebody works on the region, or may still look at the table in the deposit: wait, holding nothing,
    /// and try again.
    #[error("somebody works on the region")]
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

    /// As [`split_block`](Self::split_block), for a store to the page at `ipa` under dirty logging: if the
    /// parts are pages, that one is marked as written from the beginning, and the store need not fault again.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn split_for_store(&self, ipa: Ipa, level: Level) -> Result<(), SplitError> {
        if level == Level::L2 && self.split_at_once(ipa) {
            return Ok(());
        }
        self.split(ipa, level, Some(ipa))
    }

    /// Splits the block of level 2 that maps `ipa`, for a store to it, if nothing is in the way; says whether
    /// it did. That on its own, with its levels known, stays in registers.
    #[inline(always)]
    fn split_at_once(&self, ipa: Ipa) -> bool {
        const LEVEL: Level = Level::L2;
        let mut spare = Spare::none(self);
        if spare.fill_with_any().is_err() {
            return false;
        }
        let reader = self.change();
        let Some(mut table) = reader.lock_at_once(ipa, LEVEL) else {
            return false;
        };
        let index = ipa.index(LEVEL);
        let block = table.get(index);
        let is_block = matches!(block.kind(LEVEL), Kind::Leaf(_));
        // One with a table in the deposit gets that one.
        let fits =
            is_block && block.is_writable() && !block.lets_stores_through() && !block.has_deposit();
        if fits && let Some(frame) = spare.take() {
            self.split_locked(&mut table, LEVEL, index, block, frame, Some(ipa));
            return true;
        }
        false
    }

    #[inline(never)]
    fn split(&self, ipa: Ipa, level: Level, stored: Option<Ipa>) -> Result<(), SplitError> {
        if !matches!(level, Level::L1 | Level::L2) || level < self.geometry().start() {
            return Err(SplitError::WrongLevel);
        }
        if !self.contains(IpaRange::entry(ipa, level)) {
            return Err(SplitError::OutOfRange);
        }
        let mut spare = Spare::none(self);
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
                Kind::Leaf(_) if stored.is_some() && !seen.is_writable() => {
                    return Err(SplitError::Denied);
                }
                Kind::Leaf(_) => {}
                Kind::Busy(_) => return Err(SplitError::Busy),
                Kind::Empty | Kind::Table(_) | Kind::Bad => return Err(SplitError::NoBlock),
            }
            if spare.is_none() && !seen.has_deposit() {
                drop(table);
                drop(reader);
                spare.fill_with_any()?;
                continue;
            }
            let Ok(mut table) = table.lock() else {
                continue;
            };
            let index = ipa.index(level);
            // Whoever was faster has put a table or a marker there; then the frame goes back.
            let block = table.get(index);
            if !matches!(block.kind(level), Kind::Leaf(_)) {
                continue;
            }
            let kept = block.has_deposit().then(|| table.take_kept()).flatten();
            let frame = match kept.or_else(|| spare.take().map(Ok)) {
                Some(Ok(frame)) => frame,
                Some(Err(InUse::Seen(since))) => {
                    drop(table);
                    drop(reader);
                    if self.has_passed_since(since) {
                        continue;
                    }
                    return Err(SplitError::Busy);
                }
                Some(Err(InUse::Claimed)) => return Err(SplitError::Busy),
                // Its mark is gone, or came of a bit that fell over.
                None => {
                    drop(table);
                    drop(reader);
                    spare.fill_with_any()?;
                    continue;
                }
            };
            self.split_locked(&mut table, level, index, block, frame, stored);
            return Ok(());
        }
        Err(SplitError::Busy)
    }

    #[inline(always)]
    fn split_locked(
        &self,
        table: &mut Locked<'_, E>,
        level: Level,
        index: usize,
        block: Descriptor,
        child: Pa,
        stored: Option<Ipa>,
    ) {
        self.make_table(child, level.next().unwrap_or(level));
        self.fill_parts(child, block, level, stored);
        if stored.is_some() {
            table.count(Counter::WriteFaults);
        }
        let new = Descriptor::table(child);
        if self.direct_size_change() {
            // The parts can be seen before the block is out of all TLBs. Until then nobody else may
            // change one of them: the invalidation of a page need not reach a cached block.
            let meta = self.env().frames().table_meta(child);
            let (ipa, next) = (table.ipa(index), level.next().unwrap_or(level));
            let _parts = meta.map(|meta| Held::lock(self, meta, child, ipa, next));
            let (old, stale) = table.replace(index, new);
            self.add_use(child, block, old);
            let _ = self.flush(stale);
        } else {
            let marker = self.marker(Work::Split);
            let (old, stale) = table.break_entry(index, marker);
            self.add_use(child, block, old);
            let flushed = self.flush(stale);
            table.make_entry(index, marker, new, &flushed);
        }
        self.publish();
        table.count(Counter::Splits);
        let ipa = table.ipa(index);
        self.tell(Topic::Changes, move || Observation::Split { ipa, level });
    }

    /// Fills a table that nobody can see with the parts of `block`.
    #[inline(always)]
    fn fill_parts(&self, child: Pa, block: Descriptor, level: Level, stored: Option<Ipa>) {
        let first = block.part(self.format(), level, 0);
        let parts = level.next().unwrap_or(level);
        // The address is in bits of its own, and the first one's are zero below the block's size. The
        // store of the table descriptor releases them all.
        let watched = self.env().observes(Topic::Protocol);
        if watched {
            self.tell_of_parts(child, first, parts.size());
        }
        let window = self.env().window();
        window.fill(TableFrame::at(child), first.bits(), parts.size());
        if let (Some(ipa), Level::L3) = (stored, parts) {
            let index = ipa.index(parts);
            let pa = first.output().offset(index as u64 * parts.size());
            let part = first.with_output(pa).used(true);
            memory(self, child).entries[index].store(part.bits(), Ordering::Relaxed);
            if watched {
                let old = first.with_output(pa);
                self.tell_written(self.order(), entry_address(child, index), old, part, false);
            }
        }
        if let Some(meta) = self.env().frames().table_meta(child) {
            meta.add_live(ENTRIES as i32);
        }
    }

    /// Tells a checker of the entries that the table at `child` is about to be filled with.
    #[cold]
    #[inline(never)]
    fn tell_of_parts(&self, child: Pa, first: Descriptor, step: u64) {
        let mut pa = first.output();
        for (index, entry) in memory(self, child).entries.iter().enumerate() {
            let old = Descriptor::from_bits(entry.load(Ordering::Relaxed));
            let new = first.with_output(pa);
            self.tell_written(self.order(), entry_address(child, index), old, new, false);
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
            self.tell_written(self.order(), entry_address(child, index), old, new, false);
        }
    }
}
