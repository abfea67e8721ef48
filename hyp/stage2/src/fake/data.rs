//! Guest memory: pages of one word each.
//!
//! A page has a single cell instead of 4096 bytes: enough to see whether a store was lost, and
//! little enough for the model checker. A page belongs to a VM from its allocation to its release;
//! who reaches it at other times was let through by a stale translation.

use super::witness::Witness;
use crate::addr::{Level, PAGE_SIZE, Pa};
use crate::copy::{CopyPages, Unreadable};
use crate::env::OutOfFrames;
use crate::frame::{GuestFrame, GuestPage};
use crate::sync::{AtomicU64, Lock, Ordering};
use crate::unmap::Unmapped;
use core::sync::atomic::AtomicBool;

/// Aligned to all levels' blocks, far from the tables.
const BASE: u64 = 1 << 36;

/// What an allocated page holds before anything is stored there: a guest must never see it.
pub const GARBAGE: u64 = 0xbad0_bad0_bad0_bad0;

struct Page {
    cell: AtomicU64,
    // Detects errors only, so it is not the model checker's.
    owned: AtomicBool,
    witness: Witness,
}

/// The guest memory of a [`FakeMachine`](super::FakeMachine).
pub struct FakeData {
    pages: Box<[Page]>,
    allocator: Lock,
}

impl FakeData {
    pub(super) fn new(count: usize) -> Self {
        let page = |_| Page {
            cell: AtomicU64::new(GARBAGE),
            owned: AtomicBool::new(false),
            witness: Witness::new(),
        };
        Self {
            pages: (0..count).map(page).collect(),
            allocator: Lock::new(()),
        }
    }

    /// Allocates as many pages as one entry of `level` covers, aligned to that.
    pub fn allocate(&self, level: Level) -> Result<GuestFrame, OutOfFrames> {
        let count = pages_of(level);
        let _guard = self.allocator.lock();
        let is_free = |pages: &[Page]| pages.iter().all(|page| !is_owned(page));
        let first = (0..self.pages.len())
            .step_by(count)
            .find(|&first| self.pages.get(first..first + count).is_some_and(is_free))
            .ok_or(OutOfFrames)?;
        for page in &self.pages[first..first + count] {
            page.witness.changed();
            page.owned.store(true, Ordering::Release);
            page.cell.store(GARBAGE, Ordering::Relaxed);
        }
        Ok(GuestFrame::of(
            Pa::new(BASE + first as u64 * PAGE_SIZE),
            level,
        ))
    }

    /// A frame that nobody has allocated, anywhere. Nothing but cells and panics is behind any
    /// address here, so that this takes no promise.
    pub fn frame(pa: Pa, level: Level) -> GuestFrame {
        GuestFrame::of(pa, level)
    }

    /// Takes a frame back. Releasing a page twice is a panic.
    pub fn release(&self, frame: GuestFrame) {
        let _guard = self.allocator.lock();
        let (pages, pa) = (pages_of(frame.level()), frame.into_pa());
        for index in 0..pages as u64 {
            let pa = pa.offset(index * PAGE_SIZE);
            let page = self.page(pa);
            let was_owned = page.owned.swap(false, Ordering::AcqRel);
            assert!(was_owned, "the page at {pa:?} was released twice");
            page.witness.changed();
        }
    }

    /// How many pages are allocated.
    pub fn outstanding(&self) -> usize {
        self.pages.iter().filter(|page| is_owned(page)).count()
    }

    /// What the page at `pa` holds. The page must be allocated.
    pub fn read(&self, pa: Pa) -> u64 {
        self.owned_page(pa).cell.load(Ordering::Relaxed)
    }

    /// Stores to the page at `pa`, which must be allocated.
    pub fn write(&self, pa: Pa, value: u64) {
        self.owned_page(pa).cell.store(value, Ordering::Relaxed);
    }

    /// A [`CopyPages`] that copies, clears and releases these pages.
    pub fn copier(&self) -> Copier<'_> {
        Copier { data: self }
    }

    fn owned_page(&self, pa: Pa) -> &Page {
        let page = self.page(pa);
        assert!(is_owned(page), "the page at {pa:?} was released");
        page.witness.used();
        page
    }

    fn page(&self, pa: Pa) -> &Page {
        pa.get()
            .checked_sub(BASE)
            .and_then(|offset| self.pages.get((offset / PAGE_SIZE) as usize))
            .unwrap_or_else(|| panic!("no guest memory at {pa:?}"))
    }
}

fn is_owned(page: &Page) -> bool {
    page.owned.load(Ordering::Acquire)
}

fn pages_of(level: Level) -> usize {
    (level.size() / PAGE_SIZE) as usize
}

/// Copies, clears and releases pages of [`FakeData`].
#[derive(Clone, Copy)]
pub struct Copier<'d> {
    data: &'d FakeData,
}

impl CopyPages for Copier<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        // The page may have been unmapped and released since it was found; the copy is thrown away
        // then.
        let value = self.data.page(from.pa()).cell.load(Ordering::Relaxed);
        self.data.write(to.pa(), value);
        Ok(())
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.data.write(to.pa(), 0);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.data.release(leaf.frame);
    }
}
