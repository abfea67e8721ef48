//! Descriptors: the 64-bit values of table entries (Arm ARM, "Translation table descriptor
//! formats").
//!
//! Owns the encoding: what is valid, what a marker is, which bits the hardware writes by itself and
//! which are software's. A descriptor is a plain value; where it is stored and who may change it is
//! not known here.
//!
//! Entries are single 64-bit words, read and written by one single-copy-atomic access, so a torn
//! value cannot be seen. (128-bit descriptors, FEAT_D128, are not used.)

mod difference;

pub(crate) use difference::Difference;

use crate::addr::{Level, Pa};

const VALID: u64 = 1;
/// At levels 0 to 2: names a table. At level 3 it must be set in a valid entry.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// MemAttr[3:0] for Normal memory, write-back (Arm ARM, "Stage 2 memory region attributes",
/// FEAT_S2FWB not in use).
const NORMAL: u64 = 0b1111 << 2;
/// MemAttr[3:0] for Device-nGnRE, and MemAttr[2:0] for it with FEAT_S2FWB in use.
const DEVICE: u64 = 0b0001 << 2;
/// MemAttr[2:0] for Normal write-back whatever stage 1 says, FEAT_S2FWB in use.
const NORMAL_FWB: u64 = 0b110 << 2;
const MEM_ATTR: u64 = 0b1111 << 2;
const S2AP_READ: u64 = 1 << 6;
const S2AP_WRITE: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESS_FLAG: u64 = 1 << 10;
/// Dirty-bit modifier: the hardware may set `S2AP_WRITE` by itself.
const DBM: u64 = 1 << 51;
const XN_SHIFT: u32 = 53;
const XN: u64 = 0b11 << XN_SHIFT;
/// Software: the mapping allows writes, also while `S2AP_WRITE` is clear to learn of the next one.
const WRITABLE: u64 = 1 << 55;
/// Software: a table for splitting this block lies in the deposit.
const DEPOSIT: u64 = 1 << 56;
/// Software: a collapse has copied this page's contents, if it was not written since.
const COPIED: u64 = 1 << 57;
/// Software: neither moved nor collapsed.
const PINNED: u64 = 1 << 58;
/// Software: the page was written, and its stores made to trap since for another reason than to
/// collect that. The hardware ignores the bit as long as VTCR_EL2.HWU59 is clear.
const DIRTY: u64 = 1 << 59;
/// In an invalid descriptor: a busy marker.
const BUSY: u64 = 1 << 2;

/// The marks of use: accessed, and written.
const MARKS: u64 = ACCESS_FLAG | S2AP_WRITE | DIRTY;
/// Bits that differ between two leaves of one mapping by what was done with them, not by what is
/// allowed.
const USE_BITS: u64 = MARKS | COPIED | DEPOSIT;

/// Who may execute (Arm ARM, "Memory access control": the field XN with FEAT_XNX).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execute {
    /// EL1 and EL0.
    Both,
    /// EL0 only; needs FEAT_XNX.
    User,
    /// Nobody.
    Never,
    /// EL1 only; needs FEAT_XNX.
    Kernel,
}

impl Execute {
    /// Whether code of this exception level may be executed.
    #[inline]
    pub const fn allows(self, level: Privilege) -> bool {
        match self {
            Self::Both => true,
            Self::Never => false,
            Self::User => matches!(level, Privilege::User),
            Self::Kernel => matches!(level, Privilege::Kernel),
        }
    }
}

/// The exception level that a guest is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// EL0.
    User,
    /// EL1.
    Kernel,
}

/// What the guest may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Loads.
    pub read: bool,
    /// Stores.
    pub write: bool,
    /// Instruction fetches.
    pub execute: Execute,
}

impl Rights {
    /// Everything: what a guest's memory is mapped with.
    pub const ALL: Rights = Rights {
        read: true,
        write: true,
        execute: Execute::Both,
    };
    /// Loads and fetches.
    pub const READ_EXECUTE: Rights = Rights {
        read: true,
        write: false,
        execute: Execute::Both,
    };
    /// Loads only.
    pub const READ: Rights = Rights {
        read: true,
        write: false,
        execute: Execute::Never,
    };
    /// Loads and stores.
    pub const READ_WRITE: Rights = Rights {
        read: true,
        write: true,
        execute: Execute::Never,
    };
}

/// The memory type that a mapping gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Normal, write-back cacheable, inner shareable.
    Normal,
    /// Device-nGnRE.
    Device,
}

