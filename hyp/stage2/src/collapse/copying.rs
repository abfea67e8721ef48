//! Collapsing by copying to a new block, while the guest runs.
//!
//! In this order:
//! 1. The table is *claimed*: from here on it stays in its place, and nobody else collapses it.
//! 2. All stores to the region are made to trap, and what TLBs hold is flushed, a part of the
//!    entries under each hold of the lock. A page that is stored to from now on shows it in its
//!    entry.
//! 3. The pages are copied, with no lock held. Those that changed meanwhile are made to trap and
//!    copied again, [`CopyPlan::rounds`] times at most, until they are few.
//! 4. The table is taken away, leaving a marker, and flushed: nothing can change it or the pages
//!    any more.
//! 5. What was written or mapped since 2 is copied again, what was unmapped is zeroed. If that is
//!    too much, the entries are no parts of one block any more, or a page cannot be read, the table
//!    is put back, and nothing has happened.
//! 6. The block takes the marker's place.
//!
//! Guests are held up by 2, if they fault, for as long as the lock is held at a time, and by 4 to
//! 6: for the flush, a few instructions an entry, and the copies of at most [`CopyPlan::max_hot`]
//! pages.

use super::pages::PageSet;
use super::survey::{Copies, Rest, is_hot, survey};
use super::{CollapseError, CopyPlan, holder, table_of};
use crate::addr::{ENTRIES, Ipa, Level, Pa};
use crate::copy::{CopyPages, Unreadable};
use crate::deposit::Kept;
use crate::descriptor::{Descriptor, EntryKind, Marker, MemoryType, Operation};
use crate::detached::{Retired, Spare, memory};
use crate::env::{Cpus, Environment, Frames};
use crate::flush::Flushed;
use crate::frame::{GuestFrame, GuestPage};
use crate::guard::TableGuard;
use crate::lookup::Absent;
use crate::observer::{CollapseStep, Observer};
use crate::stage2::{Stage2, next_entry};
use crate::stats::Counter;
use crate::sync::Ordering;
use crate::unmap::Unmapped;

/// Pages copied in one step, after which other threads of the CPU get their turn.
const STEP: usize = 16;

/// Entries whose stores are made to trap under one hold of the lock, at most: few enough that this
/// takes no longer than what is done to all of them at the end, and no fewer, since each time TLBs
/// are flushed.
const TRAPPED_AT_ONCE: usize = 64;

/// A table that stays in its place, and is nobody else's to collapse, until this is dropped.
struct Claim<'s, E: Environment> {
    stage2: &'s Stage2<E>,
    table: Pa,
    /// The first guest address of the block that its pages become.
    ipa: Ipa,
}

impl<E: Environment> Stage2<E> {
    pub(super) fn copy_and_exchange(
        &self,
        ipa: Ipa,
        to: &GuestFrame,
        plan: CopyPlan,
        contents: &mut impl CopyPages,
    ) -> Result<Retired, CollapseError> {
        let claim = self.claim_for_copy(ipa, plan)?;
        let mut page = self.page_for_deposit(&claim)?;
        let (like, zeroed) = self.copy_ahead(&claim, to, plan, contents)?;
        let copies = Copies::new(like, &zeroed);
        self.trace_collapse(ipa, Level::L2, CollapseStep::Copied);
        let begin = self.env().observer().clock();
        let (marker, flushed) = self.break_claimed(&claim, plan)?;
        // From here on the region is ours alone: the guest faults on the marker, every other
        // operation waits for it, and no translation is left through which a store could come.
        let rest = copies.rest(&memory(self, claim.table), plan.max_hot);
        let block = rest.and_then(|rest| {
            self.copy_rest(&claim, &rest, to, contents)?;
            Ok(copies.block(self.format(), rest.marks, to.pa()))
        });
        let new = block.unwrap_or(Descriptor::table(claim.table));
        self.make_claimed(&claim, marker, new, &mut page, &flushed);
        contents.held_up(self.env().observer().clock().wrapping_sub(begin));
        block?;
        // As long as it is claimed, the table is kept as it is.
        self.release_old(&claim, contents);
        Ok(Retired::none())
    }

