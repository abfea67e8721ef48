//! Records as words: the form in which a ring holds them.

use crate::event::{Event, Record, Stamp};
use crate::packed::{EVENT_WORDS, Packed};

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
    /// The record as [`WORDS`](crate::event::WORDS) words, or
    /// [`REPLAY_WORDS`](crate::event::REPLAY_WORDS): time; kind, CPU, VM, vCPU and the codes
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
        record(stamp, &packed)
    }
}

/// The event with its stamp; `None` if there is no such event.
pub(crate) fn record(stamp: Stamp, packed: &Packed) -> Option<Record> {
    Event::unpack(packed).map(|event| Record { stamp, event })
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
