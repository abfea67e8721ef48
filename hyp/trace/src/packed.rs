//! Events without their types, as codes and words.

use crate::fields::{
    Access, Barrier, Cause, Exit, Holder, Operation, Outcome, Reach, Reason, Register, Step, Store,
    Taking, Tlbi,
};

/// The words of a record in a ring.
pub const WORDS: usize = 4;

/// The words of a record in a ring of the category `replay`.
pub const REPLAY_WORDS: usize = 6;

/// Most codes of an event.
pub(crate) const CODES: usize = 4;

/// Most words of an event.
pub const EVENT_WORDS: usize = 4;

/// How many codes and words an event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) codes: usize,
    pub(crate) words: usize,
}

/// A small field of an event.
pub(crate) trait Code: Sized {
    /// The value of this code; `None` if it has no meaning.
    fn read(code: u8) -> Option<Self>;
}

impl Code for u8 {
    fn read(code: u8) -> Option<Self> {
        Some(code)
    }
}

macro_rules! read_from_code {
    ($($type:ty),*) => { $(impl Code for $type {
        fn read(code: u8) -> Option<Self> {
            Self::from_code(code)
        }
    })* };
}
read_from_code!(
    Access, Barrier, Cause, Exit, Holder, Outcome, Reach, Reason, Register, Step, Store, Taking,
    Tlbi, Operation
);

/// An event without its types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) kind: u8,
    pub(crate) codes: [u8; CODES],
    pub(crate) words: [u64; EVENT_WORDS],
}

impl Packed {
    #[inline(always)]
    pub(crate) const fn new(kind: u8, codes: &[u8], words: &[u64]) -> Self {
        let mut packed = Self {
            kind,
            codes: [0; CODES],
            words: [0; EVENT_WORDS],
        };
        let mut index = 0;
        while index < codes.len() {
            packed.codes[index] = codes[index];
            index += 1;
        }
        index = 0;
        while index < words.len() {
            packed.words[index] = words[index];
            index += 1;
        }
        packed
    }
}
