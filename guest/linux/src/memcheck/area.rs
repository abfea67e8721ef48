//! Private anonymous mappings.
//!
//! Invariant: an [`Area`] owns its mapping, which is readable for as long as the area is there and
//! writable but within [`Area::with_write_protection`].

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::slice;

use anyhow::{Context, Result};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Memory of this process's own.
#[derive(Debug)]
pub(crate) struct Area {
    start: NonNull<c_void>,
    bytes: usize,
}

impl Area {
    /// Maps so many pages, at least one, which hold zeros.
    ///
    /// # Errors
    ///
    /// Linux does not map them.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        let bytes = NonZeroUsize::new(pages * PAGE).context("an area of nothing")?;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: A new mapping, at a place that Linux chooses, takes nothing from anybody.
        let start = unsafe { mmap_anonymous(None, bytes, rights, MapFlags::MAP_PRIVATE) };
        Ok(Self {
            start: start.context("mmap")?,
            bytes: bytes.get(),
        })
    }

    /// Its size in pages.
    pub(crate) fn pages(&self) -> usize {
        self.bytes / PAGE
    }

    /// Its contents.
    pub(crate) fn words(&self) -> &[u64] {
        // SAFETY: The mapping is ours, readable, aligned to pages, and holds numbers; `self` is
        // borrowed, so nobody writes.
        unsafe { slice::from_raw_parts(self.start.cast().as_ptr(), self.bytes / 8) }
    }

    /// Its contents, to be written.
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: As above; and it is writable, and `self` is borrowed by nobody else.
        unsafe { slice::from_raw_parts_mut(self.start.cast().as_ptr(), self.bytes / 8) }
    }

    /// Has Linux take the memory away: zeros are there from now on.
    ///
    /// # Errors
    ///
    /// Linux does not.
    pub(crate) fn discard(&mut self) -> Result<()> {
        // SAFETY: The mapping is ours, and `self` is borrowed by nobody else.
        unsafe { madvise(self.start, self.bytes, MmapAdvise::MADV_DONTNEED) }.context("madvise")
    }

    /// Calls `visit` while nobody can write the area.
    ///
    /// # Errors
    ///
    /// Linux does not change the rights, or what `visit` says.
    pub(crate) fn with_write_protection(
        &mut self,
        visit: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        self.protect(ProtFlags::PROT_READ)?;
        let result = visit(self);
        self.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        result
    }

    fn protect(&mut self, rights: ProtFlags) -> Result<()> {
        // SAFETY: The mapping is ours, and no reference to its contents is alive.
        unsafe { mprotect(self.start, self.bytes, rights) }.context("mprotect")
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours, and no reference to its contents outlives `self`.
        let unmapped = unsafe { munmap(self.start, self.bytes) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_keep_what_is_written_until_it_is_discarded() {
        let mut area = Area::new(3).expect("memory");
        assert_eq!(area.pages(), 3);
        assert!(area.words().iter().all(|&word| word == 0));
        area.words_mut()[700] = 7;
        let seen = area.with_write_protection(|area| {
            assert_eq!(area.words()[700], 7);
            Ok(())
        });
        seen.expect("rights");
        area.discard().expect("memory");
        assert_eq!(area.words()[700], 0);
        assert!(Area::new(0).is_err());
    }
}
