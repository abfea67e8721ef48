//! Unmapping a range.
//!
//! A leaf's frame is handed out only after the invalidation that covered its mapping has completed:
//! the leaves of a run are gathered under the table's lock, flushed under it, and delivered after
//! it.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level, Pa};
use crate::descriptor::{Descriptor, EntryKind};
use crate::detached::Retired;
use crate::env::{Environment, OutOfFrames, Scope};
use crate::flush::Stale;
use crate::frame::GuestFrame;
use crate::guard::entry_address;
use crate::lookup::{Locked, replace};
use crate::observer::{Observation, Topic};
use crate::range::{Edit, Edited};
use crate::stage2::Stage2;
use crate::stats::Counter;
use crate::sync::{Entry, Ordering};
use arrayvec::ArrayVec;
use core::iter::repeat_n;
use core::mem;

/// A leaf that was unmapped, and of which no translation is left anywhere.
#[must_use = "the frame is lost unless it is given back"]
#[derive(Debug, PartialEq, Eq)]
pub struct Unmapped {
    /// The first guest address that it mapped.
    pub ipa: Ipa,
    /// The memory that it mapped, which is the caller's again.
    pub frame: GuestFrame,
    /// What it was, with all marks of use.
    pub descriptor: Descriptor,
}

impl Unmapped {
    pub(crate) fn new(ipa: Ipa, level: Level, descriptor: Descriptor) -> Self {
        Self {
            ipa,
            frame: GuestFrame::of(descriptor.output(), level),
            descriptor,
        }
    }

    /// Its level, and so its size.
    pub fn level(&self) -> Level {
        self.frame.level()
    }
}

/// Leaves of one table that were unmapped together, and of which no translation is left anywhere.
#[must_use = "the frames are lost unless they are given back"]
#[derive(Debug)]
pub struct UnmappedRun<'a> {
    ipa: Ipa,
    level: Level,
    entries: &'a [Descriptor],
}

impl<'a> UnmappedRun<'a> {
    /// The guest address of the first entry.
    #[inline]
    pub fn ipa(&self) -> Ipa {
        self.ipa
    }

    /// The level of all of them.
    #[inline]
    pub fn level(&self) -> Level {
        self.level
    }

    /// What adjacent entries were, with all marks of use; [`Descriptor::EMPTY`] where nothing was.
    #[inline]
    pub fn entries(&self) -> &'a [Descriptor] {
        self.entries
    }

    /// The memory that each entry mapped; none where nothing was.
    #[inline]
    pub fn into_frames(self) -> impl Iterator<Item = Option<GuestFrame>> + 'a {
        let level = self.level;
        let frame = move |&entry: &Descriptor| {
            (entry != Descriptor::EMPTY).then(|| GuestFrame::of(entry.output(), level))
        };
        self.entries.iter().map(frame)
    }

    /// The leaves, from the lowest address on.
    pub fn into_leaves(self) -> impl Iterator<Item = Unmapped> + 'a {
        let (ipa, level) = (self.ipa, self.level);
        (0..)
            .zip(self.entries)
            .filter(|(_, descriptor)| **descriptor != Descriptor::EMPTY)
            .map(move |(index, &descriptor)| {
                Unmapped::new(ipa.offset(index * level.size()), level, descriptor)
            })
    }
}

/// Empties an entry of `level` that holds a leaf, and returns what it was at that moment; none
/// where `seen`, which was loaded under the table's lock, is no leaf.
#[inline(always)]
fn remove_leaf(entry: &Entry, seen: Descriptor, level: Level) -> Option<Descriptor> {
    // What most pages are, by one question of all bits: the hardware has nothing to add to such an
    // entry.
    if matches!(level, Level::L3) && seen.is_page_in_use() {
        entry.store(Descriptor::EMPTY.bits(), Ordering::Release);
        return Some(seen);
    }
    let is_leaf = matches!(seen.kind(level), EntryKind::Leaf(_));
    is_leaf.then(|| replace(entry, level, Descriptor::EMPTY))
}

