//! The first look at all registers: which are there, and which take a pattern.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use arch::Encoding;
use arch::id::{self, Ids};
use guest::println;

use crate::code;
use crate::kept::free_bits;
use crate::mismatches::Mismatches;
use crate::pattern::pattern;
use crate::registers::{COUNT, Expected, Named, encoding};

/// It can be read.
pub(crate) const READABLE: u8 = 1 << 0;
/// It can be written, and some of its bits are free.
pub(crate) const WRITABLE: u8 = 1 << 1;

static ANSWERS: [AtomicU8; COUNT] = [const { AtomicU8::new(0) }; COUNT];
static VALUES: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];

/// What was found of one register.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) register: Encoding,
    pub(crate) expected: Expected,
    pub(crate) answers: u8,
    /// Where the value that it has to have is kept.
    pub(crate) value: &'static AtomicU64,
}

/// What the ID registers show.
fn ids() -> Ids {
    let mut values = [0; id::COUNT];
    for crm in 1..8 {
        for op2 in 0..8 {
            let register = Encoding::new(3, 0, 0, crm, op2);
            values[id::index(crm, op2)] = code::read(register).unwrap_or(0);
        }
    }
    Ids::new(values)
}

/// Reads and writes all registers once, and says what is not as the contract has it.
pub(crate) fn survey(seed: u64, mismatches: &mut Mismatches) {
    let ids = ids();
    let mut counts = [0; 3];
    for found in all(&ids) {
        if found.expected == Expected::Command {
            continue;
        }
        let value = code::read(found.register);
        let mut answers = if value.is_some() { READABLE } else { 0 };
        let free = free_bits(found.register);
        if free != 0 && found.expected != Expected::Moving {
            let kept = value.unwrap_or(0) & !free;
            let stored = kept | pattern(seed, found.register, 0) & free;
            if code::store(found.register, stored) {
                answers |= WRITABLE;
            }
        }
        found.value.store(value.unwrap_or(0), Relaxed);
        ANSWERS[found.place()].store(answers, Relaxed);
        if !found.expected.allows(answers != 0) {
            mismatches.add(format_args!(
                "{} answers to {}, but is {:?}",
                Named(found.register),
                match answers {
                    0 => "nothing",
                    READABLE => "reads",
                    WRITABLE => "writes",
                    _ => "reads and writes",
                },
                found.expected
            ));
        }
        counts[usize::from(answers & READABLE)] += 1;
        counts[2] += usize::from(answers & WRITABLE != 0);
    }
    let [undefined, readable, writable] = counts;
    println!(
        "sweep: {undefined} encodings cannot be read, {readable} can, and {writable} take a pattern, \
         {} lines of exceptions",
        crate::kept::LINES
    );
}

fn all(ids: &Ids) -> impl Iterator<Item = Found> {
    (0..COUNT).map(move |place| {
        let register = encoding(place);
        Found {
            register,
            expected: Expected::new(register, |row| row.needs.met(ids)),
            answers: ANSWERS[place].load(Relaxed),
            value: &VALUES[place],
        }
    })
}

/// The registers that have answered, and are to be looked at again.
pub(crate) fn answering() -> impl Iterator<Item = Found> {
    let there = |place: &usize| ANSWERS[*place].load(Relaxed) != 0;
    (0..COUNT).filter(there).map(|place| {
        let register = encoding(place);
        Found {
            register,
            // It has answered, so it is shown.
            expected: Expected::new(register, |_| true),
            answers: ANSWERS[place].load(Relaxed),
            value: &VALUES[place],
        }
    })
}

impl Found {
    fn place(&self) -> usize {
        crate::registers::place(self.register)
    }
}
