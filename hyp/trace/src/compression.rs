//! How the words of records are made small: each from what came before it in the frame.
//!
//! Both ends keep a `Memory` of the frame so far. A word is one number; its two lowest bits say
//! what the rest is:
//!
//! | bits | the rest |
//! |---|---|
//! | 00 | the word |
//! | 01 | the difference to the guess, in units of 4096, folded |
//! | 10 | the difference to the guess, folded |
//! | 11 | how many of the words that are remembered came after this one |
//!
//! The guess is the word at the same place of the last event of this kind, or 0. Remembered are the
//! last 32 words that came in one of the first three forms, without those below 32 and those that
//! were as guessed. Folded means 0, -1, 1, -2 as 0, 1, 2, 3.

use crate::event::{HIGHEST_KIND, NOBODY};
use crate::packed::EVENT_WORDS;
use crate::varint::{self, fold, unfold};

/// Kinds of events are numbered below this, which is a power of two so that a remainder is cheap.
const KINDS: usize = 64;
const _: () = assert!((HIGHEST_KIND as usize) < KINDS);

/// How many words are remembered.
const REMEMBERED: usize = 32;

/// Words below this come by themselves.
const SMALL: u64 = 32;

/// What a frame's records so far tell of the next.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The time of the last record.
    pub(crate) time: u64,
    /// VM and vCPU of the last record.
    pub(crate) who: [u8; 2],
    /// The last place in the order.
    pub(crate) order: u64,
    last: [[u64; EVENT_WORDS]; KINDS],
    remembered: [u64; REMEMBERED],
    next: usize,
}

impl Memory {
    /// At the start of a frame whose first record has the time 0.
    pub(crate) const fn new() -> Self {
        Self {
            time: 0,
            who: [NOBODY; 2],
            order: 0,
            last: [[0; EVENT_WORDS]; KINDS],
            remembered: [0; REMEMBERED],
            next: 0,
        }
    }

    /// Forgets everything: a frame begins, whose first record has this time.
    pub(crate) fn begin(&mut self, time: u64) {
        (self.time, self.who, self.order, self.next) = (time, [NOBODY; 2], 0, 0);
        self.last.as_flattened_mut().fill(0);
        self.remembered.fill(0);
    }

    /// The number that stands for `word`, which is at `index` of an event of `kind`.
    pub(crate) fn code(&mut self, kind: u8, index: usize, word: u64) -> u128 {
        let guess = self.guess(kind, index);
        let difference = word.wrapping_sub(*guess);
        *guess = word;
        if difference == 0 {
            return 0b10;
        }
        let plain = u128::from(word) << 2;
        if word < SMALL {
            return plain;
        }
        if let Some(back) = (0..REMEMBERED).find(|&back| self.back(back) == word) {
            return (back as u128) << 2 | 0b11;
        }
        self.remember(word);
        let byte = u128::from(fold(difference)) << 2 | 0b10;
        let page = u128::from(fold((difference as i64 >> 12) as u64)) << 2 | 0b01;
        let best = if difference.is_multiple_of(4096) {
            page
        } else {
            byte
        };
        if varint::length(plain) < varint::length(best) {
            plain
        } else {
            best
        }
    }

    /// The word for which `number` stands.
    pub(crate) fn word(&mut self, kind: u8, index: usize, number: u128) -> u64 {
        let guess = *self.guess(kind, index);
        let rest = (number >> 2) as u64;
        let word = match number & 0b11 {
            0b00 => rest,
            0b01 => guess.wrapping_add(unfold(rest) << 12),
            0b10 => guess.wrapping_add(unfold(rest)),
            _ => self.back(rest as usize),
        };
        *self.guess(kind, index) = word;
        if number & 0b11 != 0b11 && word != guess && word >= SMALL {
            self.remember(word);
        }
        word
    }

    fn guess(&mut self, kind: u8, index: usize) -> &mut u64 {
        // Kinds are below that, and events have no more words.
        &mut self.last[usize::from(kind) % KINDS][index % EVENT_WORDS]
    }

    /// The word that was remembered before so many others.
    fn back(&self, back: usize) -> u64 {
        self.remembered[self.next.wrapping_sub(1).wrapping_sub(back) % REMEMBERED]
    }

    fn remember(&mut self, word: u64) {
        self.remembered[self.next % REMEMBERED] = word;
        self.next = (self.next + 1) % REMEMBERED;
    }
}
