//! Looking at what is mapped, locking nothing.

use crate::addr::{ENTRIES, Ipa, IpaRange, Level};
use crate::descriptor::{Descriptor, Kind};
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
    pub fn kind(&self) -> Kind {
        self.descriptor.kind(self.level)
    }
}

impl<E: Environment> Stage2<E> {
    /// The deepest entry for `ipa`; none if the address is beyond the VM's.
    ///
    /// It is true of one moment during the call: others may have changed it since.
    pub fn query(&self, ipa: Ipa) -> Option<Entry> {
        let reader = self.read();
        match reader.descend(ipa, Level::L3)? {
            Ok(table) => Some(entry_of(&table, ipa)),
            Err(stopped) => Some(entry_of(&stopped.holder, ipa)),
        }
    }

    /// Shows `visit` every entry of `range` that is not empty, tables before what they hold, each as
    /// it was when it was loaded; what is below a table follows from that one value.
    ///
    /// `visit` runs inside the read section: it must be short, and must not wait for anything.
    pub fn walk(&self, range: IpaRange, mut visit: impl FnMut(Entry)) {
        let Some(range) = range.intersection(&self.geometry().range()) else {
            return;
        };
        let mut cursor = range.start();
        while cursor < range.end() {
            // A section for each root table, so that grace periods don't wait for long walks.
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
    root.ipa(0).offset(root.level().size() * ENTRIES as u64)
}

fn walk_table<E: Environment>(table: &View<'_, E>, range: IpaRange, visit: &mut impl FnMut(Entry)) {
    let level = table.level();
    for index in 0..ENTRIES {
        let ipa = table.ipa(index);
        if !range.overlaps(&IpaRange::entry(ipa, level)) {
            continue;
        }
        let descriptor = table.get(index);
        if descriptor == Descriptor::EMPTY {
            continue;
        }
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
