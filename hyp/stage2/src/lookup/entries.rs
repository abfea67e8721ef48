//! Changing the entries of a locked table.
//!
//! Each by one atomic store or exchange; none loses a mark that the hardware sets meanwhile. A
//! checker is told of every write, with a number from before it where the entry was not valid, and
//! from after it where it was.

use core::ops::Range;

use super::Locked;
use crate::addr::{ENTRIES, IpaRange, Level};
use crate::descriptor::{Descriptor, EntryKind, Marker};
use crate::env::{Environment, Scope};
use crate::flush::Stale;
use crate::guard::entry_address;
use crate::meta::TableMeta;
use crate::stats::Counter;
use crate::sync::{Entry, Ordering};

impl<E: Environment> Locked<'_, E> {
    /// Fills an empty entry. What a table descriptor names is complete.
    #[inline]
    pub(crate) fn fill(&mut self, index: usize, new: Descriptor) {
        let order = self.guard.order();
        self.fill_untraced(index, new);
        self.trace(order, index, Descriptor::EMPTY, new);
    }

    /// As [`fill`](Self::fill), for a caller that tells the observer itself.
    #[inline(always)]
    pub(crate) fn fill_untraced(&mut self, index: usize, new: Descriptor) {
        debug_assert_eq!(self.get(index), Descriptor::EMPTY);
        // Release: a walk that sees the entry sees the table behind it.
        self.view.table.entries[index].store(new.bits(), Ordering::Release);
        self.meta.add_live(1);
    }

    /// Fills the entries of these indices, in order, with what `value` gives for each, up to the
    /// first that is not empty or has no value; says how many. Nobody watches.
    #[inline]
    pub(crate) fn fill_run(
        &mut self,
        indices: Range<usize>,
        mut value: impl FnMut(usize) -> Option<Descriptor>,
    ) -> usize {
        debug_assert!(!self.guard.is_traced());
        let mut filled = Filled(self.meta, 0);
        let first = indices.start;
        for entry in &self.view.table.entries[indices] {
            if entry.load(Ordering::Relaxed) != Descriptor::EMPTY.bits() {
                break;
            }
            let Some(new) = value(first + filled.1) else {
                break;
            };
            // Release, as in `fill`.
            entry.store(new.bits(), Ordering::Release);
            filled.1 += 1;
        }
        filled.1
    }

    /// The entries, for a run of changes; each by an atomic operation that loses no mark of the
    /// hardware's, with the count of entries in use kept right, and traced.
    #[inline]
    pub(crate) fn entries(&mut self) -> &[Entry; ENTRIES] {
        &self.view.table.entries
    }

    /// Empties an entry that can't be. Nobody counted it when it came, so all are counted again.
    pub(crate) fn clear_bad(&mut self, index: usize) -> Stale {
        let old = self.take_away(index, Descriptor::EMPTY);
        let used = |index: &usize| self.get(*index) != Descriptor::EMPTY;
        let live = (0..ENTRIES).filter(used).count();
        self.meta.set_live(live as u16);
        self.inside.count(Counter::BadCleared);
        self.stale(index, old)
    }

    /// Break: puts a marker in the place of a valid entry, and returns what the entry was at that
    /// moment.
    // Always inline, with all else that a split does: the table need not be in memory for it.
    #[inline(always)]
    pub(crate) fn break_entry(&mut self, index: usize, marker: Marker) -> (Descriptor, Stale) {
        let old = self.take_away(index, marker.descriptor());
        (old, self.stale(index, old))
    }

    /// Make: ends the work of `marker`, which this caller put there, with what follows it.
    /// The proof says that no translation of the old entry is left.
    #[inline(always)]
    pub(crate) fn make_entry(
        &mut self,
        index: usize,
        marker: Marker,
        new: Descriptor,
        _proof: &crate::flush::Flushed,
    ) {
        // The entry is invalid up to this moment: a thread that acts on the new one comes later.
        let order = self.guard.order();
        let old = marker.descriptor();
        debug_assert_eq!(self.get(index), old, "only its owner ends a marker");
        // The hardware marks nothing that is invalid, so there is nothing to lose.
        self.view.table.entries[index].store(new.bits(), Ordering::Release);
        self.trace(order, index, old, new);
        if new == Descriptor::EMPTY {
            self.meta.add_live(-1);
        }
    }

    /// Replaces a valid entry by one of the same output address and use: no break is needed
    /// for a change of rights, or between block and table with FEAT_BBM level 2.
    #[inline(always)]
    pub(crate) fn replace(&mut self, index: usize, new: Descriptor) -> (Descriptor, Stale) {
        let old = self.take_away(index, new);
        (old, self.stale(index, old))
    }

    /// Changes rights and marks of a leaf, losing none that the hardware sets meanwhile.
    #[inline]
    pub(crate) fn update(
        &mut self,
        index: usize,
        change: impl FnMut(Descriptor) -> Descriptor,
    ) -> (Descriptor, Stale) {
        let (old, _) = self.revise(index, change);
        (old, self.stale(index, old))
    }

    /// Makes the stores to the leaves of these indices trap, and marks them as copied by a
    /// collapse; shows each to `seen` as it was. Returns what must be flushed, if stores went
    /// through to any.
    #[inline]
    pub(crate) fn mark_copied(
        &mut self,
        indices: Range<usize>,
        mut seen: impl FnMut(usize, Descriptor),
    ) -> Option<Stale> {
        let level = self.level();
        let range = IpaRange::new(self.ipa(indices.start), self.ipa(indices.end))?;
        let mut open = false;
        for index in indices {
            if let EntryKind::Leaf(_) = self.kind(index) {
                let (old, _) = self.revise(index, Descriptor::as_copied);
                open |= old.lets_stores_through();
                seen(index, old);
            }
        }
        // What is closed was flushed when it was closed, under the lock.
        open.then_some(Stale {
            range,
            scope: Scope::Leaf(level),
        })
    }

    /// Changes an entry, losing nothing that is added meanwhile; returns what it was and what it is
    /// now.
    #[inline]
    fn revise(
        &mut self,
        index: usize,
        mut change: impl FnMut(Descriptor) -> Descriptor,
    ) -> (Descriptor, Descriptor) {
        let entry = &self.view.table.entries[index];
        let mut bits = entry.load(Ordering::Relaxed);
        loop {
            let old = Descriptor::from_bits(bits);
            let new = change(old);
            if new == old {
                return (old, new);
            }
            let exchange =
                entry.compare_exchange_weak(bits, new.bits(), Ordering::AcqRel, Ordering::Relaxed);
            match exchange {
                Ok(_) => {
                    self.trace_now(index, old, new);
                    return (old, new);
                }
                Err(seen) => bits = seen,
            }
        }
    }

    /// Puts `new` in the place of what was valid, and returns that.
    #[inline(always)]
    fn take_away(&mut self, index: usize, new: Descriptor) -> Descriptor {
        let old = replace(&self.view.table.entries[index], self.level(), new);
        self.trace_now(index, old, new);
        old
    }

    /// Traces an entry that was written just now, if the table is traced.
    // By value, so that the table need not be in memory for it.
    #[inline(always)]
    fn trace_now(&self, index: usize, old: Descriptor, new: Descriptor) {
        if self.guard.is_traced() {
            let stage2 = self.view.inside.stage2;
            stage2.trace_written_now(entry_address(self.view.pa, index), old, new);
        }
    }

    /// Traces an entry whose writing has this number, if the table is traced.
    #[inline(always)]
    fn trace(&self, order: u64, index: usize, old: Descriptor, new: Descriptor) {
        if self.guard.is_traced() {
            let stage2 = self.view.inside.stage2;
            stage2.trace_written(order, entry_address(self.view.pa, index), old, new, true);
        }
    }

    #[inline(always)]
    fn stale(&self, index: usize, old: Descriptor) -> Stale {
        Stale::of(
            IpaRange::entry(self.ipa(index), self.level()),
            self.level(),
            old,
        )
    }
}

/// Puts `new` in the place of what an entry of `level` holds, whose lock is held, and returns that
/// with all marks that the hardware has set.
#[inline(always)]
pub(crate) fn replace(entry: &Entry, level: Level, new: Descriptor) -> Descriptor {
    // The lock orders this after what other CPUs have stored here; the hardware only adds marks.
    let seen = Descriptor::from_bits(entry.load(Ordering::Relaxed));
    if seen.may_be_marked(level) {
        return Descriptor::from_bits(entry.swap(new.bits(), Ordering::AcqRel));
    }
    // Nobody changes it at this moment, so it takes no exchange, which costs as much as a lock.
    entry.store(new.bits(), Ordering::Release);
    seen
}

/// Entries filled in a locked table; they are counted when this is dropped, so also where the one
/// who gives their values panics.
struct Filled<'r>(&'r TableMeta, usize);

impl Drop for Filled<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.add_live(self.1 as i32);
    }
}
