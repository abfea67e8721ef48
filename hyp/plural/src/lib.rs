//! Numbers with what they count, as people read them: `1 vCPU`, `2 vCPUs`.

#![cfg_attr(not(test), no_std)]

use core::fmt;

/// A number, and the words for one and for many of what it counts; see [`count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count<N> {
    number: N,
    one: &'static str,
    many: &'static str,
}

/// `number` with the word that fits.
pub const fn count<N>(number: N, one: &'static str, many: &'static str) -> Count<N> {
    Count { number, one, many }
}

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Count<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_one = self.number == N::from(1);
        let word = if is_one { self.one } else { self.many };
        write!(f, "{} {word}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let processes = |number: u32| count(number, "process", "processes").to_string();
        assert_eq!(processes(0), "0 processes");
        assert_eq!(processes(1), "1 process");
        assert_eq!(processes(2), "2 processes");
        assert_eq!(count(1_usize, "vCPU", "vCPUs").to_string(), "1 vCPU");
    }
}
