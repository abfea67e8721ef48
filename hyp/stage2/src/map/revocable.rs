//! Mapping memory whose owner may revoke it at any time.
//!
//! A fault handler that looks the frame up before it maps it may map what was revoked in between.
//! Under the lock of the table that gets the entry there is no in between: who revokes and then
//! unmaps either finds the entry, or has revoked before the look.

use super::MapError;
use crate::addr::{Ipa, Level};
use crate::descriptor::{Attributes, Descriptor, DirtyState};
use crate::env::Environment;
use crate::frame::{GuestFrame, Refused};
use crate::stage2::Stage2;

/// Why no page was mapped by [`Stage2::map_page_with`]. The tables translate as before.
#[must_use = "the frame is lost unless it is given back"]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapWithError<R> {
    /// The frame was asked for, and there is none, for this reason.
    #[error("there is no frame: {0}")]
    Withheld(R),
    /// The page cannot be mapped, and no frame was asked for.
    #[error(transparent)]
    NotAsked(MapError),
    /// The frame was asked for and refused.
    #[error(transparent)]
    Refused(Refused<MapError>),
}

impl<E: Environment> Stage2<E> {
    /// Maps a page to `ipa`, as [`map_page`](Self::map_page), and asks for its `frame` when nothing
    /// can come in between: for memory that its owner may revoke.
    ///
    /// `frame` runs with the table locked that gets the entry: it must be short, must not wait for
    /// anything but a lock that is held as shortly, and calls nothing of this crate. It is asked at
    /// most once, and only where the page can be mapped.
    ///
    /// An owner who revokes memory says so first, where `frame` looks, and [unmaps](Self::unmap) it
    /// then: a call of `frame` that has not seen the first is undone by the second. For that to be
    /// so, what `frame` looks at changes under a lock (or by read-modify-write operations that
    /// acquire and release, on both sides).
    ///
    /// ```
    /// use stage2::fake::{FakeMachine, Setup};
    /// use stage2::{Attributes, DirtyState, Ipa, IpaRange, Level, MapWithError, Stage2};
    /// use std::sync::Mutex;
    ///
    /// let machine = FakeMachine::new(Setup::default());
    /// let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    /// let page = machine.data().allocate(Level::L3).unwrap();
    /// // The memory behind the guest's first page, until it is revoked.
    /// let backing = Mutex::new(Some(page));
    /// let fault = || {
    ///     let frame = || backing.lock().unwrap().take().ok_or("revoked");
    ///     vm.map_page_with(Ipa::new(0), Attributes::RAM, DirtyState::Dirty, frame)
    /// };
    /// fault().unwrap();
    ///
    /// let mut revoked = backing.lock().unwrap().take();
    /// let all = IpaRange::entry(Ipa::new(0), Level::L3);
    /// vm.unmap(all, |unmapped| revoked = Some(unmapped.frame)).unwrap();
    /// machine.data().release(revoked.unwrap());
    /// assert_eq!(fault(), Err(MapWithError::Withheld("revoked")));
    /// ```
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn map_page_with<R>(
        &self,
        ipa: Ipa,
        attributes: Attributes,
        dirty: DirtyState,
        frame: impl FnOnce() -> Result<GuestFrame, R>,
    ) -> Result<(), MapWithError<R>> {
        const LEVEL: Level = Level::L3;
        if !ipa.is_aligned(LEVEL) {
            return Err(self.not_asked(ipa, MapError::Misaligned));
        }
        self.check_rights(attributes)
            .map_err(|reason| self.not_asked(ipa, reason))?;
        let mapped = self.with_empty_entry(ipa, LEVEL, |reader, table| {
            let frame = frame().map_err(MapWithError::Withheld)?;
            if let Err(reason) = self.check_page(&frame) {
                return Err(MapWithError::Refused(self.refused(ipa, frame, reason)));
            }
            let leaf = Descriptor::leaf(self.format(), LEVEL, frame.pa(), attributes, dirty);
            self.put(reader, table, ipa, LEVEL, leaf);
            Ok(())
        });
        mapped.unwrap_or_else(|reason| Err(self.not_asked(ipa, reason)))
    }

    fn not_asked<R>(&self, ipa: Ipa, reason: MapError) -> MapWithError<R> {
        self.trace_not_mapped(ipa, Level::L3, reason);
        MapWithError::NotAsked(reason)
    }
}
