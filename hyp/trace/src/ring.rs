//! One CPU's records until they are fetched: a ring that overwrites the oldest, or is full.
//!
//! One CPU writes, without locks or read-modify-writes: two stores of a counter round the stores of
//! a record. One reader, on any CPU, copies records out and notices when the writer has overtaken
//! it. It then goes on in the middle of what is left: what it reads next comes without gaps for a
//! while, where one that went on with the oldest would be overtaken again at once. Records have
//! numbers, by which what was lost is known.
//!
//! Of a ring that is only ever written with [`Ring::offer`], nothing is lost.
//!
//! Invariant: the slots of records `begun - SLOTS` up to `done` are whole, unless `begun` has grown
//! by the time they were read.

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// The place of one record of `N` words.
pub struct Slot<const N: usize>([AtomicU64; N]);

impl<const N: usize> Slot<N> {
    /// A slot that holds nothing of meaning. A zeroed one is the same.
    #[allow(clippy::new_without_default)] // part of a static, made in place
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

/// A ring over slots that its caller keeps.
pub struct Ring<'m, const N: usize> {
    slots: &'m [Slot<N>],
    /// Records whose writing was begun.
    begun: AtomicU64,
    /// Records that are written.
    done: AtomicU64,
    /// Records that the reader is done with.
    taken: AtomicU64,
}

/// How far the reader has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
}

impl Cursor {
    /// At the first record.
    pub const fn new() -> Self {
        Self { next: 0 }
    }
}

/// The writer has overtaken the reader.
struct Overtaken;

impl<'m, const N: usize> Ring<'m, N> {
    /// An empty ring.
    ///
    /// # Panics
    ///
    /// If the number of slots is no power of two.
    pub const fn new(slots: &'m [Slot<N>]) -> Self {
        assert!(slots.len().is_power_of_two());
        Self {
            slots,
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    fn slot(&self, number: u64) -> &Slot<N> {
        // The length is a power of two, and so the remainder an index.
        &self.slots[number as usize & (self.slots.len() - 1)]
    }

    /// Writes a record. Only one CPU calls this, and is not interrupted by itself.
    #[inline]
    pub fn write(&self, words: [u64; N]) {
        let number = self.begun.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        // A reader that sees one of the words below sees `begun` as well.
        fence(Ordering::Release);
        for (cell, word) in self.slot(number).0.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
        self.done.store(number + 1, Ordering::Release);
    }

    /// Writes a record, if the reader has left room for it; says whether. As
    /// [`write`](Self::write).
    #[inline]
    pub fn offer(&self, words: [u64; N]) -> bool {
        // Acquire: the reader is done with the slot.
        let taken = self.taken.load(Ordering::Acquire);
        let waiting = self.begun.load(Ordering::Relaxed) - taken;
        let room = waiting < self.slots.len() as u64;
        if room {
            self.write(words);
        }
        room
    }

    /// Reads the next record, with its number; `None` if there is none. There is one reader at a
    /// time, with one cursor.
    pub fn read(&self, cursor: &mut Cursor) -> Option<(u64, [u64; N])> {
        loop {
            let number = cursor.next;
            match self.attempt(cursor)? {
                Ok(words) => return Some((number, words)),
                Err(Overtaken) => continue,
            }
        }
    }

    /// As [`read`](Self::read), but `None` also if the records that come next were overwritten.
    pub fn read_on(&self, cursor: &mut Cursor) -> Option<[u64; N]> {
        self.attempt(cursor)?.ok()
    }

    /// The record at the cursor, if there is one. If it was overwritten, the cursor is moved on.
    fn attempt(&self, cursor: &mut Cursor) -> Option<Result<[u64; N], Overtaken>> {
        if cursor.next == self.done.load(Ordering::Acquire) {
            return None;
        }
        let words = self.slot(cursor.next).0.each_ref();
        let words = words.map(|cell| cell.load(Ordering::Relaxed));
        // The other half of the fence in `write`.
        fence(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Relaxed);
        let size = self.slots.len() as u64;
        if cursor.next < begun.saturating_sub(size) {
            cursor.next = begun - size / 2;
            return Some(Err(Overtaken));
        }
        cursor.next += 1;
        self.taken.store(cursor.next, Ordering::Release);
        Some(Ok(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn slots<const N: usize>() -> [Slot<2>; N] {
        [const { Slot::new() }; N]
    }

    #[test]
    fn what_was_written_is_read_in_order() {
        let slots = slots::<4>();
        let (ring, mut cursor) = (Ring::new(&slots), Cursor::new());
        assert!(ring.read(&mut cursor).is_none());
        for n in 0..3 {
            ring.write([n; 2]);
        }
        for n in 0..3 {
            assert_eq!(ring.read(&mut cursor), Some((n, [n; 2])));
        }
        assert!(ring.read(&mut cursor).is_none());
    }

    #[test]
    fn the_oldest_are_overwritten_and_the_newer_half_comes_without_a_gap() {
        let slots = slots::<4>();
        let (ring, mut cursor) = (Ring::new(&slots), Cursor::new());
        (0..10).for_each(|n| ring.write([n; 2]));
        assert_eq!(ring.read_on(&mut cursor), None);
        assert_eq!(ring.read(&mut cursor), Some((8, [8; 2])));
        assert_eq!(ring.read_on(&mut cursor), Some([9; 2]));
        assert_eq!(ring.read(&mut cursor), None);
    }

    #[test]
    fn what_is_offered_is_taken_only_where_nothing_is_overwritten() {
        let slots = slots::<4>();
        let (ring, mut cursor) = (Ring::new(&slots), Cursor::new());
        for n in 0..4 {
            assert!(ring.offer([n; 2]));
        }
        assert!(!ring.offer([4; 2]));
        assert_eq!(ring.read(&mut cursor), Some((0, [0; 2])));
        assert!(ring.offer([4; 2]) && !ring.offer([5; 2]));
        for n in 1..5 {
            assert_eq!(ring.read(&mut cursor), Some((n, [n; 2])));
        }
    }

    const TOTAL: u64 = if cfg!(miri) { 200 } else { 100_000 };

    /// Reads from `ring` up to the record `TOTAL`, while another thread writes; returns how many
    /// came.
    fn read_all(ring: &Ring<'_, 2>) -> u64 {
        let (mut cursor, mut last, mut seen) = (Cursor::new(), 0, 0);
        while last < TOTAL {
            let Some((number, [word, other])) = ring.read(&mut cursor) else {
                std::thread::yield_now();
                continue;
            };
            assert!(word == other && word > last && number + 1 == word);
            last = word;
            seen += 1;
        }
        seen
    }

    #[test]
    fn a_reader_that_is_overtaken_never_sees_half_a_record() {
        let slots = slots::<8>();
        let ring = Ring::new(&slots);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=TOTAL).for_each(|n| ring.write([n; 2])));
            assert!(read_all(&ring) <= TOTAL);
        });
    }

    #[test]
    fn a_writer_that_offers_loses_nothing() {
        let slots = slots::<8>();
        let ring = Ring::new(&slots);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..=TOTAL).for_each(|n| {
                    while !ring.offer([n; 2]) {
                        std::thread::yield_now();
                    }
                });
            });
            assert_eq!(read_all(&ring), TOTAL);
        });
    }
}
