//! Mapping a page or a block where nothing is mapped: what a translation fault does.
//!
//! Tables that are missing on the way are allocated with no lock held, and installed under the lock
//! of the table that gets the new entry, if that entry is still empty. The leaf itself takes one
//! lock: that of the table it goes into.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, PAGE_SHIFT, PAGE_SIZE, Pa};
use crate::descriptor::{Attributes, Descriptor, Execute, Kind};
use crate::detached::Spare;
use crate::env::{Environment, OutOfFrames, Tlb};
use crate::held::entry_address;
use crate::lookup::{Absent, Locked, MAX_RETRIES, Reader, Unlocked};
use crate::observe::{Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;

/// Why nothing was mapped. The tables translate as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No frame was left for a table.
    #[error("no frame is left for a table")]
    OutOfFrames,
    /// The guest address is beyond the width of the VM's addresses.
    #[error("the guest address is beyond the VM's")]
    OutOfRange,
    /// An address is no multiple of the mapping's size, or not one of the 48 bits that a descriptor
    /// has for it, or the level has no leaves.
    #[error("an address does not fit the level")]
    Misaligned,
    /// The CPU cannot give these rights (FEAT_XNX).
    #[error("the CPU cannot give these rights")]
    Unsupported,
    /// Something is there: a leaf that covers the address, or (for a block) a table below it.
    #[error("something is mapped there: {0:?}")]
    Occupied(Descriptor),
    /// Somebody works on the region: wait, holding nothing, and try again.
    #[error("somebody works on the region")]
    Busy,
}

/// Why a run of pages was not mapped to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mapped up to {end:?}: {error}")]
pub struct MappedInPart {
    /// The first page that was not mapped; those of the run before it are.
    pub end: Ipa,
    /// Why it was not.
    pub error: MapError,
}

impl From<OutOfFrames> for MapError {
    fn from(_: OutOfFrames) -> Self {
        MapError::OutOfFrames
    }
}

impl<E: Environment> Stage2<E> {
    /// Maps the 4 KiB page at `pa` to `ipa`.
    ///
    /// `written` lets stores through at once; otherwise the first one faults, and is noticed
    /// (see [`resolve_fault`](Self::resolve_fault)).
    #[inline]
    pub fn map_page(
        &self,
        ipa: Ipa,
        pa: Pa,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), MapError> {
        self.map_leaf(ipa, Level::L3, pa, attributes, written)
    }

    /// Maps each 4 KiB page of `range` to the frame that `frame` gives for it: as
    /// [`map_page`](Self::map_page) one by one, in ascending order, but with one walk, one lock and one
    /// barrier for all pages of a table. For memory that is wanted before the guest touches it.
    ///
    /// `frame` runs with a table locked: it must be short, must not wait, and calls nothing of this
    /// crate. It may be asked about a page more than once.
    ///
    /// Stops at the first page that cannot be mapped. Where that is [`MapError::Occupied`] somebody was
    /// faster: the caller can go on behind [`MappedInPart::end`], and has its frame to give back.
    pub fn map_pages(
        &self,
        range: IpaRange,
        frame: impl Fn(Ipa) -> Pa,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), MappedInPart> {
        let mut end = range.start();
        if !self.contains(range) {
            let error = MapError::OutOfRange;
            return Err(MappedInPart { end, error });
        }
        self.check_rights(attributes)
            .map_err(|error| MappedInPart { end, error })?;
        let leaf = |pa| Descriptor::leaf(self.format(), Level::L3, pa, attributes, written);
        // Everything of a page's descriptor but its address.
        let rest = leaf(Pa::new(0));
        while end < range.end() {
            end = self.fill_run(end, range, rest, &frame);
            if end < range.end() {
                // What stands at the end of the run, if it is not just that of a table.
                let pa = frame(end);
                self.map_leaf(end, Level::L3, pa, attributes, written)
                    .map_err(|error| MappedInPart { end, error })?;
                end = end.offset(PAGE_SIZE);
            }
        }
        Ok(())
    }

