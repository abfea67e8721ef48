//! Seeded pseudo-random numbers, and walks over a range in pseudo-random order.
//!
//! The same seed gives the same numbers on every machine, so that a run can be repeated.

/// The SplitMix64 generator (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators").
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator whose numbers depend on `seed` alone.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, all 64 bits of it random.
    pub const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to but not including `bound`, which is at least 1. The bias towards small
    /// numbers is at most `bound` in 2^64.
    pub const fn below(&mut self, bound: usize) -> usize {
        ((self.next() as u128 * bound as u128) >> 64) as usize
    }
}

/// Visits the numbers below `length` in rounds: each number once a round, in an order that looks
/// random and differs from round to round.
pub struct Walk {
    length: usize,
    at: usize,
    stride: usize,
    left: usize,
}

impl Walk {
    /// A walk over the numbers below `length`, which is at least 1.
    pub const fn new(length: usize) -> Self {
        Self {
            length,
            at: 0,
            stride: 1,
            left: 0,
        }
    }

    /// The next number; `random` chooses the order when a round begins.
    pub const fn next(&mut self, random: &mut Random) -> usize {
        if self.left == 0 {
            self.begin_round(random);
        }
        self.left -= 1;
        self.at = (self.at + self.stride) % self.length;
        self.at
    }

    /// A stride with no factor in common with the length comes back to its start only after it has
    /// visited every number.
    const fn begin_round(&mut self, random: &mut Random) {
        self.left = self.length;
        self.at = random.below(self.length);
        self.stride = 1 + random.below(self.length);
        while greatest_common_divisor(self.stride, self.length) != 1 {
            self.stride = 1 + random.below(self.length);
        }
    }
}

const fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_with_its_seed() {
        let (mut a, mut b, mut other) = (Random::new(7), Random::new(7), Random::new(8));
        let first: [u64; 4] = core::array::from_fn(|_| a.next());
        assert_eq!(first, core::array::from_fn(|_| b.next()));
        assert_ne!(first, core::array::from_fn(|_| other.next()));
    }

    #[test]
    fn stays_below_its_bound_and_reaches_everything() {
        let mut random = Random::new(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[random.below(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn a_round_visits_everything_once() {
        let mut random = Random::new(3);
        for length in [1, 2, 3, 12, 97, 512, 1000] {
            let mut walk = Walk::new(length);
            for _round in 0..3 {
                let mut seen = vec![0; length];
                for _ in 0..length {
                    seen[walk.next(&mut random)] += 1;
                }
                assert!(seen.iter().all(|&visits| visits == 1), "length {length}");
            }
        }
    }
}
