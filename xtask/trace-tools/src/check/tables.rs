//! Tables as the writes have made them, and what their entries mean (Arm ARM, "Translation table
//! descriptor formats").

use std::collections::HashMap;

/// Bytes of a page, and of a table.
pub(super) const PAGE: u64 = 4096;
/// Entries of a table.
pub(super) const ENTRIES: usize = 512;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
const ACCESS_FLAG: u64 = 1 << 10;
const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const DBM: u64 = 1 << 51;
/// MemAttr, SH, Contiguous: what two live entries of one address must have in common.
const ATTRIBUTES: u64 = 0b1111 << 2 | 0b11 << 8 | 1 << 52;
const XN: u64 = 0b11 << 53;

/// Bytes that an entry of this level covers.
pub(super) fn size(level: u8) -> u64 {
    PAGE << (9 * (3 - u64::from(level.min(3))))
}

/// A leaf, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The first IPA.
    pub(super) ipa: u64,
    /// The output address.
    pub(super) pa: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Whether stores go through, or the hardware lets them.
    pub(super) stores: bool,
    attributes: u64,
}

impl Leaf {
    /// Whether the two are the same translation, but for rights and marks.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.agrees(other) && self.size == other.size
    }

    /// Whether the two translate what both translate alike, and do so.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.overlaps(other)
            && self.pa.wrapping_sub(self.ipa) == other.pa.wrapping_sub(other.ipa)
            && self.attributes == other.attributes
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.ipa < other.ipa + other.size && other.ipa < self.ipa + self.size
    }

    pub(super) fn shares_frames(&self, other: &Self) -> bool {
        self.pa < other.pa + other.size && other.pa < self.pa + self.size
    }

    pub(super) fn frames(&self) -> impl Iterator<Item = u64> + use<> {
        (self.pa..self.pa + self.size).step_by(PAGE as usize)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not valid.
    Invalid,
    Leaf,
    /// The table at this PA.
    Table(u64),
}

pub(super) fn kind(bits: u64, level: u8) -> Kind {
    match (bits & VALID != 0, bits & TABLE_OR_PAGE != 0, level) {
        (false, ..) => Kind::Invalid,
        (_, true, 3) | (_, false, 1 | 2) => Kind::Leaf,
        (_, true, _) => Kind::Table(bits & ADDRESS),
        // Reserved: the hardware takes it for invalid.
        (_, false, _) => Kind::Invalid,
    }
}

pub(super) fn leaf(bits: u64, level: u8, ipa: u64) -> Leaf {
    let size = size(level);
    Leaf {
        ipa,
        pa: bits & ADDRESS & !(size - 1),
        size,
        stores: bits & (WRITE | DBM) != 0,
        attributes: bits & ATTRIBUTES,
    }
}

/// Whether a valid leaf takes rights away from what the one before gave.
pub(super) fn restricts(old: u64, new: u64) -> bool {
    let lost = old & !new;
    lost & (READ | WRITE | ACCESS_FLAG) != 0 || new & XN != old & XN && new & XN != 0
}

/// Whether `seen` can be what `written` has become by the hardware's marks alone.
pub(super) fn marked_by_hardware(written: u64, seen: u64) -> bool {
    let writes = if written & DBM != 0 { WRITE } else { 0 };
    let marks = if written & VALID != 0 {
        ACCESS_FLAG | writes
    } else {
        0
    };
    written == seen || seen & !written & !marks == 0 && written & !seen == 0
}

/// Where a table is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody but the CPU that made it can find it.
    Fresh(u8),
    /// In the tree, by the entry at this PA; the root by none.
    Attached(Option<u64>),
    /// Out of the tree, by the entry at this PA.
    Detached(u64),
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) vm: u8,
    pub(super) level: u8,
    /// The first IPA that it translates. Not known of a fresh one.
    pub(super) ipa: u64,
    pub(super) state: State,
    pub(super) entries: Box<[u64; ENTRIES]>,
    /// The CPU that has its lock.
    pub(super) holder: Option<u8>,
    /// For a root: a DSB came after it was made.
    pub(super) synced: bool,
    /// The place in the order at which it was last taken out.
    pub(super) taken_out: u64,
}

impl Table {
    pub(super) fn new(vm: u8, level: u8, ipa: u64, state: State) -> Self {
        Self {
            vm,
            level,
            ipa,
            state,
            entries: Box::new([0; ENTRIES]),
            holder: None,
            synced: false,
            taken_out: 0,
        }
    }

    /// The first IPA of an entry.
    pub(super) fn ipa_of(&self, index: usize) -> u64 {
        self.ipa + index as u64 * size(self.level)
    }
}

/// All tables, by PA.
#[derive(Debug, Default)]
pub(super) struct Tables(pub(super) HashMap<u64, Table>);

impl Tables {
    /// The table and index of an entry.
    pub(super) fn at(&mut self, entry: u64) -> Option<(&mut Table, usize)> {
        let table = self.0.get_mut(&(entry & !(PAGE - 1)))?;
        Some((table, (entry % PAGE / 8) as usize))
    }

    /// The leaves of the table at `pa` and of those below it, as they would translate from `ipa`
    /// on.
    pub(super) fn leaves(&self, pa: u64, ipa: u64) -> Vec<Leaf> {
        let Some(table) = self.0.get(&pa) else {
            return Vec::new();
        };
        let mut leaves = Vec::new();
        for (index, &bits) in table.entries.iter().enumerate() {
            let at = ipa + index as u64 * size(table.level);
            match kind(bits, table.level) {
                Kind::Invalid => {}
                Kind::Leaf => leaves.push(leaf(bits, table.level, at)),
                // A table names one of a lower level only: that was checked when it was written.
                Kind::Table(child) if table.level < 3 && self.is_below(child, table.level) => {
                    leaves.extend(self.leaves(child, at));
                }
                Kind::Table(_) => {}
            }
        }
        leaves
    }

    fn is_below(&self, child: u64, level: u8) -> bool {
        self.0.get(&child).is_some_and(|child| child.level > level)
    }

    /// Whether the table at `pa` translates all that `block` does, and alike.
    pub(super) fn is_split(&self, pa: u64, block: &Leaf) -> bool {
        let parts = self.leaves(pa, block.ipa);
        parts.iter().map(|part| part.size).sum::<u64>() == block.size
            && parts.iter().all(|part| part.agrees(block))
    }
}
