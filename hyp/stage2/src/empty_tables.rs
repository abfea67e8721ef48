//! Taking empty tables out of the tree.
//!
//! A table is detached under the locks of its parent and its own, found empty under that same hold.
//! Between break and make its entry is busy, so that no new table is installed before walk caches
//! have forgotten the old one. Its frame is freed after a grace period.
//!
//! Lock order: parent, child. The parent's lock is held across the flush; one flush serves all
//! tables of the parent.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level};
use crate::descriptor::{Descriptor, EntryKind, Marker, Operation};
use crate::detached::{Retired, TableList};
use crate::env::{Cpus, Environment};
use crate::flush::Stale;
use crate::lookup::{Absent, Locked};
use crate::observer::{Observation, Topic};
use crate::query::overlapped;
use crate::stage2::{Stage2, next_entry};
use crate::stats::Counter;

impl<E: Environment> Stage2<E> {
    /// Frees the empty tables of `range`, as far as the range covers them whole, and returns how
    /// many.
    ///
    /// Waits for grace periods.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn free_empty_tables(&self, range: IpaRange) -> usize {
        self.may_wait();
        let Some(range) = range.intersection(&self.geometry().range()) else {
            return 0;
        };
        let mut freed = 0;
        // From below: a table whose last child was freed is empty itself.
        for level in [Level::L2, Level::L1, Level::L0] {
            if level < self.geometry().start() {
                continue;
            }
            let mut cursor = range.start();
            while cursor < range.end() {
                cursor = self.free_empty_below(cursor, range, level, &mut freed);
            }
        }
        freed
    }

    /// Prunes below the entries of one table of `level`; returns where to go on.
    fn free_empty_below(
        &self,
        cursor: Ipa,
        range: IpaRange,
        level: Level,
        freed: &mut usize,
    ) -> Ipa {
        let reader = self.change();
        let table = match reader.descend(cursor, level) {
            None => return range.end(),
            Some(Ok(table)) => table,
            Some(Err(stopped)) => match stopped.absent {
                // The operation that works there leaves no empty table behind, or will be asked
                // next time.
                Absent::Empty | Absent::Block(_) | Absent::Busy(_) | Absent::Contended => {
                    return next_entry(cursor, stopped.holder.level());
                }
                Absent::Bad(bad) => {
                    self.clear_bad(stopped, cursor, bad);
                    return cursor;
                }
            },
        };
        let behind = table.ipa(0).offset(level.size() * ENTRIES as u64);
        // `cursor` moves on by whole tables: in this one the range begins where it is.
        let has_empty = overlapped(table.ipa(0), level, range).any(|index| {
            let slot = table.slot(table.ipa(index));
            matches!(table.kind(index), EntryKind::Table(_))
                && slot.map_nolock().is_ok_and(|child| child.seems_empty())
        });
        if !has_empty {
            return behind;
        }
        let Ok(mut table) = table.lock() else {
            return cursor;
        };
        let mut retired = Retired::none();
        let count = self.detach_empty(&mut table, cursor, range, &mut retired);
        if table.is_empty() {
            table.give_up_deposit(&mut retired);
        }
        drop(table);
        drop(reader);
        *freed += count;
        self.reclaim(retired);
        behind
    }

    /// Takes the empty tables below `parent` out of the tree, and returns how many there were.
    fn detach_empty(
        &self,
        parent: &mut Locked<'_, E>,
        cursor: Ipa,
        range: IpaRange,
        retired: &mut Retired,
    ) -> usize {
        let level = parent.level();
        let marker = self.marker(Operation::FreeTable);
        let mut tables = TableList::new();
        let (mut stale, mut count) = (None, 0);
        for index in cursor.index(level)..ENTRIES {
            let ipa = parent.ipa(index);
            if range.covers(&IpaRange::entry(ipa, level))
                && let Some(change) = self.break_empty(parent, index, marker, &mut tables, retired)
            {
                stale = Some(change.after(stale));
                count += 1;
            }
        }
        let Some(stale) = stale else {
            return 0;
        };
        let flushed = self.flush(stale);
        for index in cursor.index(level)..ENTRIES {
            if parent.get(index) == marker.descriptor() {
                parent.make_entry(index, marker, Descriptor::EMPTY, &flushed);
            }
        }
        self.count_many(Counter::TablesDetached, count as u64);
        let env = self.env();
        retired.add(env.frames(), tables, env.cpus().grace().now(), &flushed);
        count
    }

    /// Puts the marker in the place of a child table, if that is empty and nobody's claim.
    fn break_empty(
        &self,
        parent: &mut Locked<'_, E>,
        index: usize,
        marker: Marker,
        tables: &mut TableList,
        retired: &mut Retired,
    ) -> Option<Stale> {
        let EntryKind::Table(_) = parent.kind(index) else {
            return None;
        };
        let mut child = parent.slot(parent.ipa(index)).lock().ok()?;
        if !child.is_empty() || child.meta().is_claimed() {
            return None;
        }
        let (_, stale) = parent.break_entry(index, marker);
        // An empty table has no deposit: this is for what fell over in memory.
        child.give_up_deposit(retired);
        tables.push(self.env().frames(), child.pa());
        let (ipa, level) = (child.ipa(0), child.level());
        self.trace(Topic::Frees, move || Observation::Detached { ipa, level });
        Some(stale)
    }
}
