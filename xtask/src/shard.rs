//! Parts of the tests, for several machines to run side by side.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

/// One of several parts of the tests, each of about as many of each kind: neighbours are in
/// different parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0.
    index: usize,
    /// Of how many.
    of: NonZeroUsize,
}

impl Shard {
    /// Whether the test at this place, counted from 0, belongs to this part.
    pub fn has(self, place: usize) -> bool {
        place % self.of == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text} is no part of the tests: write I/N, such as 1/3, 2/3 and 3/3");
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let (index, of): (NonZeroUsize, NonZeroUsize) = index
            .parse()
            .and_then(|index| Ok((index, of.parse()?)))
            .map_err(|_| wrong())?;
        match index <= of {
            true => Ok(Self {
                index: index.get() - 1,
                of,
            }),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_in_one_shard() {
        let shards = ["1/3", "2/3", "3/3"].map(|text| text.parse::<Shard>().expect(text));
        for place in 0..10 {
            let having = shards.iter().filter(|shard| shard.has(place));
            assert_eq!(having.count(), 1, "place {place}");
        }
        assert_eq!(shards[1].to_string(), "2/3");
    }

    #[test]
    fn a_malformed_shard_is_refused() {
        for wrong in ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3"] {
            let error = wrong.parse::<Shard>().expect_err(wrong);
            assert!(error.contains("I/N"), "{error}");
        }
    }
}
