//! Patterns, and what becomes of them while others have the CPU.

use core::sync::atomic::Ordering::Relaxed;

use guest::random::Random;

use crate::alarm::Alarm;
use crate::code;
use crate::kept::free_bits;
use crate::mismatches::Mismatches;
use crate::pattern::pattern;
use crate::registers::Named;
use crate::survey::{Found, READABLE, WRITABLE, answering};

/// How often the CPU is given up in a round.
const WAITS: usize = 12;
/// The longest time for which it is, in microseconds.
const LONGEST_WAIT: usize = 600;

/// Stores the patterns of this round, gives up the CPU, and looks what has become of them.
///
/// Between storing and the last look there is no exception, which would change ELR_EL1 and its
/// like: registers that would have one are known.
pub(crate) fn round(number: u64, seed: u64, mismatches: &mut Mismatches) {
    let alarm = Alarm::of(number, seed);
    alarm.set_up();
    let mut random = Random::new(seed ^ number);
    let others = |register| !alarm.uses(register);
    let written = |found: &Found| found.answers & WRITABLE != 0 && others(found.register);
    for found in answering().filter(written) {
        let register = found.register;
        let free = free_bits(register);
        let kept = match found.answers & READABLE {
            0 => 0,
            _ => code::read(register).unwrap_or(0) & !free,
        };
        code::store(register, kept | pattern(seed, register, number) & free);
    }
    let stays = |found: &Found| {
        found.answers & READABLE != 0 && found.expected.stays() && others(found.register)
    };
    for found in answering().filter(stays) {
        let value = code::read(found.register).unwrap_or(0);
        let before = found.value.swap(value, Relaxed);
        if found.expected.is_constant() && value != before {
            mismatches.add(format_args!(
                "{} was {before:#x} and is {value:#x}, but must not change",
                Named(found.register)
            ));
        }
    }
    for _ in 0..WAITS {
        alarm.wait(random.below(LONGEST_WAIT));
    }
    for found in answering().filter(stays) {
        let value = code::read(found.register).unwrap_or(0);
        let before = found.value.load(Relaxed);
        if value != before {
            mismatches.add(format_args!(
                "{} was {before:#x} and is {value:#x} after others had the CPU",
                Named(found.register)
            ));
        }
    }
}
