//! Moving a page to another frame, or taking it away, while the guest runs.

use crate::addr::{Ipa, IpaRange, Level, Pa};
use crate::copy::{CopyPages, Unreadable};
use crate::descriptor::{Descriptor, EntryKind, Marker, MemoryType, Operation};
use crate::env::{Environment, Frames};
use crate::flush::Flushed;
use crate::frame::{GuestFrame, GuestPage, Refused};
use crate::lookup::{Absent, Locked, Reader};
use crate::observer::{Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;
use crate::unmap::Unmapped;

/// Why the page was not moved. What the guest sees is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The guest address is beyond the VM's.
    #[error("the guest address is beyond the VM's")]
    OutOfRange,
    /// The new frame is a block.
    #[error("the new frame is no page")]
    WrongSize,
    /// The new frame is a table: its maker's promise is broken.
    #[error("the new frame is a table")]
    Table,
    /// The page is not (any more) mapped to the frame it was to be moved from.
    #[error("the page is not mapped to that frame any more")]
    Changed,
    /// The page must keep its frame.
    #[error("the page must keep its frame")]
    Pinned,
    /// The page's memory cannot be read.
    #[error("the page's memory cannot be read")]
    Unreadable,
    /// Another operation works on the page or its region: wait, holding nothing, and try again.
    #[error("another operation works on the page")]
    Busy,
}

/// A page that was taken away, leaving a marker.
struct Broken {
    ipa: Ipa,
    marker: Marker,
    /// With all marks that were set on it; dirt goes with the page.
    old: Descriptor,
    flushed: Flushed,
}

impl<E: Environment> Stage2<E> {
    /// Moves the page at `ipa`, mapped to the frame at `from`, to the frame `to`.
    ///
    /// On success the old frame has been given to [`CopyPages::release`]. On error nothing was. The
    /// guest is held up, if it touches the page, for one invalidation and one copy.
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn migrate_page(
        &self,
        ipa: Ipa,
        from: Pa,
        to: GuestFrame,
        contents: &mut impl CopyPages,
    ) -> Result<(), Refused<MigrateError>> {
        self.may_wait();
        match self.begin_migration(ipa, from, &to) {
            Ok(broken) => self.end_migration(broken, to, contents),
            Err(reason) => Err(Refused { reason, frame: to }),
        }
    }

    fn begin_migration(&self, ipa: Ipa, from: Pa, to: &GuestFrame) -> Result<Broken, MigrateError> {
        if !to.is_page() {
            return Err(MigrateError::WrongSize);
        }
        if self.env().frames().holds_tables(to) {
            return Err(MigrateError::Table);
        }
        self.break_page(ipa, from)
    }

    fn end_migration(
        &self,
        broken: Broken,
        to: GuestFrame,
        contents: &mut impl CopyPages,
    ) -> Result<(), Refused<MigrateError>> {
        let (ipa, from) = (broken.ipa, broken.old.output());
        let copied = contents.copy(GuestPage::at(from), GuestPage::at(to.pa()));
        if let Err(Unreadable) = copied {
            self.make_page(&broken, broken.old);
            self.count(Counter::MigrationsAborted);
            let reason = MigrateError::Unreadable;
            return Err(Refused { reason, frame: to });
        }
        contents.complete();
        let to = to.into_pa();
        self.make_page(&broken, broken.old.moved(to));
        self.count(Counter::Migrations);
        self.trace(Topic::Changes, move || Observation::Migrated { ipa, to });
        contents.release(Unmapped::new(ipa, Level::L3, broken.old));
        Ok(())
    }

    /// Unmaps the page at `ipa`, mapped to the frame at `from`, if `may_go` says so of its
    /// contents, looked at while the guest cannot change them. Says whether it was unmapped.
    ///
    /// If it was, its frame has been given to [`CopyPages::release`]. This is how pages that the
    /// guest has filled with zeros are had back: touched again, they read as zeros.
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn unmap_page_if(
        &self,
        ipa: Ipa,
        from: Pa,
        may_go: impl FnOnce(GuestPage<'_>) -> bool,
        contents: &mut impl CopyPages,
    ) -> Result<bool, MigrateError> {
        self.may_wait();
        let broken = self.break_page(ipa, from)?;
        let (ipa, old) = (broken.ipa, broken.old);
        let goes = may_go(GuestPage::at(from));
        let new = if goes { Descriptor::EMPTY } else { old };
        self.make_page(&broken, new);
        if goes {
            self.count(Counter::LeavesUnmapped);
            let (range, level) = (IpaRange::entry(ipa, Level::L3), Level::L3);
            self.trace(Topic::Maps, move || Observation::Unmapped { range, level });
            contents.release(Unmapped::new(ipa, level, old));
        }
        Ok(goes)
    }

    /// Puts a marker in the place of the page and flushes it.
    fn break_page(&self, ipa: Ipa, from: Pa) -> Result<Broken, MigrateError> {
        if !self.contains(IpaRange::entry(ipa, Level::L3)) {
            return Err(MigrateError::OutOfRange);
        }
        self.break_entry_of(ipa.align_down(Level::L3), from)
            .inspect_err(|_| self.count(Counter::MigrationsAborted))
    }

    fn break_entry_of(&self, ipa: Ipa, from: Pa) -> Result<Broken, MigrateError> {
        let reader = self.change();
        let mut table = lock_pages(&reader, ipa)?;
        let index = ipa.index(Level::L3);
        let entry = table.get(index);
        match entry.kind(Level::L3) {
            EntryKind::Leaf(pa) if pa == from => {}
            EntryKind::Busy(_) => return Err(MigrateError::Busy),
            _ => return Err(MigrateError::Changed),
        }
        if entry.is_pinned() || entry.memory() == MemoryType::Device {
            return Err(MigrateError::Pinned);
        }
        let marker = self.marker(Operation::Migrate);
        let (old, stale) = table.break_entry(index, marker);
        drop(table);
        let flushed = self.flush(stale);
        Ok(Broken {
            ipa,
            marker,
            old,
            flushed,
        })
    }

    fn make_page(&self, broken: &Broken, new: Descriptor) {
        // The marker keeps the table in its place: it is found at once, or, when other changes
        // crowd the way, after a while.
        loop {
            let reader = self.change();
            if let Ok(mut table) = lock_pages(&reader, broken.ipa) {
                let index = broken.ipa.index(Level::L3);
                table.make_entry(index, broken.marker, new, &broken.flushed);
                self.publish();
                return;
            }
            drop(reader);
            self.wait();
        }
    }
}

/// The locked level-3 table of `ipa`.
fn lock_pages<'r, E: Environment>(
    reader: &'r Reader<'_, E>,
    ipa: Ipa,
) -> Result<Locked<'r, E>, MigrateError> {
    match reader.descend(ipa, Level::L3) {
        None => Err(MigrateError::OutOfRange),
        Some(Ok(table)) => table.lock().map_err(|_| MigrateError::Busy),
        Some(Err(stopped)) => Err(match stopped.absent {
            Absent::Busy(_) | Absent::Contended => MigrateError::Busy,
            Absent::Empty | Absent::Block(_) | Absent::Bad(_) => MigrateError::Changed,
        }),
    }
}
