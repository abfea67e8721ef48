//! Stamping pages, checking them, and reporting what is wrong.

use core::{
    fmt::Arguments,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use guest::{
    pool::Page,
    println,
    stamp::{Found, Stamp},
};

use crate::progress::{self, Activity};

/// Mismatches that are printed; all are counted.
const PRINTED: u64 = 24;

static MISMATCHES: AtomicU64 = AtomicU64::new(0);

/// How many mismatches all vCPUs have found.
pub(crate) fn mismatches() -> u64 {
    MISMATCHES.load(Relaxed)
}

/// Compares the word at `ipa`, which vCPU `vcpu` read as `found`.
pub(crate) fn compare(vcpu: usize, ipa: u64, expected: u64, found: u64) {
    if expected != found {
        mismatch(vcpu, ipa, expected, found);
    }
}

#[cold]
fn mismatch(vcpu: usize, ipa: u64, expected: u64, found: u64) {
    if is_printed(vcpu) {
        println!(
            "stress: vcpu {vcpu}, IPA {ipa:#x}: expected {expected:#018x} ({}), found {found:#018x} ({})",
            Found::in_word(expected),
            Found::in_word(found),
        );
    }
}

/// As [`compare`], for something that is no word of memory.
pub(crate) fn compare_register(vcpu: usize, name: Arguments<'_>, expected: u64, found: u64) {
    if expected != found && is_printed(vcpu) {
        println!("stress: vcpu {vcpu}, {name}: expected {expected:#x}, found {found:#x}");
    }
}

/// Counts a mismatch, and says whether to print it.
fn is_printed(vcpu: usize) -> bool {
    progress::of(vcpu).count(Activity::Mismatch);
    let before = MISMATCHES.fetch_add(1, Relaxed);
    if before == PRINTED {
        println!("stress: further mismatches are counted, not printed");
    }
    before < PRINTED
}

/// Fills the words that `stamp` marks.
pub(crate) fn fill(page: &Page, stamp: Stamp) {
    for word in (0..page.0.len()).step_by(stamp.step()) {
        page.0[word].store(stamp.word(word), Relaxed);
    }
}

/// Checks that `page` is as [`fill`] left it, or all zero if it is of generation 0.
pub(crate) fn check(vcpu: usize, page: &Page, stamp: Stamp) {
    if stamp.generation == 0 {
        return check_zero(vcpu, page, stamp.ipa);
    }
    for word in (0..page.0.len()).step_by(stamp.step()) {
        let found = page.0[word].load(Relaxed);
        compare(vcpu, stamp.ipa + 8 * word as u64, stamp.word(word), found);
    }
}

/// Checks that nobody wrote to `page`, whose first use this may be.
fn check_zero(vcpu: usize, page: &Page, ipa: u64) {
    for (word, found) in page.0.iter().enumerate() {
        compare(vcpu, ipa + 8 * word as u64, 0, found.load(Relaxed));
    }
}