/// Everything about a mapping but its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What the guest may do.
    pub rights: Rights,
    /// The memory type.
    pub memory: MemoryType,
    /// Whether the mapping must keep its frame: it is neither moved nor collapsed.
    pub pinned: bool,
}

impl Attributes {
    /// Ordinary guest memory.
    pub const RAM: Attributes = Attributes {
        rights: Rights::ALL,
        memory: MemoryType::Normal,
        pinned: false,
    };
    /// A device passed through.
    pub const DEVICE: Attributes = Attributes {
        rights: Rights::READ_WRITE,
        memory: MemoryType::Device,
        pinned: true,
    };
}

/// Whether a leaf counts as written from when it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyState {
    /// It is not: the first store faults (or is marked by the hardware), and is noticed.
    Clean,
    /// It is: stores go through at once.
    Dirty,
}

/// What of the descriptor format depends on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// FEAT_S2FWB is present and HCR_EL2.FWB is set.
    pub force_write_back: bool,
    /// FEAT_XNX: execution can be allowed at EL0 and EL1 apart.
    pub execute_never_by_level: bool,
    /// FEAT_HAFDBS with VTCR_EL2.HD set: the hardware marks pages written by itself.
    pub hardware_dirty: bool,
}

/// What a [`Format`] comes to in the bits of leaves: looked up at each fault, where telling one
/// format from another would take ten instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafFormat {
    /// The memory type of normal memory.
    normal: u64,
    /// What a page has that may be stored to.
    writable_page: u64,
    /// See [`Format::execute_never_by_level`].
    pub(crate) execute_never_by_level: bool,
}

impl LeafFormat {
    pub(crate) const fn new(format: Format) -> Self {
        let Format {
            force_write_back,
            execute_never_by_level,
            hardware_dirty,
        } = format;
        Self {
            normal: if force_write_back { NORMAL_FWB } else { NORMAL } | INNER_SHAREABLE,
            // Not on blocks: one store would mark 512 pages as written.
            writable_page: if hardware_dirty { DBM } else { 0 },
            execute_never_by_level,
        }
    }
}

/// Why a busy marker stands in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// 512 entries become one block.
    Collapse,
    /// A block becomes a table.
    Split,
    /// A page gets another frame.
    Migrate,
    /// An empty table is taken away.
    FreeTable,
}

/// A busy marker: an operation works on what the entry covers. It is no mapping, and no hole
/// either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker(u64);

impl Marker {
    /// The marker for `operation`; `ticket` tells it from the same CPU's or another's at another
    /// time.
    #[inline]
    pub(crate) const fn new(operation: Operation, ticket: u64) -> Self {
        Self(ticket << 16 | (operation as u64) << 4 | BUSY)
    }

    /// What is being done.
    pub const fn operation(self) -> Operation {
        match self.0 >> 4 & 0b11 {
            0 => Operation::Collapse,
            1 => Operation::Split,
            2 => Operation::Migrate,
            _ => Operation::FreeTable,
        }
    }

    /// Tells markers apart.
    pub const fn ticket(self) -> u64 {
        self.0 >> 16
    }

    #[inline]
    pub(crate) const fn descriptor(self) -> Descriptor {
        Descriptor(self.0)
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Nothing.
    Empty,
    /// A marker: come back later.
    Busy(Marker),
    /// A leaf: a page at level 3, a block above.
    Leaf(Pa),
    /// A table of the next level.
    Table(Pa),
    /// Nothing that can be: a reserved encoding, or an address that fits no entry of the level.
    Bad,
}

/// The value of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Descriptor(u64);

impl Descriptor {
    /// The empty entry.
    pub const EMPTY: Descriptor = Descriptor(0);

    /// The descriptor with these bits.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A leaf of `level`, accessed already.
    #[inline]
    pub(crate) fn leaf(
        format: LeafFormat,
        level: Level,
        pa: Pa,
        attributes: Attributes,
        dirty: DirtyState,
    ) -> Self {
        let page = if matches!(level, Level::L3) {
            TABLE_OR_PAGE
        } else {
            0
        };
        let memory = match attributes.memory {
            MemoryType::Normal => format.normal,
            MemoryType::Device => DEVICE,
        };
        let pinned = if attributes.pinned { PINNED } else { 0 };
        let leaf = Self(VALID | page | pa.get() | memory | ACCESS_FLAG | pinned).with_rights(
            format,
            level,
            attributes.rights,
        );
        match dirty {
            DirtyState::Dirty => leaf.open(),
            DirtyState::Clean => leaf,
        }
    }

