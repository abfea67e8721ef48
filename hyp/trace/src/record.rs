//! Records as words: the form in which a ring holds them.

use crate::event::{Event, Record, Stamp};
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

    /// The record, with its stamp; `None` if there is no such event.
    pub(crate) fn record(self, stamp: Stamp) -> Option<Record> {
        Event::unpack(&self).map(|event| Record { stamp, event })
    }
}

impl Stamp {
    /// CPU, VM and vCPU where they are in a record's second word, and zeroes for the rest.
    #[inline(always)]
    pub const fn head(&self) -> u64 {
        u64::from_le_bytes([0, self.cpu, self.vm, self.vcpu, 0, 0, 0, 0])
    }
}

impl Event {
    /// The kind and the codes where they are in a record's second word, and zeroes for the stamp.
    ///
    /// Where the kind is known, the compiler makes a constant and a shift for each code of this.
    #[inline(always)]
    pub const fn head(&self) -> u64 {
        let Packed { kind, codes, .. } = self.pack();
        let [a, b, c, d] = codes;
        u64::from_le_bytes([kind, 0, 0, 0, a, b, c, d])
    }

    /// The event's words, and zeroes for those it does not have.
    #[inline(always)]
    pub const fn words(&self) -> [u64; EVENT_WORDS] {
        self.pack().words
    }
}

impl Record {
    /// The record as [`WORDS`] words, or [`REPLAY_WORDS`]: time; kind, CPU, VM, vCPU and the codes
    /// ([`Event::head`], [`Stamp::head`]); the event's words, as far as there is room.
    pub fn to_words<const N: usize>(&self) -> [u64; N] {
        let [w0, w1, w2, w3] = self.event.words();
        let head = self.event.head() | self.stamp.head();
        let all = [self.stamp.time, head, w0, w1, w2, w3];
        core::array::from_fn(|index| all.get(index).copied().unwrap_or(0))
    }

    /// The record of these words; `None` if there is no such event.
    pub fn from_words(words: &[u64]) -> Option<Self> {
        let (stamp, packed) = parts(words)?;
        packed.record(stamp)
    }
}

/// The stamp and the event of a record's words; `None` if those of a record are not there.
pub(crate) fn parts(words: &[u64]) -> Option<(Stamp, Packed)> {
    let (&[time, head], rest) = words.split_first_chunk()?;
    let [kind, cpu, vm, vcpu, codes @ ..] = head.to_le_bytes();
    let rest = &rest[..rest.len().min(EVENT_WORDS)];
    let stamp = Stamp {
        time,
        cpu,
        vm,
        vcpu,
    };
    Some((stamp, Packed::new(kind, &codes, rest)))
}
