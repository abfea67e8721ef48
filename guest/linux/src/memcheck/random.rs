//! Seeded pseudo-random numbers: the same seed makes the same run.

/// A generator.
#[derive(Debug)]
pub(crate) struct Random(u64);

/// Mixes all bits of a number (the finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators").
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Random {
    /// A generator whose numbers depend on `seed` alone.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The next number, all 64 bits of it random.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 up to but not including `bound`, which is at least 1.
    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        ((self.next() as u128 * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_the_seed_and_stay_below_their_bound() {
        let (mut a, mut b, mut other) = (Random::new(1), Random::new(1), Random::new(2));
        let numbers: Vec<_> = (0..100).map(|_| a.below(7)).collect();
        assert!((0..7).all(|number| numbers.contains(&number)));
        assert!(
            numbers
                .iter()
                .all(|&number| number < 7 && number == b.below(7))
        );
        assert!(numbers.iter().any(|&number| number != other.below(7)));
    }
}
