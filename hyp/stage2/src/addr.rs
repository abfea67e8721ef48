//! Addresses, levels and ranges.
//!
//! Owns the two address spaces as distinct types, so that an intermediate physical address (what
//! the guest calls physical) can never be used where a physical one is meant, and the arithmetic of
//! lookup levels for the 4 KiB granule (Arm ARM, "Translation process").

use core::fmt;

/// log2 of the granule: 4 KiB.
pub const PAGE_SHIFT: u32 = 12;

/// Bytes in a page, and in a table.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// log2 of the entries of one table.
///
/// Nine on hardware. Under the model checker tables have two entries: enough to show every race,
/// and few enough for all of its interleavings to be tried.
pub const INDEX_BITS: u32 = if cfg!(loom) { 1 } else { 9 };

/// Entries of one table.
pub const ENTRIES: usize = 1 << INDEX_BITS;

/// A lookup level: the level of a table is the level of the entries it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// 512 GiB an entry; tables only.
    L0 = 0,
    /// 1 GiB an entry: a table or a block.
    L1 = 1,
    /// 2 MiB an entry: a table or a block.
    L2 = 2,
    /// 4 KiB an entry: pages only.
    L3 = 3,
}

impl Level {
    /// log2 of the bytes that one entry of this level covers.
    #[inline]
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT + INDEX_BITS * (3 - self as u32)
    }

    /// Bytes that one entry of this level covers.
    #[inline]
    pub const fn size(self) -> u64 {
        1 << self.shift()
    }

    /// The level of the tables that entries of this level can name; none below level 3.
    #[inline]
    pub const fn next(self) -> Option<Level> {
        match self {
            Level::L0 => Some(Level::L1),
            Level::L1 => Some(Level::L2),
            Level::L2 => Some(Level::L3),
            Level::L3 => None,
        }
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $short:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this value, in bytes.
            #[inline]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The value in bytes.
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The address rounded down to what one entry of `level` covers.
            #[inline]
            pub const fn align_down(self, level: Level) -> Self {
                Self(self.0 & !(level.size() - 1))
            }

            /// Whether the address is a multiple of what one entry of `level` covers.
            #[inline]
            pub const fn is_aligned(self, level: Level) -> bool {
                self.0 & (level.size() - 1) == 0
            }

            /// The address `bytes` further on; wraps around like the hardware's adder.
            #[inline]
            pub const fn offset(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($short, ":{:#x}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// An intermediate physical address: what the guest takes for physical.
    Ipa,
    "IPA"
);
address!(
    /// A physical address: what stage 2 translates to, and where tables are.
    Pa,
    "PA"
);

impl Pa {
    /// log2 of the addresses that a descriptor can name.
    const BITS: u32 = 48;

    /// Whether a leaf of `level` can name the address: it is a multiple of the leaf's size, and not
    /// too large for the descriptor's address field.
    #[inline]
    pub const fn fits(self, level: Level) -> bool {
        self.is_aligned(level) && self.0 >> Self::BITS == 0
    }
}

impl Ipa {
    /// The index of this address's entry in a single table of `level`.
    #[inline]
    pub const fn index(self, level: Level) -> usize {
        (self.0 >> level.shift()) as usize & (ENTRIES - 1)
    }
}

/// A half-open range of intermediate physical addresses, in whole pages, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpaRange {
    start: Ipa,
    end: Ipa,
}

impl IpaRange {
    /// The range `start..end`, or nothing if it is empty or not made of whole pages.
    pub const fn new(start: Ipa, end: Ipa) -> Option<Self> {
        if start.0 < end.0 && start.is_aligned(Level::L3) && end.is_aligned(Level::L3) {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// What one entry of `level` covers, round `ipa`.
    ///
    /// The last entry of the 64-bit space, which no VM has, ends at the largest value: an end that
    /// wrapped around to 0 would look as if every range covered it.
    #[inline]
    pub const fn entry(ipa: Ipa, level: Level) -> Self {
        let start = ipa.align_down(level);
        Self {
            start,
            end: Ipa(start.0.saturating_add(level.size())),
        }
    }

    /// The first address.
    #[inline]
    pub const fn start(&self) -> Ipa {
        self.start
    }

    /// The first address behind the range.
    #[inline]
    pub const fn end(&self) -> Ipa {
        self.end
    }

    /// Number of 4 KiB pages.
    #[inline]
    pub const fn pages(&self) -> u64 {
        (self.end.0 - self.start.0) >> PAGE_SHIFT
    }

    /// Whether `self` contains all of `other`.
    #[inline]
    pub const fn covers(&self, other: &IpaRange) -> bool {
        self.start.0 <= other.start.0 && other.end.0 <= self.end.0
    }

    /// Whether the two share an address.
    #[inline]
    pub const fn overlaps(&self, other: &IpaRange) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }

    /// The smallest range that contains both.
    #[inline]
    pub fn hull(self, other: IpaRange) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// What `self` and `other` share.
    pub fn intersection(&self, other: &IpaRange) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn levels_cover_what_the_architecture_says() {
        assert_eq!(Level::L1.size(), 1 << 30);
        assert_eq!(Level::L2.size(), 2 << 20);
        assert_eq!(Level::L3.size(), 4096);
    }

    #[test]
    fn the_last_entry_of_all_is_outside_every_vm() {
        let last = IpaRange::entry(Ipa::new(u64::MAX), Level::L2);
        let widest = IpaRange::new(Ipa::new(0), Ipa::new(1 << 48)).unwrap();
        assert!(last.start() < last.end() && !widest.covers(&last));
    }

    #[test]
    fn a_frame_beyond_the_address_field_fits_no_leaf() {
        assert!(Pa::new(0xffff_ffe0_0000).fits(Level::L2));
        assert!(!Pa::new(0xffff_fff0_0000).fits(Level::L2));
        assert!(!Pa::new(1 << 48).fits(Level::L3));
    }

    #[test]
    fn an_empty_or_unaligned_range_is_none() {
        assert!(IpaRange::new(Ipa::new(0x1000), Ipa::new(0x1000)).is_none());
        assert!(IpaRange::new(Ipa::new(0x1001), Ipa::new(0x3000)).is_none());
        assert_eq!(
            IpaRange::new(Ipa::new(0x1000), Ipa::new(0x3000))
                .unwrap()
                .pages(),
            2
        );
    }
}
