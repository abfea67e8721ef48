//! What was not as it should be.

use core::fmt::Arguments;

use guest::println;

/// So many are shown.
const SHOWN: usize = 40;

/// How many there were.
#[derive(Default)]
pub(crate) struct Mismatches(usize);

impl Mismatches {
    /// Counts one, and shows it unless there were many.
    pub(crate) fn add(&mut self, what: Arguments<'_>) {
        self.0 += 1;
        if self.0 <= SHOWN {
            println!("sweep: {what}");
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0
    }
}
