//! Looking at a table's entries: whether they could be, or have become, the parts of one block.
//!
//! Entry by entry with no lock held, where an error has to be told: what is found there is a hint.
//! At the moment that counts, while the guest is held up, all entries are compared at once with
//! what was found.

use core::ops::BitOr;

use super::CollapseError;
use super::pages::PageSet;
use crate::addr::{ENTRIES, Level, Pa};
use crate::descriptor::{Descriptor, Difference, EntryKind, LeafFormat, MemoryType};
use crate::env::{Environment, Table};
use crate::lookup::{Unlocked, View};
use crate::sync::{Entry, Ordering};

/// Entries compared in one go. Small enough to be unrolled, and to be looked at one by one if one
/// of them is not as expected.
const CHUNK: usize = if cfg!(loom) { ENTRIES } else { 16 };

/// Looks whether all entries of a table could be parts of one block; returns a leaf that stands for
/// all.
pub(super) fn survey<E: Environment>(
    table: &View<'_, E>,
    max_empty: usize,
) -> Result<Descriptor, CollapseError> {
    let mut like: Option<Descriptor> = None;
    let mut empty = 0;
    for index in 0..ENTRIES {
        let entry = table.get(index);
        match entry.kind(table.level()) {
            EntryKind::Empty => {
                empty += 1;
                continue;
            }
            EntryKind::Leaf(_) => {}
            other => return Err(in_the_way(other)),
        }
        if entry.is_pinned() || entry.memory() == MemoryType::Device {
            return Err(CollapseError::Pinned);
        }
        if !entry
            .difference(like.unwrap_or(entry))
            .is_of_use_and_address()
        {
            return Err(CollapseError::Mixed);
        }
        like = like.or(Some(entry));
    }
    like.filter(|_| empty <= max_empty)
        .ok_or(CollapseError::TooEmpty)
}

/// Why what is neither a leaf nor empty stops a collapse.
fn in_the_way(entry: EntryKind) -> CollapseError {
    match entry {
        EntryKind::Table(_) => CollapseError::Nested,
        EntryKind::Bad => CollapseError::Bad,
        EntryKind::Busy(_) | EntryKind::Empty | EntryKind::Leaf(_) => CollapseError::Busy,
    }
}

/// Whether a page must be copied (again): it was written, or mapped, since the last copy.
pub(super) fn is_hot(leaf: Descriptor) -> bool {
    leaf.lets_stores_through() || !leaf.is_copied()
}

/// What the leaves of a table would be if they were the parts of a block where they are.
pub(super) struct Run {
    first: Descriptor,
    step: u64,
}

/// Why the leaves of a table are not the parts of a block where they are, or what has changed there
/// since they were found not to be.
#[cold]
pub(super) fn why_no_run<E: Environment>(table: &View<'_, E>) -> CollapseError {
    survey(table, 0).err().unwrap_or(CollapseError::Scattered)
}

impl Run {
    /// The run that the leaves of a table would be in a block of `level`, from a look at the first
    /// and the last one: enough to tell most tables that are none without a lock.
    pub(super) fn of<E: Environment>(
        table: &Unlocked<'_, E>,
        level: Level,
    ) -> Result<Self, CollapseError> {
        let (first, last) = (table.get(0), table.get(ENTRIES - 1));
        let run = Self {
            first,
            step: table.level().size(),
        };
        let behind = run.first.bits() + run.step * (ENTRIES as u64 - 1);
        let kind = first.kind(table.level());
        let likely = matches!(kind, EntryKind::Leaf(pa) if pa.is_aligned(level))
            && !first.is_pinned()
            && first.memory() == MemoryType::Normal
            && table.entries_in_use() == ENTRIES
            && last.difference(Descriptor::from_bits(behind)).is_of_use();
        if likely {
            Ok(run)
        } else {
            Err(why_no_run(table))
        }
    }

    /// What the entries of the table differ in from what they would be if all were used as the
    /// first was when it was looked at.
    pub(super) fn difference<E: Environment>(&self, table: &View<'_, E>) -> Difference {
        let mut expected = self.first.bits();
        let mut difference = Difference::default();
        for chunk in chunks(&table.table().entries) {
            for entry in chunk {
                difference = difference | load(entry).difference(Descriptor::from_bits(expected));
                expected += self.step;
            }
        }
        difference
    }