    /// The descriptor that names the table at `pa`.
    #[inline]
    pub(crate) const fn table(pa: Pa) -> Self {
        Self(pa.get() | VALID | TABLE_OR_PAGE)
    }

    /// What an entry of `level` with this value is.
    // Always inline: with the level known, little of it is left.
    #[inline(always)]
    pub fn kind(self, level: Level) -> EntryKind {
        if self.0 & VALID == 0 {
            return match self.0 {
                0 => EntryKind::Empty,
                bits if bits & (BUSY | TABLE_OR_PAGE) == BUSY => EntryKind::Busy(Marker(bits)),
                _ => EntryKind::Bad,
            };
        }
        let pa = Pa::new(self.0 & ADDRESS);
        match (self.0 & TABLE_OR_PAGE != 0, level) {
            (true, Level::L3) => EntryKind::Leaf(pa),
            (true, _) => EntryKind::Table(pa),
            (false, Level::L1 | Level::L2) if pa.is_aligned(level) => EntryKind::Leaf(pa),
            (false, _) => EntryKind::Bad,
        }
    }

    /// The output address of a leaf.
    #[inline]
    pub const fn output(self) -> Pa {
        Pa::new(self.0 & ADDRESS)
    }

    /// The rights that a leaf's mapping gives, whether or not they are held back for a moment.
    pub fn rights(self) -> Rights {
        let execute = match (self.0 & XN) >> XN_SHIFT {
            0b00 => Execute::Both,
            0b01 => Execute::User,
            0b10 => Execute::Never,
            _ => Execute::Kernel,
        };
        Rights {
            read: self.0 & S2AP_READ != 0,
            write: self.is_writable(),
            execute,
        }
    }

    /// The memory type of a leaf.
    pub fn memory(self) -> MemoryType {
        // Device-nGnRE and nothing else of ours has MemAttr[2:0] = 0b001, with and without FWB.
        if self.0 & MEM_ATTR == DEVICE {
            MemoryType::Device
        } else {
            MemoryType::Normal
        }
    }

    /// Whether the mapping allows stores, perhaps after a fault.
    #[inline]
    pub const fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// Whether the page was written, or may be at any time, since this was last collected.
    #[inline]
    pub const fn is_written(self) -> bool {
        self.0 & (S2AP_WRITE | DIRTY) != 0
    }

    /// Whether stores go through at this moment, without a fault.
    #[inline]
    pub const fn lets_stores_through(self) -> bool {
        self.0 & S2AP_WRITE != 0
    }

    /// The access flag: the leaf was used since this was last cleared.
    #[inline]
    pub const fn is_accessed(self) -> bool {
        self.0 & ACCESS_FLAG != 0
    }

    /// Whether the hardware may change an entry of `level` that holds this: it marks leaves that
    /// are not accessed, and those to which it may open the way for stores (Arm ARM, "Hardware
    /// management of the Access flag and dirty state").
    #[inline(always)]
    pub(crate) const fn may_be_marked(self, level: Level) -> bool {
        if self.0 & VALID == 0 || self.0 & TABLE_OR_PAGE != 0 && !matches!(level, Level::L3) {
            return false;
        }
        self.0 & ACCESS_FLAG == 0 || self.0 & (S2AP_WRITE | DBM) == DBM
    }

    /// Whether this is, in an entry of level 3, a page that was accessed and lets stores through.
    #[inline(always)]
    pub(crate) const fn is_page_in_use(self) -> bool {
        const IN_USE: u64 = VALID | TABLE_OR_PAGE | ACCESS_FLAG | S2AP_WRITE;
        self.0 & IN_USE == IN_USE
    }

    /// Whether the hardware may mark a leaf like this in a way that it is not marked yet.
    #[inline]
    pub(crate) const fn may_gain_marks(self) -> bool {
        const BOTH: u64 = ACCESS_FLAG | S2AP_WRITE;
        self.0 & BOTH != BOTH
    }

    /// Whether the mapping must keep its frame.
    #[inline]
    pub const fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    #[inline]
    pub(crate) const fn is_copied(self) -> bool {
        self.0 & COPIED != 0
    }

    #[inline]
    pub(crate) const fn has_deposit(self) -> bool {
        self.0 & DEPOSIT != 0
    }

    #[inline]
    pub(crate) const fn with_deposit(self) -> Self {
        Self(self.0 | DEPOSIT)
    }

