//! One CPU's records until they are fetched: a ring that overwrites the oldest.
//!
//! One CPU writes, without locks or read-modify-writes: two stores of a counter round the stores of a
//! record. One reader, on any CPU, copies records out and notices when the writer has overtaken it;
//! what was overwritten before it could be read is counted.
//!
//! Invariant: the slots of records `begun - SLOTS` up to `done` are whole, unless `begun` has grown
//! by the time they were read.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::event::WORDS;

/// The place of one record.
pub struct Slot([AtomicU64; WORDS]);

impl Slot {
    /// A slot that holds nothing of meaning. A zeroed one is the same.
    #[allow(clippy::new_without_default)] // part of a static, made in place
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }
}

/// A ring over slots that somebody else keeps.
pub struct Ring<'m> {
    slots: &'m [Slot],
    /// Records whose writing was begun.
    begun: AtomicU64,
    /// Records that are written.
    done: AtomicU64,
}

/// How far a reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
    lost: u64,
}

impl Cursor {
    /// At the first record.
    pub const fn new() -> Self {
        Self { next: 0, lost: 0 }
    }

    /// Records that were overwritten before this reader came to them, since the beginning.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl<'m> Ring<'m> {
    /// An empty ring.
    ///
    /// # Panics
    ///
    /// If the number of slots is no power of two.
    pub const fn new(slots: &'m [Slot]) -> Self {
        assert!(slots.len().is_power_of_two());
        Self {
            slots,
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    fn slot(&self, number: u64) -> &Slot {
        // The length is a power of two, and so the remainder an index.
        &self.slots[number as usize & (self.slots.len() - 1)]
    }

    /// Writes a record. Only one CPU calls this, and is not interrupted by itself.
    #[inline]
    pub fn write(&self, words: [u64; WORDS]) {
        let number = self.begun.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        // Whoever sees one of the words below sees `begun` as well.
        fence(Ordering::Release);
        for (cell, word) in self.slot(number).0.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
        self.done.store(number + 1, Ordering::Release);
    }

    /// Reads the next record, the oldest that is left; `None` if there is none.
    pub fn read(&self, cursor: &mut Cursor) -> Option<[u64; WORDS]> {
        loop {
            if cursor.next == self.done.load(Ordering::Acquire) {
                return None;
            }
            let words = self.slot(cursor.next).0.each_ref();
            let words = words.map(|cell| cell.load(Ordering::Relaxed));
            // The other half of the fence in `write`.
            fence(Ordering::Acquire);
            let begun = self.begun.load(Ordering::Relaxed);
            let oldest = begun.saturating_sub(self.slots.len() as u64);
            if cursor.next >= oldest {
                cursor.next += 1;
                return Some(words);
            }
            cursor.lost += oldest - cursor.next;
            cursor.next = oldest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn slots<const N: usize>() -> [Slot; N] {
        [const { Slot::new() }; N]
    }

    #[test]
    fn what_was_written_is_read_in_order() {
        let slots = slots::<4>();
        let (ring, mut cursor) = (Ring::new(&slots), Cursor::new());
        assert!(ring.read(&mut cursor).is_none());
        for n in 0..3 {
            ring.write([n; WORDS]);
        }
        for n in 0..3 {
            assert_eq!(ring.read(&mut cursor), Some([n; WORDS]));
        }
        assert!(ring.read(&mut cursor).is_none());
        assert_eq!(cursor.lost(), 0);
    }

    #[test]
    fn the_oldest_is_overwritten_and_counted() {
        let slots = slots::<4>();
        let (ring, mut cursor) = (Ring::new(&slots), Cursor::new());
        (0..10).for_each(|n| ring.write([n; WORDS]));
        for n in 6..10 {
            assert_eq!(ring.read(&mut cursor), Some([n; WORDS]));
        }
        assert_eq!((ring.read(&mut cursor), cursor.lost()), (None, 6));
    }

    #[test]
    fn a_reader_that_is_overtaken_never_sees_half_a_record() {
        let slots = slots::<8>();
        let (ring, mut cursor) = (Ring::new(&slots), Cursor::new());
        let total = if cfg!(miri) { 200 } else { 100_000 };
        let mut seen = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=total).for_each(|n| ring.write([n; WORDS])));
            let mut last = 0;
            while last < total {
                let Some(words) = ring.read(&mut cursor) else {
                    std::thread::yield_now();
                    continue;
                };
                assert!(words.iter().all(|&word| word == words[0]), "{words:?}");
                assert!(words[0] > last);
                last = words[0];
                seen += 1;
            }
        });
        assert_eq!(seen + cursor.lost(), total);
    }
}