    /// The block of `level`, used as the first entry was.
    pub(super) fn block(&self, format: LeafFormat, level: Level) -> Descriptor {
        self.first.merged(format, level, self.first.output())
    }
}

/// The marks of use of all entries together.
pub(super) fn marks<E: Environment>(table: &View<'_, E>) -> Descriptor {
    let all = chunks(&table.table().entries).iter().flatten();
    all.fold(Descriptor::EMPTY, |marks, entry| {
        marks.with_use_of(load(entry))
    })
}

/// What the entries of a table are as long as nothing is left to do of a copy that was made while
/// the guest ran.
pub(super) struct Copies {
    like: Descriptor,
    expected: [Descriptor; ENTRIES],
}

/// What is left to do.
pub(super) struct Rest {
    /// Pages to be copied again, or zeroed.
    pub(super) pages: PageSet,
    /// The marks of use of all entries.
    pub(super) marks: Descriptor,
}

impl Copies {
    /// Pages like `like` were copied, but for those that were empty and have been zeroed.
    pub(super) fn new(like: Descriptor, zeroed: &PageSet) -> Self {
        // Changed where it is: moving it costs as much as copying a page.
        let mut copies = Self {
            like,
            expected: [like.copy(); ENTRIES],
        };
        for index in zeroed.iter() {
            copies.expected[index] = Descriptor::EMPTY;
        }
        copies
    }

    /// The block at `to`, for pages that had these marks of use together.
    pub(super) fn block(&self, format: LeafFormat, marks: Descriptor, to: Pa) -> Descriptor {
        let block = self
            .like
            .unused_at(to)
            .merged(format, Level::L2, to)
            .with_use_of(marks)
            .with_deposit();
        if block.is_written() {
            block.open()
        } else {
            block
        }
    }

    /// Compares the entries of the table with what they would be. More than `most` pages must not
    /// be left to do. A hint, unless nobody can change the table any more.
    ///
    /// A guest is held up meanwhile: this is a few instructions an entry, as long as there is
    /// nothing to do.
    pub(super) fn rest(&self, table: &Table, most: usize) -> Result<Rest, CollapseError> {
        let mut marks = Descriptor::EMPTY;
        let (mut pages, mut left) = (PageSet::default(), most);
        let chunks = chunks(&table.entries)
            .iter()
            .zip(self.expected.as_chunks().0);
        for (number, (entries, expected)) in chunks.enumerate() {
            let difference = difference(entries, expected);
            if difference.is_of_copy() {
                marks = marks.with_use_of(difference.marks_of_use());
                continue;
            }
            for (index, (entry, &expected)) in (number * CHUNK..).zip(entries.iter().zip(expected))
            {
                let entry = load(entry);
                marks = marks.with_use_of(entry);
                if !entry.difference(expected).is_of_copy() && self.must_be_done(entry, expected)? {
                    pages.insert(index);
                    left = left.checked_sub(1).ok_or(CollapseError::Hot)?;
                }
            }
        }
        Ok(Rest { pages, marks })
    }

    fn must_be_done(&self, entry: Descriptor, expected: Descriptor) -> Result<bool, CollapseError> {
        match entry.kind(Level::L3) {
            EntryKind::Empty => Ok(expected != entry),
            EntryKind::Leaf(_) if entry.difference(self.like).is_of_use_and_address() => {
                // A page that was away when the other pages were copied has been zeroed.
                Ok(is_hot(entry) || expected == Descriptor::EMPTY)
            }
            EntryKind::Leaf(_) => Err(CollapseError::Mixed),
            other => Err(in_the_way(other)),
        }
    }
}

#[inline(always)]
fn difference(entries: &[Entry; CHUNK], expected: &[Descriptor; CHUNK]) -> Difference {
    let each = |(entry, &expected)| load(entry).difference(expected);
    let all = entries.iter().zip(expected).map(each);
    all.fold(Difference::default(), Difference::bitor)
}

fn chunks(entries: &[Entry; ENTRIES]) -> &[[Entry; CHUNK]] {
    entries.as_chunks().0
}

/// Relaxed: what counts is looked at under the table's lock, or when nobody can reach the table any
/// more.
#[inline(always)]
fn load(entry: &Entry) -> Descriptor {
    Descriptor::from_bits(entry.load(Ordering::Relaxed))
}
