//! The pattern a page is filled with: every word names the page it belongs to, its place in it, who
//! wrote it and which generation of the page it is.
//!
//! So a wrong word tells what happened: another page's word means a wrong mapping, an old
//! generation a lost write or a stale copy, zero a page that was given out afresh.
//!
//! | bits | 63:61 | 60:57 | 56:33 | 32:9 | 8:0 |
//! |---|---|---|---|---|---|
//! | field | 0b101 | writer | generation | IPA >> 12 | word |

use core::fmt::{self, Display, Formatter};

/// Words of 64 bits in a 4 KiB page.
pub const WORDS: usize = 512;

const MARK: u64 = 0b101;
const GENERATION_MASK: u64 = (1 << 24) - 1;
const FRAME_MASK: u64 = (1 << 24) - 1;

/// What the words of one page say, but for their place in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// IPA of the page: 4 KiB aligned, below 64 GiB.
    pub ipa: u64,
    /// How many times the page was written, modulo 2^24; 0 only for a page nobody wrote yet.
    pub generation: u64,
    /// The vCPU that wrote it, below 16.
    pub writer: usize,
}

impl Stamp {
    /// The word at index `word` (below [`WORDS`]) of a page with this stamp.
    pub const fn word(&self, word: usize) -> u64 {
        MARK << 61
            | (self.writer as u64 & 0xf) << 57
            | (self.generation & GENERATION_MASK) << 33
            | (self.ipa >> 12 & FRAME_MASK) << 9
            | word as u64
    }

    /// Which words of the page carry the stamp: every step-th from 0.
    ///
    /// Most generations mark one word of each 64-byte line, which is enough to see a page that is
    /// not the right one, and keeps the guest busy with many pages instead of with one. One in 16
    /// marks every word.
    pub const fn step(&self) -> usize {
        if self.generation.is_multiple_of(16) {
            1
        } else {
            8
        }
    }
}

/// A word found in memory, taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// Zero: what fresh memory holds.
    Zero,
    /// A word of a stamped page.
    Stamped {
        /// The page it was written to.
        stamp: Stamp,
        /// Its index in that page.
        word: usize,
    },
    /// Neither.
    Other,
}

impl Found {
    /// Takes `value` apart.
    pub const fn in_word(value: u64) -> Self {
        if value == 0 {
            return Self::Zero;
        }
        if value >> 61 != MARK {
            return Self::Other;
        }
        Self::Stamped {
            stamp: Stamp {
                ipa: (value >> 9 & FRAME_MASK) << 12,
                generation: value >> 33 & GENERATION_MASK,
                writer: (value >> 57 & 0xf) as usize,
            },
            word: value as usize & (WORDS - 1),
        }
    }
}

impl Display for Found {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("zero"),
            Self::Other => f.write_str("no stamp"),
            Self::Stamped { stamp, word } => write!(
                f,
                "word {word} of the page of IPA {:#x}, generation {}, by vcpu {}",
                stamp.ipa, stamp.generation, stamp.writer
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_where_it_comes_from() {
        for ipa in [0, 0x4000_0000, 0x1_3fff_f000, 0xf_ffff_f000] {
            for generation in [1, 15, 16, GENERATION_MASK] {
                for writer in [0, 7, 15] {
                    let stamp = Stamp {
                        ipa,
                        generation,
                        writer,
                    };
                    for word in [0, 1, WORDS - 1] {
                        let found = Found::in_word(stamp.word(word));
                        assert_eq!(found, Found::Stamped { stamp, word });
                    }
                }
            }
        }
    }

    #[test]
    fn other_words_are_told_apart() {
        assert_eq!(Found::in_word(0), Found::Zero);
        assert_eq!(Found::in_word(0xffff_ffff_ffff_ffff), Found::Other);
        assert_eq!(Found::in_word(1), Found::Other);
    }

    #[test]
    fn some_generations_mark_every_word() {
        let step = |generation| {
            Stamp {
                ipa: 0,
                generation,
                writer: 0,
            }
            .step()
        };
        assert_eq!((step(1), step(15), step(16), step(17)), (8, 8, 1, 8));
    }
}