    /// Maps the block at `pa` to `ipa`: 2 MiB for level 2, 1 GiB for level 1.
    ///
    /// Where a table stands, also an empty one, the answer is [`MapError::Occupied`];
    /// [`free_empty_tables`](Self::free_empty_tables) takes empty ones away.
    pub fn map_block(
        &self,
        ipa: Ipa,
        level: Level,
        pa: Pa,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), MapError> {
        match level {
            Level::L1 | Level::L2 => self.map_leaf(ipa, level, pa, attributes, written),
            Level::L0 | Level::L3 => Err(MapError::Misaligned),
        }
    }

    // Always inline: the levels of a page's walk are constants then.
    #[inline(always)]
    fn map_leaf(
        &self,
        ipa: Ipa,
        level: Level,
        pa: Pa,
        attributes: Attributes,
        written: bool,
    ) -> Result<(), MapError> {
        if !ipa.is_aligned(level) || !pa.fits(level) {
            return Err(MapError::Misaligned);
        }
        self.check_rights(attributes)?;
        let leaf = Descriptor::leaf(self.format(), level, pa, attributes, written);
        match self.fill_entry(ipa, level, leaf) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(ipa, level, error)),
        }
    }

    #[inline(always)]
    fn check_rights(&self, attributes: Attributes) -> Result<(), MapError> {
        if !self.format().execute_never_by_level
            && matches!(attributes.rights.execute, Execute::User | Execute::Kernel)
        {
            return Err(MapError::Unsupported);
        }
        Ok(())
    }

    #[cold]
    fn refused(&self, ipa: Ipa, level: Level, error: MapError) -> MapError {
        let refused = move || Observation::NotMapped { ipa, level, error };
        self.tell(Topic::Maps, refused);
        error
    }

    #[inline(always)]
    fn fill_entry(&self, ipa: Ipa, level: Level, leaf: Descriptor) -> Result<(), MapError> {
        // Most often the table is there and its entry is empty. That on its own stays in registers.
        let reader = self.read();
        if let Some(mut table) = reader.lock_at_once(ipa, level)
            && table.get(ipa.index(level)) == Descriptor::EMPTY
        {
            self.put(&reader, &mut table, ipa, level, leaf);
            return Ok(());
        }
        drop(reader);
        self.fill_somehow(ipa, level, leaf)
    }

    /// As [`fill_entry`](Self::fill_entry), whatever is in the way.
    #[inline(never)]
    fn fill_somehow(&self, ipa: Ipa, level: Level, leaf: Descriptor) -> Result<(), MapError> {
        let mut spare = Spare::none(self);
        for _ in 0..MAX_RETRIES {
            let reader = self.read();
            // What an entry covers is within the guest's addresses as a whole, or not at all.
            let stopped = match reader.descend(ipa, level).ok_or(MapError::OutOfRange)? {
                Ok(table) => match table.lock() {
                    Ok(mut table) => return self.fill_locked(&reader, &mut table, ipa, leaf),
                    // Detached in between; another table or a block is there by now.
                    Err(_) => continue,
                },
                Err(stopped) => stopped,
            };
            match stopped.absent {
                Absent::Empty if spare.is_none() => {
                    // Not in a section: the allocator may take its time.
                    drop(stopped);
                    drop(reader);
                    spare.fill()?;
                }
                Absent::Empty => self.install(stopped.holder, ipa, &mut spare),
                Absent::Busy(_) | Absent::Contended => return Err(MapError::Busy),
                Absent::Block(block) => return Err(MapError::Occupied(block)),
                Absent::Bad(bad) => self.clear_bad(stopped, ipa, bad),
            }
        }
        Err(MapError::Busy)
    }

    fn fill_locked(
        &self,
        reader: &Reader<'_, E>,
        table: &mut Locked<'_, E>,
        ipa: Ipa,
        leaf: Descriptor,
    ) -> Result<(), MapError> {
        let index = ipa.index(table.level());
        let old = table.get(index);
        match old.kind(table.level()) {
            Kind::Empty => {}
            Kind::Busy(marker) => {
                self.tell_of_marker(ipa, table.level(), marker);
                return Err(MapError::Busy);
            }
            Kind::Leaf(_) | Kind::Table(_) => return Err(MapError::Occupied(old)),
            Kind::Bad => {
                let _ = self.flush(table.clear_bad(index));
            }
        }
        self.put(reader, table, ipa, table.level(), leaf);
        Ok(())
    }

    /// Fills the empty entry for `ipa` of a table of `level`.
    #[inline(always)]
    fn put(
        &self,
        reader: &Reader<'_, E>,
        table: &mut Locked<'_, E>,
        ipa: Ipa,
        level: Level,
        leaf: Descriptor,
    ) {
        let (index, watched) = (ipa.index(level), table.is_watched());
        let order = if watched { self.order() } else { 0 };
        table.fill_untold(index, leaf);
        self.env().tlb().publish();
        reader.count(match level {
            Level::L3 => Counter::PagesMapped,
            _ => Counter::BlocksMapped,
        });
        if watched {
            self.tell_of_put(order, entry_address(table.pa(), index), ipa, level, leaf);
        }
    }

    /// Tells what [`put`](Self::put) has done, all by value: nothing has to be in memory for it.
    #[cold]
    #[inline(never)]
    fn tell_of_put(&self, order: u64, entry: Pa, ipa: Ipa, level: Level, leaf: Descriptor) {
        if self.env().observes(Topic::Protocol) {
            return self.tell_checker_of_put(order, entry, ipa, level, leaf);
        }
        self.tell_of_leaf(ipa, level, leaf);
    }

    /// As [`tell_of_put`](Self::tell_of_put), where there is a checker: apart from that, which need not save
    /// registers for this.
    #[inline(never)]
    fn tell_checker_of_put(&self, order: u64, entry: Pa, ipa: Ipa, level: Level, leaf: Descriptor) {
        self.tell_written(order, entry, Descriptor::EMPTY, leaf, true);
        self.tell_checker(|order| Observation::Published { order });
        self.tell_of_leaf(ipa, level, leaf);
    }

    #[inline(always)]
    fn tell_of_leaf(&self, ipa: Ipa, level: Level, leaf: Descriptor) {
        let pa = leaf.output();
        self.tell(Topic::Maps, || Observation::Mapped { ipa, pa, level });
    }

    /// Maps pages of `range` from `from` on, with descriptors like `rest`, as long as they are of one
    /// table that is there and their entries are empty; returns the first that it has not mapped.
    fn fill_run(
        &self,
        from: Ipa,
        range: IpaRange,
        rest: Descriptor,
        frame: impl Fn(Ipa) -> Pa,
    ) -> Ipa {
        let reader = self.read();
        let Some(mut table) = reader.lock_at_once(from, Level::L3) else {
            return from;
        };
        if table.is_watched() {
            // Each page on its own then, so that each is told.
            return from;
        }
        let first = from.index(Level::L3);
        let left = (range.end().get() - from.get()) >> PAGE_SHIFT;
        let last = (first as u64 + left).min(ENTRIES as u64) as usize;
        let base = table.ipa(0);
        let filled = table.fill_run(first..last, |index| {
            let pa = frame(base.offset((index as u64) << PAGE_SHIFT));
            pa.fits(Level::L3).then(|| rest.with_output(pa))
        });
        self.publish();
        self.count_many(Counter::PagesMapped, filled as u64);
        from.offset((filled as u64) << PAGE_SHIFT)
    }

    /// Installs a fresh table into the entry of `holder` for `ipa`, unless somebody was faster.
    fn install(&self, holder: Unlocked<'_, E>, ipa: Ipa, spare: &mut Spare<'_, E>) {
        let Ok(mut holder) = holder.lock() else {
            return;
        };
        let index = ipa.index(holder.level());
        // Checked again under the lock: between break and make the entry is busy, never empty, so
        // an empty one is free to be filled.
        if holder.get(index) != Descriptor::EMPTY {
            self.count(Counter::InstallsLost);
            return;
        }
        let Some(level) = holder.level().next() else {
            return;
        };
        if let Some(table) = spare.take(level) {
            holder.fill(index, Descriptor::table(table));
            self.publish();
            self.count(Counter::TablesInstalled);
        }
    }
}