    #[inline]
    pub(crate) const fn with_output(self, pa: Pa) -> Self {
        Self(self.0 & !ADDRESS | pa.get())
    }

    /// The same leaf, with stores going through if they are allowed.
    #[inline]
    pub(crate) const fn open(self) -> Self {
        if self.is_writable() {
            Self(self.0 | S2AP_WRITE)
        } else {
            self
        }
    }

    /// The same leaf, not written as from now: the next store traps.
    ///
    /// That a collapse copied the page is forgotten as well: what was written since would
    /// otherwise look as if it had been written never.
    #[inline]
    pub(crate) const fn cleaned(self) -> Self {
        Self(self.0 & !(S2AP_WRITE | DIRTY | COPIED))
    }

    /// The same leaf, with stores trapping; that it was written, if it was, stays known.
    #[inline]
    pub(crate) const fn closed(self) -> Self {
        if self.lets_stores_through() {
            Self(self.0 & !(S2AP_WRITE | COPIED) | DIRTY)
        } else {
            self
        }
    }

    /// The same leaf with other rights; stores go through if they are allowed and did before.
    pub(crate) fn with_rights(self, format: LeafFormat, level: Level, rights: Rights) -> Self {
        let mut bits = self.0 & !(S2AP_READ | WRITABLE | DBM | XN);
        if rights.read {
            bits |= S2AP_READ;
        }
        if rights.write {
            bits |= WRITABLE;
            if matches!(level, Level::L3) {
                bits |= format.writable_page;
            }
        }
        let xn = match (rights.execute, format.execute_never_by_level) {
            (Execute::Both, _) => 0b00,
            (Execute::Never, _) => 0b10,
            (Execute::User, true) => 0b01,
            (Execute::Kernel, true) => 0b11,
            // Without FEAT_XNX bit 54 alone decides, for both levels: rights must not widen.
            (Execute::User | Execute::Kernel, false) => 0b10,
        };
        let leaf = Self(bits | xn << XN_SHIFT);
        if rights.write { leaf } else { leaf.closed() }
    }

    /// The same leaf, not yet used: the next access is noticed.
    #[inline]
    pub(crate) const fn without_accessed(self) -> Self {
        Self(self.0 & !ACCESS_FLAG)
    }

    /// Whether this is what was `seen`, but for marks of use that came since, as the hardware sets
    /// them at any moment.
    #[inline(always)]
    pub(crate) const fn is_or_gained_marks(self, seen: Self) -> bool {
        self.0 == seen.0 | self.0 & MARKS
    }

    /// The same leaf, used by an access that stores or not.
    #[inline]
    pub(crate) const fn used(self, written: bool) -> Self {
        let accessed = Self(self.0 | ACCESS_FLAG);
        if written { accessed.open() } else { accessed }
    }

    /// The same page in another frame; a copy that a collapse made of the old one does not count.
    #[inline]
    pub(crate) const fn moved(self, to: Pa) -> Self {
        Self(self.0 & !COPIED).with_output(to)
    }

    /// Marks a page as copied by a collapse, with stores trapping from now on.
    #[inline]
    pub(crate) const fn as_copied(self) -> Self {
        Self(self.closed().0 | COPIED)
    }

    /// The entry of a leaf's `index`-th part, when a block of `level` becomes a table.
    #[inline(always)]
    pub(crate) fn part(self, format: LeafFormat, level: Level, index: usize) -> Self {
        let Some(next) = level.next() else {
            return self;
        };
        let page = if matches!(next, Level::L3) {
            TABLE_OR_PAGE
        } else {
            0
        };
        let pa = self.output().offset(index as u64 * next.size());
        let part = Self(self.0 & !(DEPOSIT | TABLE_OR_PAGE) | page).with_output(pa);
        part.with_rights(format, next, self.rights())
    }

    /// The block of `level` that takes the place of entries like this one, its first part.
    #[inline]
    pub(crate) fn merged(self, format: LeafFormat, level: Level, pa: Pa) -> Self {
        Self(self.0 & !(TABLE_OR_PAGE | COPIED | DEPOSIT))
            .with_output(pa)
            .with_rights(format, level, self.rights())
    }

    /// The marks of use (access flag, written) of both.
    #[inline]
    pub(crate) const fn with_use_of(self, other: Self) -> Self {
        Self(self.0 | other.0 & MARKS)
    }
}

impl core::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Descriptor({:#018x})", self.0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
