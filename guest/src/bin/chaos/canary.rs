//! Memory that no step names: it must stay as it is.

use core::sync::atomic::Ordering::Relaxed;

use guest::{pool::Pool, random::Random, stamp::WORDS};

use crate::places::Places;

/// From one page that is watched to the next.
const STRIDE: usize = 61;

/// Fills a word in each page that is watched; the others stay untouched.
pub(crate) fn set(pool: Pool, places: &Places) {
    for page in watched(places) {
        let (word, value) = place(page);
        pool.page(page).0[word].store(value, Relaxed);
    }
}

/// Panics if a word is not as it was left, or the one beside it is not zero.
pub(crate) fn check(pool: Pool, places: &Places) {
    for page in watched(places) {
        let (word, value) = place(page);
        let beside = (word + 1) % WORDS;
        for (word, expected) in [(word, value), (beside, 0)] {
            let found = pool.page(page).0[word].load(Relaxed);
            assert!(
                found == expected,
                "memory that nobody touched has changed: IPA {:#x} is {found:#x} instead of {expected:#x}",
                pool.ipa(page) + 8 * word as u64
            );
        }
    }
}

fn watched(places: &Places) -> impl Iterator<Item = usize> {
    (places.first_kept..places.end_kept).step_by(STRIDE)
}

/// Which word of a page, and what is there.
fn place(page: usize) -> (usize, u64) {
    let mut random = Random::new(page as u64);
    (random.below(WORDS), random.next() | 1)
}
