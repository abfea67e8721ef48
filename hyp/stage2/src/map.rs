//! Mapping a page or a block where nothing is mapped: what a translation fault does.
//!
//! Tables that are missing on the way are allocated with no lock held, and installed under the lock
//! of the table that gets the new entry, if that entry is still empty. The leaf itself takes one
//! lock: that of the table it goes into.

mod revocable;

pub use revocable::MapWithError;

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, PAGE_SHIFT, PAGE_SIZE, Pa};
use crate::descriptor::{Attributes, Descriptor, DirtyState, EntryKind, Execute};
use crate::detached::Spare;
use crate::env::{Environment, Frames, OutOfFrames, Tlb};
use crate::frame::{GuestFrame, Refused};
use crate::guard::entry_address;
use crate::lookup::{Absent, Locked, MAX_RETRIES, Reader, Unlocked};
use crate::observer::{Observation, Observer, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;

/// Why nothing was mapped. The tables translate as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// No frame was left for a table.
    #[error("no frame is left for a table")]
    OutOfFrames,
    /// The guest address is beyond the width of the VM's addresses.
    #[error("the guest address is beyond the VM's")]
    OutOfRange,
    /// The guest address is no multiple of the frame's size.
    #[error("the guest address is no multiple of the frame's size")]
    Misaligned,
    /// The frame is a block where a page was to be mapped, or the other way round.
    #[error("the frame is of another size")]
    WrongSize,
    /// The frame, or a part of it, is a table: its maker's promise is broken.
    #[error("the frame is a table, or has one in it")]
    Table,
    /// The CPU cannot give these rights (FEAT_XNX).
    #[error("the CPU cannot give these rights")]
    Unsupported,
    /// Something is there: a leaf that covers the address, or (for a block) a table below it.
    #[error("something is mapped there: {0:?}")]
    Occupied(Descriptor),
    /// Another operation works on the region: wait, holding nothing, and try again.
    #[error("another operation works on the region")]
    Busy,
}

/// Why a run of pages was not mapped to its end.
#[must_use = "the frame is lost unless it is given back"]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("mapped up to {end:?}: {reason}")]
pub struct MappedInPart {
    /// The first page that was not mapped; those of the run before it are.
    pub end: Ipa,
    /// Why it was not.
    pub reason: MapError,
    /// Its frame, if one was asked for.
    pub frame: Option<GuestFrame>,
}

impl From<OutOfFrames> for MapError {
    fn from(_: OutOfFrames) -> Self {
        MapError::OutOfFrames
    }
}

impl<E: Environment> Stage2<E> {
    /// Maps a page to `ipa`.
    ///
    /// What is mapped [clean](DirtyState::Clean) faults on its first store: see
    /// [`resolve_fault`](Self::resolve_fault).
    ///
    /// # Panics
    ///
    /// Inside a read section.
    // Always inline: the attributes are constants then.
    #[inline(always)]
    pub fn map_page(
        &self,
        ipa: Ipa,
        page: GuestFrame,
        attributes: Attributes,
        dirty: DirtyState,
    ) -> Result<(), Refused<MapError>> {
        if let Err(reason) = self.check_page(&page) {
            return Err(self.refused(ipa, page, reason));
        }
        self.map_leaf(ipa, Level::L3, page, attributes, dirty)
    }

