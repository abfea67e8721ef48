//! A set of a table's entries.

use crate::addr::ENTRIES;

const WORDS: usize = ENTRIES.div_ceil(u64::BITS as usize);

/// Pages of a region, by the index of their entry.
#[derive(Default)]
pub(super) struct PageSet([u64; WORDS]);

impl PageSet {
    /// Adds the page of this index.
    #[inline]
    pub(super) fn insert(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Takes the page of this index out.
    pub(super) fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    /// Adds the pages of another set.
    pub(super) fn insert_all(&mut self, others: &Self) {
        for (word, others) in self.0.iter_mut().zip(others.0) {
            *word |= others;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Their indices, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(number, &word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(number * 64 + bit)
            })
        })
    }
}
