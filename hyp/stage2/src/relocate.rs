//! Moving a page to another frame, or taking it away, while the guest runs.

use crate::addr::{Ipa, IpaRange, Level, Pa};
use crate::copy::Contents;
use crate::descriptor::{Descriptor, Kind, Marker, Memory, Work};
use crate::env::Environment;
use crate::flush::Flushed;
use crate::lookup::{Absent, Locked, Reader};
use crate::observe::{Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;

/// Why the page was not moved. What the guest sees is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The address is beyond the VM's, or the new frame is not aligned or not one of 48 bits.
    #[error("the guest address is beyond the VM's, or the frame is not one")]
    OutOfRange,
    /// The page is not (any more) mapped to the frame it was to be moved from.
    #[error("the page is not mapped to that frame any more")]
    Changed,
    /// The page must keep its frame.
    #[error("the page must keep its frame")]
    Pinned,
    /// Somebody works on the page or its region: wait, holding nothing, and try again.
    #[error("somebody works on the page")]
    Busy,
}

impl<E: Environment> Stage2<E> {
    /// Moves the page at `ipa`, mapped to the frame at `from`, to the frame at `to`, which is the caller's.
    ///
    /// On success the old frame has been given to [`Contents::release`]. On error nothing was, and `to` is still the
    /// caller's. The guest is held up, if it touches the page, for one invalidation and one copy.
    ///
    /// May wait: called outside read sections, with no lock held.
    pub fn move_page(
        &self,
        ipa: Ipa,
        from: Pa,
        to: Pa,
        contents: &mut impl Contents,
    ) -> Result<(), MoveError> {
        if !to.fits(Level::L3) || !self.contains(IpaRange::entry(ipa, Level::L3)) {
            return Err(MoveError::OutOfRange);
        }
        let ipa = ipa.align_down(Level::L3);
        let (marker, old, flushed) = self
            .break_page(ipa, from)
            .inspect_err(|_| self.count(Counter::MovesAborted))?;
        contents.copy(from, to);
        contents.complete();
        self.make_page(ipa, marker, old.moved(to), &flushed);
        self.count(Counter::Moves);
        self.tell(Topic::Changes, move || Observation::Moved { ipa, to });
        contents.release(ipa, old);
        Ok(())
    }

    /// Unmaps the page at `ipa`, mapped to the frame at `from`, if `may_go` says so of its contents,
    /// looked at while the guest cannot change them. Says whether it was unmapped.
    ///
    /// If it was, its frame has been given to [`Contents::release`]. This is how pages that the guest
    /// has filled with zeros are had back: touched again, they read as zeros.
    ///
    /// May wait: called outside read sections, with no lock held.
    pub fn unmap_page_if(
        &self,
        ipa: Ipa,
        from: Pa,
        may_go: impl FnOnce(Pa) -> bool,
        contents: &mut impl Contents,
    ) -> Result<bool, MoveError> {
        if !self.contains(IpaRange::entry(ipa, Level::L3)) {
            return Err(MoveError::OutOfRange);
        }
        let ipa = ipa.align_down(Level::L3);
        let (marker, old, flushed) = self
            .break_page(ipa, from)
            .inspect_err(|_| self.count(Counter::MovesAborted))?;
        let goes = may_go(from);
        let new = if goes { Descriptor::EMPTY } else { old };
        self.make_page(ipa, marker, new, &flushed);
        if goes {
            self.count(Counter::LeavesUnmapped);
            let (range, level) = (IpaRange::entry(ipa, Level::L3), Level::L3);
            self.tell(Topic::Maps, move || Observation::Unmapped { range, level });
            contents.release(ipa, old);
        }
        Ok(goes)
    }

    /// Puts a marker in the place of the page and flushes it. The old entry has all marks that were
    /// set on it; dirt goes with the page.
    fn break_page(&self, ipa: Ipa, from: Pa) -> Result<(Marker, Descriptor, Flushed), MoveError> {
        let reader = self.read();
        let mut table = lock_pages(&reader, ipa)?;
        let index = ipa.index(Level::L3);
        let entry = table.get(index);
        match entry.kind(Level::L3) {
            Kind::Leaf(pa) if pa == from => {}
            Kind::Busy(_) => return Err(MoveError::Busy),
            _ => return Err(MoveError::Changed),
        }
        if entry.is_pinned() || entry.memory() == Memory::Device {
            return Err(MoveError::Pinned);
        }
        let marker = self.marker(Work::Move);
        let (old, stale) = table.break_entry(index, marker);
        drop(table);
        Ok((marker, old, self.flush(stale)))
    }

    fn make_page(&self, ipa: Ipa, marker: Marker, new: Descriptor, flushed: &Flushed) {
        // The marker keeps the table in its place: it is found at once, or, when other changes
        // crowd the way, after a while.
        loop {
            let reader = self.read();
            if let Ok(mut table) = lock_pages(&reader, ipa) {
                table.make_entry(ipa.index(Level::L3), marker, new, flushed);
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
) -> Result<Locked<'r, E>, MoveError> {
    match reader.descend(ipa, Level::L3) {
        None => Err(MoveError::OutOfRange),
        Some(Ok(table)) => table.lock().map_err(|_| MoveError::Busy),
        Some(Err(stopped)) => Err(match stopped.absent {
            Absent::Busy(_) | Absent::Contended => MoveError::Busy,
            Absent::Empty | Absent::Block(_) | Absent::Bad(_) => MoveError::Changed,
        }),
    }
}
