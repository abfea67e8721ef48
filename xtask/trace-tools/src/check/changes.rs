//! What became of entries: each change once, however many markers stood between.
//!
//! They say which parts of the protocol a recording has seen at work: rules of the other parts were
//! not tried.

use std::collections::{BTreeMap, HashMap};

use super::tables::{Kind, kind, leaf};

/// How many changes there were, by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// What an entry was or is, if it is no marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Nothing,
    /// A leaf with this output address.
    Leaf(u64),
    Table(u64),
}

/// What has changed, and what is being changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// What the entries that hold markers were before.
    under_way: HashMap<u64, Thing>,
    pub(super) counts: Counts,
}

impl Changes {
    /// An entry of the tree, of this level, has changed.
    pub(super) fn add(&mut self, entry: u64, level: u8, old: u64, new: u64) {
        let before = self.under_way.remove(&entry);
        let before = before.or(thing(old, level)).unwrap_or(Thing::Nothing);
        match thing(new, level) {
            None => drop(self.under_way.insert(entry, before)),
            Some(now) => *self.counts.entry(name(before, now)).or_default() += 1,
        }
    }
}

/// What the value of an entry is; `None` if it is a marker.
fn thing(bits: u64, level: u8) -> Option<Thing> {
    match kind(bits, level) {
        Kind::Leaf => Some(Thing::Leaf(leaf(bits, level, 0).pa)),
        Kind::Table(child) => Some(Thing::Table(child)),
        Kind::Invalid => (bits == 0).then_some(Thing::Nothing),
    }
}

fn name(before: Thing, now: Thing) -> &'static str {
    match (before, now) {
        (Thing::Nothing, Thing::Leaf(_)) => "leaf made",
        (Thing::Nothing, Thing::Table(_)) => "table put in",
        (Thing::Nothing, Thing::Nothing) => "nothing done",
        (Thing::Leaf(_), Thing::Nothing) => "leaf taken away",
        (Thing::Leaf(old), Thing::Leaf(new)) if old == new => "rights or marks changed",
        (Thing::Leaf(_), Thing::Leaf(_)) => "leaf moved",
        (Thing::Leaf(_), Thing::Table(_)) => "block split",
        (Thing::Table(_), Thing::Nothing) => "table taken away",
        (Thing::Table(_), Thing::Leaf(_)) => "table collapsed",
        (Thing::Table(old), Thing::Table(new)) if old == new => "table put back",
        (Thing::Table(_), Thing::Table(_)) => "table replaced",
    }
}
