//! Looking at what is mapped, locking nothing.

use core::ops::Range;

use crate::addr::{ENTRIES, Ipa, IpaRange, Level};
use crate::descriptor::{Descriptor, EntryKind};
use crate::env::Environment;
use crate::lookup::{Reader, View};
use crate::stage2::Stage2;

/// An entry, as it was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first guest address that it covers.
    pub ipa: Ipa,
    /// Its level, and so its size.
    pub level: Level,
    /// Its value.
    pub descriptor: Descriptor,
}

impl Entry {
    /// What the entry is.
    pub fn kind(&self) -> EntryKind {
        self.descriptor.kind(self.level)
    }
}

impl<E: Environment> Stage2<E> {
    /// The deepest entry for `ipa`; none if the address is beyond the VM's.
    ///
    /// It is true of one moment during the call: another thread may have changed it since.
    pub fn query(&self, ipa: Ipa) -> Option<Entry> {
        let reader = self.read();
        match reader.descend(ipa, Level::L3)? {
            Ok(table) => Some(entry_of(&table, ipa)),
            Err(stopped) => Some(entry_of(&stopped.holder, ipa)),
        }
    }

    /// Finds the first 2 MiB of `range` for which there is a level-3 table with at least `least`
    /// entries in use, as it was at some moment: a hint. Returns the address of the table's first
    /// entry.
    ///
    /// The tables themselves are not looked at, only what is kept of each: a few instructions for 2
    /// MiB.
    pub fn find_filled(&self, range: IpaRange, least: usize) -> Option<Ipa> {
        let range = range.intersection(&self.geometry().range())?;
        let mut cursor = range.start();
        while cursor < range.end() {
            // A section for each root table: see `walk`.
            let reader = self.read();
            let root = reader.root(cursor)?;
            let found = find_filled(&root, range, least);
            if found.is_some() {
                return found;
            }
            cursor = behind(&root);
        }
        None
    }

    /// Shows `visit` every entry of `range` that is not empty, tables before what they hold, each
    /// as it was when it was loaded; what is below a table follows from that one value.
    ///
    /// `visit` runs inside the read section: it must be short, and must not wait for anything. A
    /// thread that frees tables waits for the section, which lasts for all of the range that one
    /// root table covers: long ranges are cut up.
    pub fn walk(&self, range: IpaRange, mut visit: impl FnMut(Entry)) {
        let Some(range) = range.intersection(&self.geometry().range()) else {
            return;
        };
        let mut cursor = range.start();
        while cursor < range.end() {
            // A section for each root table. Grace periods wait for it: see above.
            let reader = self.read();
            cursor = walk_root(&reader, cursor, range, &mut visit);
        }
    }
}

fn entry_of<E: Environment>(table: &View<'_, E>, ipa: Ipa) -> Entry {
    let level = table.level();
    Entry {
        ipa: ipa.align_down(level),
        level,
        descriptor: table.slot(ipa).load(),
    }
}

fn find_filled<E: Environment>(table: &View<'_, E>, range: IpaRange, least: usize) -> Option<Ipa> {
    let level = table.level();
    overlapped(table.ipa(0), level, range).find_map(|index| {
        let descriptor = table.get(index);
        if !matches!(descriptor.kind(level), EntryKind::Table(_)) {
            return None;
        }
        let child = table.slot(table.ipa(index)).resolve(descriptor).ok()?;
        match child.level() {
            Level::L3 => (child.entries_in_use() >= least).then(|| child.ipa(0)),
            _ => find_filled(&child, range, least),
        }
    })
}

/// The first address behind what a root table covers.
fn behind<E: Environment>(root: &View<'_, E>) -> Ipa {
    root.ipa(0).offset(root.level().size() * ENTRIES as u64)
}

fn walk_root<E: Environment>(
    reader: &Reader<'_, E>,
    cursor: Ipa,
    range: IpaRange,
    visit: &mut impl FnMut(Entry),
) -> Ipa {
    let Some(root) = reader.root(cursor) else {
        return range.end();
    };
    walk_table(&root, range, visit);
    behind(&root)
}

fn walk_table<E: Environment>(table: &View<'_, E>, range: IpaRange, visit: &mut impl FnMut(Entry)) {
    let level = table.level();
    for index in overlapped(table.ipa(0), level, range) {
        let descriptor = table.get(index);
        if descriptor == Descriptor::EMPTY {
            continue;
        }
        let ipa = table.ipa(index);
        visit(Entry {
            ipa,
            level,
            descriptor,
        });
        if let Ok(child) = table.slot(ipa).resolve(descriptor) {
            walk_table(&child, range, visit);
        }
    }
}

/// The entries that `range` overlaps of a table of this level whose first one is for `base`.
pub(crate) fn overlapped(base: Ipa, level: Level, range: IpaRange) -> Range<usize> {
    let bytes = |address: Ipa| address.get().saturating_sub(base.get());
    let first = bytes(range.start()) / level.size();
    let end = bytes(range.end()).div_ceil(level.size());
    (first as usize).min(ENTRIES)..(end as usize).min(ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_looks_at_no_entry_outside_its_range() {
        let base = 0x4000_0000;
        let block = Level::L2.size();
        for (start, end, expected) in [
            (0, u64::MAX >> 16, 0..512),
            (base + block, base + 2 * block, 1..2),
            (base + block + 0x1000, base + block + 0x2000, 1..2),
            (base + block - 0x1000, base + block + 0x1000, 0..2),
            (base + 511 * block, base + 600 * block, 511..512),
            (0, base, 0..0),
            (base + 512 * block, base + 600 * block, 512..512),
        ] {
            let range = IpaRange::new(Ipa::new(start & !0xfff), Ipa::new(end & !0xfff));
            let found = overlapped(Ipa::new(base), Level::L2, range.expect("a range"));
            assert_eq!(found, expected, "{start:#x} to {end:#x}");
        }
    }
}
