//! Splitting a block into a table of the next level.
//!
//! The table is complete, with the block's addresses, rights and marks, before it can be seen. The
//! entry goes from block to table through a busy marker and a flush, or directly where the CPU allows
//! it. The lock of the table that holds the entry is held throughout: splitting is short.
//!
//! Lock order: the table that holds the entry, the new table.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, Pa};
use crate::descriptor::{Descriptor, Kind, Work};
use crate::detached::{Spare, memory};
use crate::env::{Environment, Frames, OutOfFrames};
use crate::held::{Held, entry_address};
use crate::lookup::{Absent, Locked};
use crate::observe::{Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;
use crate::sync::Ordering;

/// Why nothing was split. The tables are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// No frame was left for the table, and the block has none in the deposit.
    OutOfFrames,
    /// There is no block of this level at the address.
    NoBlock,
    /// The address is beyond the VM's, or the level has no blocks.
    OutOfRange,
    /// Somebody works on the region, or on the table promised for this block: wait, holding nothing,
    /// and try again.
    Busy,
}

impl<E: Environment> Stage2<E> {
    /// Splits the block of `level` that maps `ipa`; what the guest sees stays the same.
    ///
    /// A block made by a collapse has a table in the deposit, so splitting it never fails for want
    /// of memory.
    pub fn split_block(&self, ipa: Ipa, level: Level) -> Result<(), SplitError> {
        let (Level::L1 | Level::L2) = level else {
            return Err(SplitError::OutOfRange);
        };
        if !self.contains(IpaRange::entry(ipa, level)) {
            return Err(SplitError::OutOfRange);
        }
        let mut spare = Spare::none(self);
        loop {
            let reader = self.read();
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
                Kind::Leaf(_) => {}
                Kind::Busy(_) => return Err(SplitError::Busy),
                Kind::Empty | Kind::Table(_) | Kind::Bad => return Err(SplitError::NoBlock),
            }
            if spare.is_none() {
                drop(table);
                drop(reader);
                self.fill_for_split(&mut spare, seen)?;
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
            self.split_locked(&mut table, index, block, &mut spare);
            drop(table);
            drop(reader);
            if block.has_deposit() {
                self.forget_deposit();
            }
            return Ok(());
        }
    }

    fn fill_for_split(
        &self,
        spare: &mut Spare<'_, E>,
        block: Descriptor,
    ) -> Result<(), SplitError> {
        spare.fill_for(block).map_err(|OutOfFrames| {
            // A promised table is on its way: the collapse that made the block waits for readers.
            if block.has_deposit() {
                SplitError::Busy
            } else {
                SplitError::OutOfFrames
            }
        })
    }

    fn split_locked(
        &self,
        table: &mut Locked<'_, E>,
        index: usize,
        block: Descriptor,
        spare: &mut Spare<'_, E>,
    ) {
        let level = table.level();
        let Some(child) = level.next().and_then(|next| spare.take(next)) else {
            return;
        };
        self.fill_parts(child, block, level);
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
        self.count(Counter::Splits);
        let ipa = table.ipa(index);
        self.tell(Topic::Changes, move || Observation::Split { ipa, level });
    }

    /// Fills a table that nobody can see with the parts of `block`.
    fn fill_parts(&self, child: Pa, block: Descriptor, level: Level) {
        let parts = memory(self, child);
        let first = block.part(self.format(), level, 0);
        let step = level.next().map_or(0, Level::size);
        self.tell_of_parts(child, first, step);
        let mut pa = first.output();
        for entry in &parts.entries {
            // Relaxed: the store of the table descriptor releases them all.
            entry.store(first.with_output(pa).bits(), Ordering::Relaxed);
            pa = pa.offset(step);
        }
        if let Some(meta) = self.env().frames().table_meta(child) {
            meta.add_live(ENTRIES as i32);
        }
    }

    /// Tells a checker of the entries that the table at `child` is about to be filled with.
    fn tell_of_parts(&self, child: Pa, first: Descriptor, step: u64) {
        if !self.env().observes(Topic::Protocol) {
            return;
        }
        let mut pa = first.output();
        for (index, entry) in memory(self, child).entries.iter().enumerate() {
            let old = Descriptor::from_bits(entry.load(Ordering::Relaxed));
            let change = [old, first.with_output(pa)];
            self.tell_written(self.order(), entry_address(child, index), change, false);
            pa = pa.offset(step);
        }
    }

    /// Marks that the hardware set on the block after its parts were made from `filled`.
    fn add_use(&self, child: Pa, filled: Descriptor, block: Descriptor) {
        let late = block.bits() & !filled.bits();
        if late != 0 {
            for (index, entry) in memory(self, child).entries.iter().enumerate() {
                let old = entry.fetch_or(late, Ordering::Relaxed);
                let change = [old, old | late].map(Descriptor::from_bits);
                self.tell_written(self.order(), entry_address(child, index), change, false);
            }
        }
    }
}
