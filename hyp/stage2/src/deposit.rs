//! Tables kept for the day on which a block must be split.
//!
//! A collapse keeps the table that it emptied with the table that holds the new block, and marks
//! the block; the split of a marked block takes that very table back, so it never fails for want of
//! memory. If the block is still what a collapse in place has made, the table's entries are its
//! parts already.
//!
//! Invariants:
//! - The deposit of a table is a page with a slot for each of its entries. `next` in the metadata
//!   of a table in the tree names that page, which is there from the first collapse on until the
//!   table is empty.
//! - A slot names a table if and only if its entry is a marked block. Both change under the lock of
//!   the table that has them. (Bits that fell over in memory may bring a mark that nothing was kept
//!   for, or leave a table that nobody asks for: the one is split like any block, the other is
//!   freed with the deposit.)
//! - A kept table is detached and flushed, and still a table: a reader that found it before may
//!   look at it, and it is nobody else's until a grace period has passed since, and the collapse
//!   that emptied it has released its claim.

use crate::addr::{ENTRIES, Pa};
use crate::detached::{Retired, Spare, memory};
use crate::env::{Cpus, Environment, Frames};
use crate::flush::Flushed;
use crate::grace::Moment;
use crate::lookup::Locked;
use crate::meta::TableMeta;
use crate::stage2::Stage2;
use crate::sync::Ordering;

/// In a slot: a table is kept.
const KEPT: u64 = 1 << 0;
/// In a slot: the table's entries were the parts of the block when it was made.
const HAS_PARTS: u64 = 1 << 1;
const FLAGS: u64 = KEPT | HAS_PARTS;

/// A table from the deposit.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) pa: Pa,
    /// Whether its entries were the parts of the block when that was made.
    pub(crate) has_parts: bool,
}

impl Kept {
    fn from_bits(bits: u64) -> Option<Self> {
        (bits & KEPT != 0).then_some(Self {
            pa: Pa::new(bits & !FLAGS),
            has_parts: bits & HAS_PARTS != 0,
        })
    }

    fn bits(self) -> u64 {
        let parts = if self.has_parts { HAS_PARTS } else { 0 };
        self.pa.get() | parts | KEPT
    }
}

/// Why a table in the deposit cannot be had yet.
pub(crate) enum InUse {
    /// The collapse that emptied it has not finished with it.
    Claimed,
    /// A reader that found it before it was detached, at this moment, may still look at it.
    Seen(Moment),
}

impl<E: Environment> Stage2<E> {
    /// Takes all out of the deposit of the table that has this metadata, and ends the deposit. The
    /// table's lock is held, or no other thread can reach it.
    pub(crate) fn give_up_deposit(&self, holder: &TableMeta, retired: &mut Retired) {
        let Some(page) = holder.next() else {
            return;
        };
        holder.set_next(None);
        for slot in 0..ENTRIES {
            let bits = memory(self, page).entries[slot].load(Ordering::Relaxed);
            if let Some(kept) = Kept::from_bits(bits) {
                retired.push_kept(self.env().frames(), kept.pa);
            }
        }
        retired.push_page(self.env().frames(), page);
    }
}

impl<E: Environment> Locked<'_, E> {
    /// Sees to it that the table has a deposit, made of the frame of empty entries in `page` if it
    /// has none yet; says whether it has.
    pub(crate) fn open_deposit(&mut self, page: &mut Spare<'_, E>) -> bool {
        if self.meta().next().is_none() {
            self.meta().set_next(page.take());
        }
        self.meta().next().is_some()
    }

    /// Keeps the table at `kept`, which the marked block of this index has replaced. The deposit is
    /// open.
    pub(crate) fn keep(&mut self, index: usize, kept: Kept, _proof: &Flushed) {
        let env = self.stage2().env();
        if let Some(meta) = env.frames().table_meta(kept.pa) {
            meta.set_detached(env.cpus().grace().now());
        }
        self.set_slot(index, kept.bits());
    }

    /// Takes the table that was kept for the marked block of this index, if there is one.
    pub(crate) fn take_kept(&mut self, index: usize) -> Option<Result<Kept, InUse>> {
        let stage2 = self.stage2();
        let kept = self.kept(index)?;
        let meta = stage2.env().frames().table_meta(kept.pa)?;
        if meta.is_claimed() {
            return Some(Err(InUse::Claimed));
        }
        let detached = meta.detached();
        if !stage2
            .env()
            .cpus()
            .grace()
            .is_known_to_have_passed(detached)
        {
            return Some(Err(InUse::Seen(detached)));
        }
        self.set_slot(index, 0);
        stage2.end_table(kept.pa);
        Some(Ok(kept))
    }

    /// Takes out what was kept for the marked block of this index, which is gone.
    pub(crate) fn give_up_kept(&mut self, index: usize, retired: &mut Retired) {
        if let Some(kept) = self.kept(index) {
            self.set_slot(index, 0);
            retired.push_kept(self.stage2().env().frames(), kept.pa);
        }
    }

    /// Takes out all that was kept, and ends the deposit.
    pub(crate) fn give_up_deposit(&mut self, retired: &mut Retired) {
        self.stage2().give_up_deposit(self.meta(), retired);
    }

    fn kept(&self, index: usize) -> Option<Kept> {
        let page = self.meta().next()?;
        // Relaxed: the table's lock orders all that is done to its deposit.
        Kept::from_bits(memory(self.stage2(), page).entries[index].load(Ordering::Relaxed))
    }

    fn set_slot(&mut self, index: usize, bits: u64) {
        if let Some(page) = self.meta().next() {
            memory(self.stage2(), page).entries[index].store(bits, Ordering::Relaxed);
        }
    }
}