/// Empties leaves of `level` from the first entry on, and adds what they were to `gathered`, which
/// has room for all entries; what is empty as well. Ends at any other entry. Returns the number of
/// leaves.
#[inline(always)]
fn remove_run(entries: &[Entry], level: Level, gathered: &mut Gathered) -> usize {
    let (before, mut empty) = (gathered.len(), 0);
    gathered.extend(entries.iter().map_while(|entry| {
        let seen = Descriptor::from_bits(entry.load(Ordering::Relaxed));
        if let Some(old) = remove_leaf(entry, seen, level) {
            return Some(old);
        }
        let is_empty = seen == Descriptor::EMPTY;
        empty += usize::from(is_empty);
        is_empty.then_some(Descriptor::EMPTY)
    }));
    gathered.len() - before - empty
}

/// As [`remove_run`], for pages. A function of its own, so that its few values stay in registers,
/// and the question whether an entry is a leaf is one of two bits.
#[inline(never)]
fn remove_pages(entries: &[Entry], gathered: &mut Gathered) -> usize {
    remove_run(entries, Level::L3, gathered)
}

/// What the entries of a run were: of one table, so there is room for all.
type Gathered = ArrayVec<Descriptor, ENTRIES>;

struct Unmap<F> {
    range: IpaRange,
    level: Level,
    /// The index in its table of the first entry of the run.
    first: usize,
    ipa: Ipa,
    /// Up to the last leaf.
    gathered: Gathered,
    /// Leaves of the run.
    leaves: usize,
    /// Tables that were kept for them.
    kept: Retired,
    sink: F,
}

impl<E: Environment, F: FnMut(UnmappedRun<'_>)> Edit<E> for Unmap<F> {
    const SPLITS_BLOCKS: bool = true;

    #[inline]
    fn leaves(&mut self, table: &mut Locked<'_, E>, index: usize, _: Descriptor) -> Edited {
        let (level, ipa) = (table.level(), table.ipa(index));
        if self.gathered.is_empty() {
            (self.first, self.ipa, self.level) = (index, ipa, level);
        }
        // What lies between this leaf and the run so far was empty, or is by now.
        let at = index - self.first;
        let gap = at - self.gathered.len();
        self.gathered.extend(repeat_n(Descriptor::EMPTY, gap));
        let whole = (self.range.end().get() - ipa.get()) / level.size();
        let room = self.gathered.remaining_capacity().min(ENTRIES - index);
        let count = room.min(usize::try_from(whole).unwrap_or(room));
        let entries = &table.entries()[index..index + count];
        let leaves = match level {
            Level::L3 => remove_pages(entries, &mut self.gathered),
            level => remove_run(entries, level, &mut self.gathered),
        };
        let entries = self.gathered.len() - at;
        if level != Level::L3 {
            for (index, entry) in (index..).zip(&self.gathered[at..]) {
                if entry.has_deposit() {
                    table.give_up_kept(index, &mut self.kept);
                }
            }
        }
        let leaf = |entry: &Descriptor| *entry != Descriptor::EMPTY;
        let last = self.gathered.iter().rposition(leaf);
        self.gathered.truncate(last.map_or(0, |last| last + 1));
        table.meta().add_live(-(leaves as i32));
        if level != Level::L3 && table.is_empty() {
            table.give_up_deposit(&mut self.kept);
        }
        self.leaves += leaves;
        let behind = table.ipa(self.first + self.gathered.len());
        let stale = IpaRange::new(ipa, behind).map(|range| Stale {
            range,
            scope: Scope::Leaf(level),
        });
        Edited { entries, stale }
    }

    #[cold]
    fn trace(&self, stage2: &Stage2<E>, table: Pa) {
        let was_leaf = |(_, old): &(usize, &Descriptor)| **old != Descriptor::EMPTY;
        for (index, &old) in (self.first..).zip(&self.gathered).filter(was_leaf) {
            stage2.trace_written_now(entry_address(table, index), old, Descriptor::EMPTY);
        }
    }

    fn run_ends(&mut self, stage2: &Stage2<E>) {
        if self.gathered.is_empty() {
            return;
        }
        let run = UnmappedRun {
            ipa: self.ipa,
            level: self.level,
            entries: &self.gathered,
        };
        stage2.note_unmapped(&run, self.leaves);
        (self.sink)(run);
        stage2.reclaim(mem::replace(&mut self.kept, Retired::none()));
        self.gathered.clear();
        self.leaves = 0;
    }
}