    /// Claims the table of `ipa`, if it looks as if it could be collapsed.
    fn claim_for_copy(&self, ipa: Ipa, plan: CopyPlan) -> Result<Claim<'_, E>, CollapseError> {
        let reader = self.change();
        let table = table_of(&reader, ipa, Level::L2)?;
        survey(&table, plan.max_empty)?;
        let table = table
            .lock()
            .map_err(|_| CollapseError::NoTable(Absent::Contended))?;
        if !table.meta().claim() {
            return Err(CollapseError::Claimed);
        }
        Ok(Claim {
            stage2: self,
            table: table.pa(),
            ipa,
        })
    }

    /// The frame for the deposit of the table that holds the claimed one, if it has none.
    fn page_for_deposit(&self, claim: &Claim<'_, E>) -> Result<Spare<'_, E>, CollapseError> {
        let mut page = Spare::none(self);
        let reader = self.change();
        let has_deposit = holder(&reader, claim.ipa, Level::L2)?.has_deposit();
        drop(reader);
        if !has_deposit {
            page.fill()?;
        }
        Ok(page)
    }

    /// Copies all pages while the guest runs, and then those that it changed meanwhile, until they
    /// are few. Returns a page that stands for all, and which were empty and have been zeroed.
    fn copy_ahead(
        &self,
        claim: &Claim<'_, E>,
        to: &GuestFrame,
        plan: CopyPlan,
        contents: &mut impl CopyPages,
    ) -> Result<(Descriptor, PageSet), CollapseError> {
        let mut zeroed = PageSet::default();
        // Whatever looks as if it had been copied was copied by a collapse that failed.
        self.trap_stores_to(claim, contents)?;
        self.copy_pages(claim, 0..ENTRIES, to, &mut zeroed, contents)?;
        for round in 0.. {
            let (like, changed) = self.survey_copies(claim, plan, &zeroed)?;
            if changed.len() <= plan.max_hot {
                return Ok((like, zeroed));
            }
            if round == plan.rounds {
                break;
            }
            // What is made to trap now counts as copied from now on, so all of it is copied.
            let mut pages = self.trap_stores_to(claim, contents)?;
            pages.insert_all(&changed);
            self.copy_pages(claim, pages.iter(), to, &mut zeroed, contents)?;
        }
        Err(CollapseError::Hot)
    }

    /// Makes all stores to the pages of the table trap, from when this returns. Returns the pages
    /// that must be copied: those that were written, or mapped, since they were last made to trap.
    fn trap_stores_to(
        &self,
        claim: &Claim<'_, E>,
        contents: &mut impl CopyPages,
    ) -> Result<PageSet, CollapseError> {
        let mut hot = PageSet::default();
        for first in (0..ENTRIES).step_by(TRAPPED_AT_ONCE) {
            let begin = self.env().observer().clock();
            self.trap_some_stores(claim, first, &mut hot)?;
            contents.held_up(self.env().observer().clock().wrapping_sub(begin));
            self.env().cpus().cond_resched();
        }
        Ok(hot)
    }

    fn trap_some_stores(
        &self,
        claim: &Claim<'_, E>,
        first: usize,
        hot: &mut PageSet,
    ) -> Result<(), CollapseError> {
        let reader = self.change();
        let mut table = table_of(&reader, claim.ipa, Level::L2)?
            .lock()
            .map_err(|_| CollapseError::NoTable(Absent::Contended))?;
        debug_assert_eq!(table.pa(), claim.table, "a claimed table stays");
        let indices = first..ENTRIES.min(first + TRAPPED_AT_ONCE);
        let note = |index, old| {
            if is_hot(old) {
                hot.insert(index);
            }
        };
        if let Some(stale) = table.mark_copied(indices, note) {
            // Under the lock: another thread relies on what it finds closed.
            let _ = self.flush(stale);
        }
        Ok(())
    }

    /// Copies pages, with no lock held. Those that were empty are zeroed, which is noted; a page
    /// that is unmapped or written meanwhile will be found not to be as it was.
    fn copy_pages(
        &self,
        claim: &Claim<'_, E>,
        pages: impl Iterator<Item = usize>,
        to: &GuestFrame,
        zeroed: &mut PageSet,
        contents: &mut impl CopyPages,
    ) -> Result<(), CollapseError> {
        for (number, index) in pages.enumerate() {
            if number > 0 && number.is_multiple_of(STEP) {
                self.env().cpus().cond_resched();
            }
            if self.copy_page(claim, index, to, contents)?.is_some() {
                zeroed.remove(index);
            } else {
                zeroed.insert(index);
            }
        }
        self.env().cpus().cond_resched();
        Ok(())
    }

    /// Copies a page to its place in the block at `to`, from where it is mapped. What is not mapped
    /// is zeroed.
    fn copy_page(
        &self,
        claim: &Claim<'_, E>,
        index: usize,
        to: &GuestFrame,
        contents: &mut impl CopyPages,
    ) -> Result<Option<Pa>, CollapseError> {
        let page = GuestPage::at(to.pa().offset(index as u64 * Level::L3.size()));
        let entry = memory(self, claim.table).entries[index].load(Ordering::Acquire);
        let entry = Descriptor::from_bits(entry);
        match entry.kind(Level::L3) {
            // A device may have come there since, and would mind. The end of the collapse finds it.
            EntryKind::Leaf(from) if entry.memory() == MemoryType::Normal => {
                let copied = contents.copy(GuestPage::at(from), page);
                copied.map_err(|Unreadable| CollapseError::Unreadable)?;
                Ok(Some(from))
            }
            _ => {
                contents.zero(page);
                Ok(None)
            }
        }
    }

    /// Looks whether the claimed table could still be collapsed, and what would have to be copied
    /// then, or zeroed. Returns a page that stands for all.
    fn survey_copies(
        &self,
        claim: &Claim<'_, E>,
        plan: CopyPlan,
        zeroed: &PageSet,
    ) -> Result<(Descriptor, PageSet), CollapseError> {
        let reader = self.change();
        let table = table_of(&reader, claim.ipa, Level::L2)?;
        let like = survey(&table, plan.max_empty)?;
        let rest = Copies::new(like, zeroed).rest(table.table(), ENTRIES)?;
        Ok((like, rest.pages))
    }

    /// Takes the claimed table out of the tree, leaving a marker, if it is full enough.
    fn break_claimed(
        &self,
        claim: &Claim<'_, E>,
        plan: CopyPlan,
    ) -> Result<(Marker, Flushed), CollapseError> {
        let reader = self.change();
        let mut parent = reader
            .lock_fast(claim.ipa, Level::L2)
            .ok_or(CollapseError::NoTable(Absent::Contended))?;
        let child = parent
            .slot(claim.ipa)
            .lock()
            .map_err(CollapseError::NoTable)?;
        debug_assert_eq!(child.pa(), claim.table, "a claimed table stays");
        if child.is_empty() || ENTRIES - child.live() > plan.max_empty {
            return Err(CollapseError::TooEmpty);
        }
        let marker = self.marker(Operation::Collapse);
        let (_, stale) = parent.break_entry(claim.ipa.index(Level::L2), marker);
        drop(child);
        drop(parent);
        Ok((marker, self.flush(stale)))
    }

    /// Copies what the first copy has not got, and makes all of the block visible.
    fn copy_rest(
        &self,
        claim: &Claim<'_, E>,
        rest: &Rest,
        to: &GuestFrame,
        contents: &mut impl CopyPages,
    ) -> Result<(), CollapseError> {
        for index in rest.pages.iter() {
            if self.copy_page(claim, index, to, contents)?.is_some() {
                self.count(Counter::PagesRecopied);
            }
        }
        contents.complete();
        Ok(())
    }

    /// Ends the marker of a claimed region.
    fn make_claimed(
        &self,
        claim: &Claim<'_, E>,
        marker: Marker,
        new: Descriptor,
        page: &mut Spare<'_, E>,
        flushed: &Flushed,
    ) {
        // The marker keeps the holder in its place, so it is found at once, or, when other changes
        // crowd the way, after a while.
        loop {
            let reader = self.change();
            if let Some(mut parent) = reader.lock_fast(claim.ipa, Level::L2) {
                parent.make_entry(claim.ipa.index(Level::L2), marker, new, flushed);
                self.publish();
                if new.has_deposit() {
                    let opened = parent.open_deposit(page);
                    debug_assert!(
                        opened,
                        "a claimed table keeps its holder, and that its deposit"
                    );
                    let kept = Kept {
                        pa: claim.table,
                        has_parts: false,
                    };
                    self.keep(&mut parent, kept, claim.ipa, flushed);
                }
                return;
            }
            drop(reader);
            self.env().cpus().yield_now();
        }
    }

    fn release_old(&self, claim: &Claim<'_, E>, contents: &mut impl CopyPages) {
        let mut ipa = claim.ipa;
        for entries in memory(self, claim.table).entries.chunks(STEP) {
            for entry in entries {
                let old = Descriptor::from_bits(entry.load(Ordering::Relaxed));
                if let EntryKind::Leaf(_) = old.kind(Level::L3) {
                    contents.release(Unmapped::new(ipa, Level::L3, old));
                }
                ipa = next_entry(ipa, Level::L3);
            }
            self.env().cpus().cond_resched();
        }
    }
}

impl<E: Environment> Drop for Claim<'_, E> {
    fn drop(&mut self) {
        // The claim keeps the table where it is or, once detached, from being used for something
        // else before this.
        if let Some(meta) = self.stage2.env().frames().table_meta(self.table) {
            let _held = TableGuard::lock(self.stage2, meta, self.table, self.ipa, Level::L3);
            meta.release_claim();
        }
    }
}
