//! Looking at single words of guests' memory from outside, while the guest runs.

use super::env::{Hardware, Parts};
use super::guest::GuestMemory;
use frames::LinearMap;
use stage2::{EntryKind, Ipa, PAGE_SIZE};

/// Why a word could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The region's tables are being changed: the word can be read later.
    Busy,
    /// There is no memory.
    Outside,
    /// There is, and the hardware refuses to read it.
    Failed,
}

impl<P: Parts> GuestMemory<'_, P> {
    /// The eight bytes at `ipa`, a multiple of eight, as a little-endian number: what a load of the
    /// guest's would find at some moment during the call. Memory that was never touched is zero,
    /// and stays untouched.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] says why there is no such number.
    pub fn peek(&self, ipa: Ipa) -> Result<u64, Unreadable> {
        let entry = self.stage2().query(ipa).ok_or(Unreadable::Outside)?;
        let page = match entry.kind() {
            EntryKind::Leaf(_) if !entry.descriptor.rights().read => {
                return Err(Unreadable::Outside);
            }
            EntryKind::Leaf(base) => base.offset(ipa.get() & (entry.level.size() - PAGE_SIZE)),
            EntryKind::Empty if self.ram().start() <= ipa && ipa < self.ram().end() => {
                return Ok(0);
            }
            EntryKind::Empty => return Err(Unreadable::Outside),
            EntryKind::Busy(_) | EntryKind::Table(_) | EntryKind::Bad => {
                return Err(Unreadable::Busy);
            }
        };
        self.machine().hardware().before_reading(page);
        let words = self.machine().allocator().map().pointer(page).cast::<u64>();
        let index = ipa.get() % PAGE_SIZE / size_of::<u64>() as u64;
        // SAFETY: the page is a frame, RAM which the linear map makes readable, and the word lies
        // in it. A guest may store to it at any time, or its next owner if it was freed since it
        // was looked up: that is noticed below.
        let value = unsafe {
            self.machine()
                .hardware()
                .load_word(words.add(index as usize))
        };
        if self.stage2().query(ipa) == Some(entry) {
            value.map(u64::from_le).map_err(|_| Unreadable::Failed)
        } else {
            Err(Unreadable::Busy)
        }
    }
}
