//! How the stress guest divides the pool, and which vCPU owns which private page.
//!
//! The areas are ranges of page numbers that follow each other and fill the pool.

use core::ops::Range;

use crate::stamp::WORDS;

/// Pages of one 2 MiB block.
pub const BLOCK_PAGES: usize = 512;

/// Pages in which each vCPU writes and runs code.
pub const CODE_PAGES: usize = 8;

/// Shared counters in each page of the counters' area; the words between them stay zero.
pub const COUNTERS_PER_PAGE: usize = 8;

/// The areas of the pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Areas {
    /// Pages with shared counters.
    pub counters: Range<usize>,
    /// What each vCPU added to each counter, one word each.
    pub additions: Range<usize>,
    /// Pages that are handed from vCPU to vCPU.
    pub slots: Range<usize>,
    /// The state of each of them, one word each.
    pub slot_states: Range<usize>,
    /// Pages for code, [`CODE_PAGES`] for each vCPU.
    pub code: Range<usize>,
    /// The generation of each private page, one word each.
    pub generations: Range<usize>,
    /// Pages that one vCPU each owns: most of the pool.
    pub private: Range<usize>,
}

impl Areas {
    /// Divides `pages` pages for `vcpus` vCPUs; `None` when they are too few to be worth it.
    pub fn new(pages: usize, vcpus: usize) -> Option<Self> {
        if pages < 8 * BLOCK_PAGES {
            return None;
        }
        let counters = (pages / 16).min(2048);
        let slots = (pages / 8).min(4096);
        let mut end = 0;
        let mut take = |count: usize| {
            let start = end;
            end += count;
            start..end
        };
        let counters = take(counters);
        let additions = take((vcpus * counters.len() * COUNTERS_PER_PAGE).div_ceil(WORDS));
        let slots = take(slots);
        let slot_states = take(slots.len().div_ceil(WORDS));
        let code = take(vcpus * CODE_PAGES);
        let left = pages - code.end;
        let generations = take(left.div_ceil(WORDS + 1));
        let private = take(left - generations.len());
        Some(Self {
            counters,
            additions,
            slots,
            slot_states,
            code,
            generations,
            private,
        })
    }
}

/// The vCPU that owns the private page with this number, its IPA divided by its size.
///
/// The pages of blocks alternate: in one all vCPUs own pages in turn, so that they meet in
/// the same last-level table; the next belongs to one vCPU alone.
pub const fn owner(number: usize, vcpus: usize) -> usize {
    let block = number / BLOCK_PAGES;
    if block.is_multiple_of(2) {
        number % vcpus
    } else {
        block / 2 % vcpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_fill_the_pool_in_order() {
        for pages in [4096, 7800, 32_000, 1 << 20] {
            for vcpus in 1..=8 {
                let areas = Areas::new(pages, vcpus).unwrap();
                let row = [
                    &areas.counters,
                    &areas.additions,
                    &areas.slots,
                    &areas.slot_states,
                    &areas.code,
                    &areas.generations,
                    &areas.private,
                ];
                assert_eq!(row[0].start, 0);
                assert!(row.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(row.iter().all(|area| !area.is_empty()));
                assert_eq!(areas.private.end, pages);
                assert!(areas.generations.len() * WORDS >= areas.private.len());
                assert!(areas.private.len() > pages * 3 / 4, "most of it is private");
            }
        }
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert_eq!(Areas::new(1000, 1), None);
    }

    #[test]
    fn every_vcpu_owns_pages() {
        for vcpus in 1..=8 {
            let mut owned = vec![0; vcpus];
            for index in 0..3 * BLOCK_PAGES {
                owned[owner(index, vcpus)] += 1;
            }
            assert!(owned.iter().all(|&pages| pages > 0));
        }
    }
}
