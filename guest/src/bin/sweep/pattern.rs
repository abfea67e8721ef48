//! What is stored in the registers.

use arch::Encoding;
use guest::random::Random;

/// What is stored in a register in this round, by the guest with this seed.
pub(crate) fn pattern(seed: u64, register: Encoding, round: u64) -> u64 {
    Random::new(seed << 48 ^ round << 16 ^ u64::from(register.bits())).next()
}
