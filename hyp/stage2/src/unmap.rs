//! Unmapping a range.
//!
//! A leaf's frame is handed out only after the invalidation that covered its mapping has completed:
//! the leaves of a run are gathered under the table's lock, flushed under it, and delivered after it.

use crate::addr::{Ipa, IpaRange, Level};
use crate::descriptor::Descriptor;
use crate::env::{Environment, OutOfFrames};
use crate::flush::Stale;
use crate::lookup::Locked;
use crate::observe::{Observation, Topic};
use crate::range::Edit;
use crate::stage2::Stage2;
use crate::stats::Counter;

/// Leaves taken under one hold of a table's lock: bounds the time that a fault on another page of
/// the region waits, and the gatherer's room on the stack.
const RUN: usize = 64;

/// A leaf that was unmapped, and of which no translation is left anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmapped {
    /// The first guest address that it mapped.
    pub ipa: Ipa,
    /// Its level, and so its size.
    pub level: Level,
    /// What it was, with all marks of use.
    pub descriptor: Descriptor,
}

struct Unmap<F> {
    level: Level,
    gathered: [(Ipa, Descriptor); RUN],
    count: usize,
    sink: F,
}

impl<E: Environment, F: FnMut(Unmapped)> Edit<E> for Unmap<F> {
    const SPLITS_BLOCKS: bool = true;

    #[inline]
    fn leaf(&mut self, table: &mut Locked<'_, E>, index: usize, _: Descriptor) -> Option<Stale> {
        // The value of the exchange: the hardware may have marked the entry since it was loaded.
        let (old, stale) = table.remove(index);
        self.level = table.level();
        self.gathered[self.count] = (table.ipa(index), old);
        self.count += 1;
        Some(stale)
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.count < RUN
    }

    fn run_ends(&mut self, stage2: &Stage2<E>) {
        stage2.count_many(Counter::LeavesUnmapped, self.count as u64);
        let (level, run) = (self.level, &self.gathered[..self.count]);
        if let [(first, _), ..] = run
            && let [.., (last, _)] = run
            && let Some(range) = IpaRange::new(*first, last.offset(level.size()))
        {
            stage2.tell(Topic::Maps, move || Observation::Unmapped { range, level });
        }
        for &(ipa, descriptor) in run {
            if descriptor.has_deposit() {
                stage2.forget_deposit();
            }
            (self.sink)(Unmapped {
                ipa,
                level: self.level,
                descriptor,
            });
        }
        self.count = 0;
    }
}

impl<E: Environment> Stage2<E> {
    /// Unmaps `range` and hands each leaf that was there to `sink`, with no lock held; the part of
    /// `range` beyond the VM's addresses is ignored.
    ///
    /// Blocks that the range covers in part are split first, and if there is no frame for that,
    /// nothing is unmapped. (A block that somebody maps over an edge of the range during the call may
    /// have to be split as well; if that fails, what lies before it is unmapped and was handed out.)
    ///
    /// Tables that become empty stay: see [`free_empty_tables`](Self::free_empty_tables).
    pub fn unmap(&self, range: IpaRange, sink: impl FnMut(Unmapped)) -> Result<(), OutOfFrames> {
        let Some(range) = range.intersection(&self.geometry().range()) else {
            return Ok(());
        };
        self.split_edges(range)?;
        let gathered = [(Ipa::new(0), Descriptor::EMPTY); RUN];
        self.edit_range(
            range,
            &mut Unmap {
                level: Level::L3,
                gathered,
                count: 0,
                sink,
            },
        )
    }

    /// A block with a table in the deposit is gone: the table is not needed any more.
    pub(crate) fn forget_deposit(&self) {
        if let Some(pa) = self.deposit.forget(self.env().frames()) {
            self.free_table(pa);
        }
    }
}