impl<E: Environment> Stage2<E> {
    /// Unmaps `range` and hands each leaf that was there to `sink`, with no lock held; the part of
    /// `range` beyond the VM's addresses is ignored.
    ///
    /// Blocks that the range covers in part are split first, and if there is no frame for that,
    /// nothing is unmapped. (A block that another thread maps over an edge of the range during the
    /// call may have to be split as well; if that fails, what lies before it is unmapped and was
    /// handed out.)
    ///
    /// Tables that become empty stay: see [`free_empty_tables`](Self::free_empty_tables).
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn unmap(
        &self,
        range: IpaRange,
        mut sink: impl FnMut(Unmapped),
    ) -> Result<(), OutOfFrames> {
        self.unmap_runs(range, |run| run.into_leaves().for_each(&mut sink))
    }

    /// As [`unmap`](Self::unmap), and hands out together what was unmapped together, so that the
    /// frames can be freed together. The leaves come in the order of their addresses.
    ///
    /// May wait.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    // Always inline: what a single page was stays in registers then.
    #[inline(always)]
    pub fn unmap_runs(
        &self,
        range: IpaRange,
        mut sink: impl FnMut(UnmappedRun<'_>),
    ) -> Result<(), OutOfFrames> {
        if range.pages() > 1 {
            return self.unmap_many(range, sink);
        }
        match self.take_page_fast(range.start()) {
            Some(old) => {
                sink(UnmappedRun {
                    ipa: range.start(),
                    level: Level::L3,
                    entries: &[old],
                });
                Ok(())
            }
            None => self.unmap_many(range, sink),
        }
    }

    /// Takes away the page at `ipa`, if there is one, nothing is in the way and nobody watches.
    /// Most often that is so, and on its own it stays in registers.
    #[inline(always)]
    fn take_page_fast(&self, ipa: Ipa) -> Option<Descriptor> {
        const LEVEL: Level = Level::L3;
        let reader = self.change();
        let mut table = reader.lock_fast(ipa, LEVEL)?;
        if table.is_traced() {
            return None;
        }
        let entry = &table.entries()[ipa.index(LEVEL)];
        let seen = Descriptor::from_bits(entry.load(Ordering::Relaxed));
        let old = remove_leaf(entry, seen, LEVEL)?;
        table.meta().add_live(-1);
        let _ = self.flush(Stale {
            range: IpaRange::entry(ipa, LEVEL),
            scope: Scope::Leaf(LEVEL),
        });
        table.count(Counter::LeavesUnmapped);
        Some(old)
    }

    /// As [`unmap_runs`](Self::unmap_runs), whatever is there.
    #[inline(never)]
    fn unmap_many(
        &self,
        range: IpaRange,
        sink: impl FnMut(UnmappedRun<'_>),
    ) -> Result<(), OutOfFrames> {
        self.may_wait();
        let Some(range) = range.intersection(&self.geometry().range()) else {
            return Ok(());
        };
        self.split_end(range)?;
        self.edit_range(
            range,
            &mut Unmap {
                range,
                level: Level::L3,
                first: 0,
                ipa: range.start(),
                gathered: Gathered::new(),
                leaves: 0,
                kept: Retired::none(),
                sink,
            },
        )
    }

    /// Counts and tells what was unmapped.
    fn note_unmapped(&self, run: &UnmappedRun<'_>, leaves: usize) {
        self.count_many(Counter::LeavesUnmapped, leaves as u64);
        let (level, entries) = (run.level, run.entries.len() as u64);
        let end = run.ipa.offset(entries * level.size());
        if let Some(range) = IpaRange::new(run.ipa, end) {
            self.trace(Topic::Maps, move || Observation::Unmapped { range, level });
        }
    }
}