    /// Maps each 4 KiB page of `range` to the frame that `frame` gives for it: as
    /// [`map_page`](Self::map_page) one by one, in ascending order, but with one walk, one lock and
    /// one barrier for all pages of a table. For memory that is wanted before the guest touches it.
    ///
    /// `frame` runs with a table locked: it must be short, must not wait, and calls nothing of this
    /// crate. It is asked once for each page.
    ///
    /// Stops at the first page that cannot be mapped. Where that is [`MapError::Occupied`] another
    /// thread was faster: the caller can go on behind [`MappedInPart::end`], and has its frame
    /// again.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn map_pages(
        &self,
        range: IpaRange,
        mut frame: impl FnMut(Ipa) -> GuestFrame,
        attributes: Attributes,
        dirty: DirtyState,
    ) -> Result<(), MappedInPart> {
        let mut end = range.start();
        let none = |reason| MappedInPart {
            end: range.start(),
            reason,
            frame: None,
        };
        if !self.contains(range) {
            return Err(none(MapError::OutOfRange));
        }
        self.check_rights(attributes).map_err(none)?;
        let leaf = |pa| Descriptor::leaf(self.format(), Level::L3, pa, attributes, dirty);
        // Everything of a page's descriptor but its address.
        let rest = leaf(Pa::new(0));
        while end < range.end() {
            let odd;
            (end, odd) = self.fill_run(end, range, rest, &mut frame);
            if end < range.end() {
                // What stands at the end of the run, if it is not just that of a table.
                let page = odd.unwrap_or_else(|| frame(end));
                self.map_page(end, page, attributes, dirty).map_err(
                    |Refused { reason, frame }| MappedInPart {
                        end,
                        reason,
                        frame: Some(frame),
                    },
                )?;
                end = end.offset(PAGE_SIZE);
            }
        }
        Ok(())
    }

    /// Maps a block to `ipa`, of 2 MiB or 1 GiB.
    ///
    /// Where a table stands, also an empty one, the answer is [`MapError::Occupied`];
    /// [`free_empty_tables`](Self::free_empty_tables) takes empty ones away.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    // Always inline: as above.
    #[inline(always)]
    pub fn map_block(
        &self,
        ipa: Ipa,
        block: GuestFrame,
        attributes: Attributes,
        dirty: DirtyState,
    ) -> Result<(), Refused<MapError>> {
        if block.is_page() {
            return Err(self.refused(ipa, block, MapError::WrongSize));
        }
        if self.env().frames().holds_tables(&block) {
            return Err(self.refused(ipa, block, MapError::Table));
        }
        match block.level() {
            Level::L2 => self.map_leaf(ipa, Level::L2, block, attributes, dirty),
            level => self.map_leaf(ipa, level, block, attributes, dirty),
        }
    }

    // Always inline: the levels of a page's walk are constants then.
    #[inline(always)]
    fn map_leaf(
        &self,
        ipa: Ipa,
        level: Level,
        frame: GuestFrame,
        attributes: Attributes,
        dirty: DirtyState,
    ) -> Result<(), Refused<MapError>> {
        if !ipa.is_aligned(level) {
            return Err(self.refused(ipa, frame, MapError::Misaligned));
        }
        if let Err(reason) = self.check_rights(attributes) {
            return Err(self.refused(ipa, frame, reason));
        }
        let leaf = Descriptor::leaf(self.format(), level, frame.pa(), attributes, dirty);
        match self.fill_entry(ipa, level, leaf) {
            Ok(()) => Ok(()),
            Err(reason) => Err(self.refused(ipa, frame, reason)),
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

    /// Whether the frame is a page's, and no table.
    #[inline(always)]
    fn check_page(&self, frame: &GuestFrame) -> Result<(), MapError> {
        if !frame.is_page() {
            return Err(MapError::WrongSize);
        }
        if self.env().frames().holds_tables(frame) {
            return Err(MapError::Table);
        }
        Ok(())
    }

    #[cold]
    fn refused(&self, ipa: Ipa, frame: GuestFrame, reason: MapError) -> Refused<MapError> {
        self.trace_not_mapped(ipa, frame.level(), reason);
        Refused { reason, frame }
    }

    fn trace_not_mapped(&self, ipa: Ipa, level: Level, error: MapError) {
        self.trace(Topic::Maps, move || Observation::NotMapped {
            ipa,
            level,
            error,
        });
    }

    #[inline(always)]
    fn fill_entry(&self, ipa: Ipa, level: Level, leaf: Descriptor) -> Result<(), MapError> {
        // Most often the table is there and its entry is empty. That on its own stays in registers.
        let reader = self.change();
        if let Some(mut table) = reader.lock_fast(ipa, level)
            && table.get(ipa.index(level)) == Descriptor::EMPTY
        {
            self.put(&reader, &mut table, ipa, level, leaf);
            return Ok(());
        }
        drop(reader);
        self.fill_slow(ipa, level, leaf)
    }

    /// As [`fill_entry`](Self::fill_entry), whatever is in the way.
    #[inline(never)]
    fn fill_slow(&self, ipa: Ipa, level: Level, leaf: Descriptor) -> Result<(), MapError> {
        self.with_empty_entry(ipa, level, |reader, table| {
            self.put(reader, table, ipa, level, leaf);
        })
    }

    /// Calls `fill` with the table of `level` for `ipa` locked, its entry for that empty; makes the
    /// tables that are missing.
    #[inline(always)]
    fn with_empty_entry<T>(
        &self,
        ipa: Ipa,
        level: Level,
        fill: impl FnOnce(&Reader<'_, E>, &mut Locked<'_, E>) -> T,
    ) -> Result<T, MapError> {
        let mut spare = Spare::none(self);
        for _ in 0..MAX_RETRIES {
            let reader = self.change();
            // What an entry covers is within the guest's addresses as a whole, or not at all.
            let stopped = match reader.descend(ipa, level).ok_or(MapError::OutOfRange)? {
                Ok(table) => match table.lock() {
                    Ok(mut table) => {
                        self.check_empty(&mut table, ipa)?;
                        return Ok(fill(&reader, &mut table));
                    }
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

    /// Whether the entry for `ipa` is empty; a bad one is by then.
    fn check_empty(&self, table: &mut Locked<'_, E>, ipa: Ipa) -> Result<(), MapError> {
        let index = ipa.index(table.level());
        let old = table.get(index);
        match old.kind(table.level()) {
            EntryKind::Empty => {}
            EntryKind::Busy(marker) => {
                self.trace_marker(ipa, table.level(), marker);
                return Err(MapError::Busy);
            }
            EntryKind::Leaf(_) | EntryKind::Table(_) => return Err(MapError::Occupied(old)),
            EntryKind::Bad => {
                let _ = self.flush(table.clear_bad(index));
            }
        }
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
        let (index, traced) = (ipa.index(level), table.is_traced());
        let order = if traced { self.order() } else { 0 };
        table.fill_untraced(index, leaf);
        self.env().tlb().publish();
        reader.count(match level {
            Level::L3 => Counter::PagesMapped,
            _ => Counter::BlocksMapped,
        });
        if traced {
            self.trace_put(order, entry_address(table.pa(), index), ipa, level, leaf);
        }
    }

    /// Tells what [`put`](Self::put) has done, all by value: nothing has to be in memory for it.
    #[cold]
    #[inline(never)]
    fn trace_put(&self, order: u64, entry: Pa, ipa: Ipa, level: Level, leaf: Descriptor) {
        if self.env().observer().traces(Topic::Protocol) {
            return self.trace_protocol_of_put(order, entry, ipa, level, leaf);
        }
        self.trace_leaf(ipa, level, leaf);
    }

    /// As [`trace_put`](Self::trace_put), where there is a checker: apart from that, which need not
    /// save registers for this.
    #[inline(never)]
    fn trace_protocol_of_put(
        &self,
        order: u64,
        entry: Pa,
        ipa: Ipa,
        level: Level,
        leaf: Descriptor,
    ) {
        self.trace_written(order, entry, Descriptor::EMPTY, leaf, true);
        self.trace_protocol(|order| Observation::Published { order });
        self.trace_leaf(ipa, level, leaf);
    }

    #[inline(always)]
    fn trace_leaf(&self, ipa: Ipa, level: Level, leaf: Descriptor) {
        let pa = leaf.output();
        self.trace(Topic::Maps, || Observation::Mapped { ipa, pa, level });
    }

    /// Maps pages of `range` from `from` on, with descriptors like `rest`, as long as they are of
    /// one table that is there and their entries are empty; returns the first that it has not
    /// mapped, and its frame where that cannot be mapped.
    fn fill_run(
        &self,
        from: Ipa,
        range: IpaRange,
        rest: Descriptor,
        mut frame: impl FnMut(Ipa) -> GuestFrame,
    ) -> (Ipa, Option<GuestFrame>) {
        let reader = self.change();
        let Some(mut table) = reader.lock_fast(from, Level::L3) else {
            return (from, None);
        };
        if table.is_traced() {
            // Each page on its own then, so that each is told.
            return (from, None);
        }
        let first = from.index(Level::L3);
        let left = (range.end().get() - from.get()) >> PAGE_SHIFT;
        let last = (first as u64 + left).min(ENTRIES as u64) as usize;
        let base = table.ipa(0);
        let (frames, mut odd) = (self.env().frames(), None);
        let filled = table.fill_run(first..last, |index| {
            let frame = frame(base.offset((index as u64) << PAGE_SHIFT));
            if frame.is_page() && !frames.holds_tables(&frame) {
                return Some(rest.with_output(frame.pa()));
            }
            odd = Some(frame);
            None
        });
        self.publish();
        self.count_many(Counter::PagesMapped, filled as u64);
        (from.offset((filled as u64) << PAGE_SHIFT), odd)
    }

    /// Installs a fresh table into the entry of `holder` for `ipa`, unless another thread was
    /// faster.
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
        if let Some(table) = spare.take() {
            self.make_table(table, level, 0);
            holder.fill(index, Descriptor::table(table));
            self.publish();
            self.count(Counter::TablesInstalled);
        }
    }
}
