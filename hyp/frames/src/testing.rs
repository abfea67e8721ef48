//! RAM for tests, of this crate and of those above it (feature `testing`): each range of physical
//! addresses is a piece of the host's memory.

use super::LinearMap;
use core::ops::Range;
use core::ptr::NonNull;
use stage2::Pa;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

#[derive(Debug)]
struct Piece {
    start: u64,
    layout: Layout,
    memory: NonNull<u8>,
}

/// Physical memory that consists of separate host allocations.
#[derive(Debug)]
pub struct Arena(Vec<Piece>);

impl Arena {
    /// Memory for these ranges, all zeros.
    pub fn new(ram: &[Range<Pa>]) -> Self {
        Self(ram.iter().map(Piece::new).collect())
    }

    /// Writes a word that is not zero at the start and at the end of each of `frames` frames.
    pub fn scribble(&self, pa: Pa, frames: u32) {
        for word in self.words(pa, frames) {
            // SAFETY: a word inside a frame of the arena, which the test allocated.
            unsafe { word.write(0x5a5a_5a5a) };
        }
    }

    /// Whether the words that `scribble` writes are zero.
    pub fn is_zero(&self, pa: Pa, frames: u32) -> bool {
        // SAFETY: as in `scribble`.
        self.words(pa, frames)
            .all(|word| unsafe { word.read() } == 0)
    }

    fn words(&self, pa: Pa, frames: u32) -> impl Iterator<Item = *mut u64> + '_ {
        (0..u64::from(frames))
            .flat_map(move |frame| [frame * 4096, frame * 4096 + 4088])
            .map(move |offset| self.pointer(pa.offset(offset)).as_ptr().cast())
    }
}

impl Piece {
    fn new(range: &Range<Pa>) -> Self {
        let bytes = (range.end.get() - range.start.get()) as usize;
        let layout = Layout::from_size_align(bytes, 4096).expect("a range that the host can have");
        // SAFETY: no test uses an empty range.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            start: range.start.get(),
            layout,
            memory,
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

// SAFETY: every piece is one host allocation, 4096-aligned as its physical address is, and lives as
// long as the arena.
unsafe impl LinearMap for Arena {
    fn pointer(&self, pa: Pa) -> NonNull<u8> {
        let inside = |piece: &&Piece| {
            pa.get() >= piece.start && pa.get() - piece.start < piece.layout.size() as u64
        };
        let piece = self.0.iter().find(inside).expect("an address in the arena");
        // SAFETY: the offset is inside the piece.
        unsafe { piece.memory.add((pa.get() - piece.start) as usize) }
    }
}

// SAFETY: the arena is plain memory; who may access what is the allocator's business.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}
