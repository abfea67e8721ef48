//! What areas are filled with: words that depend on the pattern's number and on their place, so
//! that a word from anywhere else, or from another time, is seen.

use std::fmt;

use crate::random::mix;

/// A pattern, by its number; 0 is what fresh memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) u64);

/// A word that is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    index: usize,
    expected: u64,
    found: u64,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            expected,
            found,
        } = self;
        let (page, word) = (index / 512, index % 512);
        write!(
            f,
            "page {page}, word {word}: expected {expected:#018x}, found {found:#018x}"
        )
    }
}

impl Pattern {
    /// All zeros.
    pub(crate) const ZERO: Self = Self(0);

    /// The word at place `index`.
    fn word(self, index: usize) -> u64 {
        match self.0 {
            0 => 0,
            number => mix(number ^ index as u64),
        }
    }

    /// Fills `words`.
    pub(crate) fn fill(self, words: &mut [u64]) {
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(index);
        }
    }

    /// Reads `words` once, and compares the hash of what was read with that of the pattern; where
    /// they differ it reads again to find the first wrong word.
    ///
    /// # Errors
    ///
    /// A word that is wrong, or was at the first look.
    pub(crate) fn verify(self, words: &[u64]) -> Result<(), Wrong> {
        let found = hash(words.iter().copied());
        let expected = hash((0..words.len()).map(|index| self.word(index)));
        if found == expected {
            return Ok(());
        }
        let differs = |&index: &usize| words[index] != self.word(index);
        let index = (0..words.len()).find(differs).unwrap_or(words.len());
        Err(Wrong {
            index,
            expected: self.word(index),
            found: words.get(index).copied().unwrap_or(found),
        })
    }
}

/// A hash in which the order counts.
fn hash(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0, |hash: u64, word| {
        (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_is_verified() {
        let mut words = [0; 1024];
        assert_eq!(Pattern::ZERO.verify(&words), Ok(()));
        Pattern(7).fill(&mut words);
        assert_eq!(Pattern(7).verify(&words), Ok(()));
        assert!(Pattern(8).verify(&words).is_err());
        assert!(Pattern::ZERO.verify(&words).is_err());
    }

    #[test]
    fn every_wrong_word_is_found() {
        let mut words = [0; 1024];
        Pattern(7).fill(&mut words);
        for index in [0, 1, 511, 512, 1023] {
            let good = words[index];
            words[index] ^= 1 << 40;
            let wrong = Pattern(7).verify(&words).expect_err("a wrong word");
            assert_eq!((wrong.index, wrong.expected), (index, good));
            words[index] = good;
        }
        words.swap(3, 4);
        let text = Pattern(7)
            .verify(&words)
            .expect_err("a wrong word")
            .to_string();
        assert!(text.starts_with("page 0, word 3: "), "{text}");
    }
}
