//! The RAM that is left for the guest's own use, as a row of numbered pages.
//!
//! The pool is everything from the end of the image to the end of RAM, but for the device tree
//! where the firmware put it there. Nobody has written to it yet when the guest starts: under a
//! hypervisor each page's first use is a stage-2 fault, and it reads as zero.

use core::sync::atomic::AtomicU64;

use crate::{span::Span, stamp::WORDS};

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// A page of the pool. Every vCPU may reach every page at any time, so its words are atomic;
/// relaxed ones are plain loads and stores.
#[repr(C, align(4096))]
pub struct Page(pub [AtomicU64; WORDS]);

/// The free pages of RAM, numbered from 0 in the order of their IPAs.
#[derive(Clone, Copy)]
pub struct Pool {
    all: Span,
    /// What is left out; empty, at the end, if nothing is.
    hole: Span,
}

impl Pool {
    /// The whole pages of `memory` from `image_end` on that hold nothing of `tree`.
    ///
    /// # Safety
    ///
    /// `memory` is RAM that stage 1 maps at its own address, writable, cacheable and executable,
    /// for as long as the guest runs, and what begins at `image_end` is used by nobody but through
    /// pools.
    pub const unsafe fn new(memory: Span, image_end: u64, tree: Span) -> Self {
        let all = Span {
            start: image_end.next_multiple_of(PAGE_SIZE),
            end: memory.end & !(PAGE_SIZE - 1),
        };
        let tree = tree.widened_to(PAGE_SIZE);
        let hole = if tree.start >= all.start && tree.end <= all.end {
            tree
        } else {
            Span::sized(all.end, 0)
        };
        Self { all, hole }
    }

    /// How many pages there are.
    pub const fn pages(&self) -> usize {
        ((self.all.size() - self.hole.size()) / PAGE_SIZE) as usize
    }

    /// IPA of page `index`.
    pub const fn ipa(&self, index: usize) -> u64 {
        let ipa = self.all.start + index as u64 * PAGE_SIZE;
        if ipa < self.hole.start {
            ipa
        } else {
            ipa + self.hole.size()
        }
    }

    /// The longest stretch of the pool without a gap.
    pub const fn longest(&self) -> Span {
        let below = Span {
            start: self.all.start,
            end: self.hole.start,
        };
        let above = Span {
            start: self.hole.end,
            end: self.all.end,
        };
        if below.size() >= above.size() {
            below
        } else {
            above
        }
    }

    /// Page `index`; panics when there is no such page.
    #[cfg(target_os = "none")]
    pub fn page(&self, index: usize) -> &'static Page {
        assert!(index < self.pages(), "page {index} is beyond the pool");
        // SAFETY: below `pages()`, `ipa` gives an aligned page of the memory that `new`'s caller
        // vouched for: mapped at its own address, never unmapped, reached only through references
        // to atomics, for which every bit pattern is valid.
        unsafe { &*(self.ipa(index) as *const Page) }
    }

    /// The words of the pages from `first` on, as one array.
    #[cfg(target_os = "none")]
    pub const fn array(self, first: usize) -> Array {
        Array { pool: self, first }
    }
}

/// An array of words that lies in pages of a pool.
#[cfg(target_os = "none")]
#[derive(Clone, Copy)]
pub struct Array {
    pool: Pool,
    first: usize,
}

#[cfg(target_os = "none")]
impl Array {
    /// The word at `index`.
    pub fn word(&self, index: usize) -> &'static AtomicU64 {
        &self.pool.page(self.first + index / WORDS).0[index % WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Span = Span {
        start: 0x4000_0000,
        end: 0x4080_0000,
    };

    fn pool(image_end: u64, tree: Span) -> Pool {
        // SAFETY: no page of it is touched here; only its numbers are looked at.
        unsafe { Pool::new(MEMORY, image_end, tree) }
    }

    #[test]
    fn begins_after_the_image() {
        let pool = pool(0x4009_0001, Span::sized(0x4000_0000, 0x1000));
        assert_eq!(pool.ipa(0), 0x4009_1000);
        assert_eq!(pool.ipa(pool.pages() - 1), MEMORY.end - PAGE_SIZE);
    }

    #[test]
    fn leaves_a_device_tree_in_its_midst_alone() {
        let tree = Span::sized(0x4020_0800, 0x1000);
        let pool = pool(0x4010_0000, tree);
        let ipas: Vec<u64> = (0..pool.pages()).map(|index| pool.ipa(index)).collect();
        assert!(ipas.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(!ipas.contains(&0x4020_0000) && !ipas.contains(&0x4020_1000));
        assert_eq!(
            ipas.len() as u64,
            (MEMORY.end - 0x4010_0000) / PAGE_SIZE - 2
        );
        assert_eq!(*ipas.last().unwrap(), MEMORY.end - PAGE_SIZE);
        assert_eq!(
            pool.longest(),
            Span {
                start: 0x4020_2000,
                end: MEMORY.end
            }
        );
    }
}
