//! The shape of a VM's tables: address width, start level, and how many tables stand side by side
//! at the root (Arm ARM, "Concatenated translation tables").

use crate::addr::{INDEX_BITS, Ipa, IpaRange, Level};

/// At most sixteen tables may be concatenated at the root.
const MAX_ROOT_ORDER: u32 = 4;

/// The narrowest address width: VTCR_EL2.T0SZ is at most 39. The model checker's tables are smaller
/// than any hardware's.
const MIN_IPA_BITS: u32 = if cfg!(loom) { 0 } else { 25 };

/// The widest address width without 52-bit addresses (FEAT_LPA2).
const MAX_IPA_BITS: u32 = 48;

/// The shape of a VM's stage-2 tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    ipa_bits: u32,
    start: Level,
    /// log2 of what one of the root's tables covers, in bytes.
    root_shift: u32,
    /// The bits of a root table's number.
    root_mask: u64,
}

/// Why there are no tables of such a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// The address width is below that of one root table of the start level, or below 25 bits.
    #[error("the guest addresses are too narrow")]
    TooNarrow,
    /// The address width is above what the CPU or sixteen root tables of the start level allow.
    #[error("the guest addresses are too wide")]
    TooWide,
}

impl Geometry {
    /// The shape with the fewest levels for guest addresses of `ipa_bits`, on a CPU with physical
    /// addresses of `pa_bits` (ID_AA64MMFR0_EL1.PARange).
    pub const fn new(ipa_bits: u32, pa_bits: u32) -> Result<Self, GeometryError> {
        let start = if ipa_bits <= Level::L2.shift() + INDEX_BITS + MAX_ROOT_ORDER {
            Level::L2
        } else if ipa_bits <= Level::L1.shift() + INDEX_BITS + MAX_ROOT_ORDER {
            Level::L1
        } else {
            Level::L0
        };
        if ipa_bits > pa_bits {
            return Err(GeometryError::TooWide);
        }
        Self::with_start(ipa_bits, start)
    }

    /// The shape with this start level.
    pub const fn with_start(ipa_bits: u32, start: Level) -> Result<Self, GeometryError> {
        if ipa_bits <= start.shift() || ipa_bits < MIN_IPA_BITS {
            return Err(GeometryError::TooNarrow);
        }
        if ipa_bits > start.shift() + INDEX_BITS + MAX_ROOT_ORDER || ipa_bits > MAX_IPA_BITS {
            return Err(GeometryError::TooWide);
        }
        let root_shift = start.shift() + INDEX_BITS;
        let root_order = ipa_bits.saturating_sub(root_shift);
        Ok(Self {
            ipa_bits,
            start,
            root_shift,
            root_mask: (1 << root_order) - 1,
        })
    }

    /// Width of guest addresses.
    pub const fn ipa_bits(&self) -> u32 {
        self.ipa_bits
    }

    /// The level of the root.
    #[inline]
    pub const fn start(&self) -> Level {
        self.start
    }

    /// log2 of the number of tables at the root.
    #[inline]
    pub const fn root_order(&self) -> u32 {
        self.ipa_bits.saturating_sub(self.root_shift)
    }

    /// All addresses of the guest.
    pub const fn range(&self) -> IpaRange {
        // An entry of the start level at least: never empty, and whole pages.
        match IpaRange::new(Ipa::new(0), Ipa::new(1 << self.ipa_bits)) {
            Some(range) => range,
            None => IpaRange::entry(Ipa::new(0), Level::L3),
        }
    }

    /// Which of the root's tables has the entry for `ipa`; none for an address that is too large.
    #[inline]
    pub(crate) const fn root_index(&self, ipa: Ipa) -> Option<u64> {
        if ipa.get() >> self.ipa_bits != 0 {
            return None;
        }
        Some(self.root_index_of_any(ipa))
    }

    /// The same, and some table's number for an address that is too large. So there is a table with
    /// this number also where a CPU, looking ahead, only supposes that the address was small
    /// enough: else it would walk tables from wherever a guest would have it (Spectre v1).
    #[inline]
    const fn root_index_of_any(&self, ipa: Ipa) -> u64 {
        ipa.get() >> self.root_shift & self.root_mask
    }

    /// The fields of VTCR_EL2 that the shape decides: T0SZ, SL0, TG0 (4 KiB).
    pub const fn vtcr(&self) -> u64 {
        let sl0 = match self.start {
            Level::L0 => 2,
            Level::L1 => 1,
            Level::L2 => 0,
            // Needs FEAT_TTST.
            Level::L3 => 3,
        };
        (64 - self.ipa_bits as u64) | sl0 << 6
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn forty_bits_start_at_level_1_with_two_root_tables() {
        let geometry = Geometry::new(40, 44).unwrap();
        assert_eq!((geometry.start(), geometry.root_order()), (Level::L1, 1));
        assert_eq!(geometry.vtcr(), 24 | 1 << 6);
        assert_eq!(geometry.root_index(Ipa::new(1 << 39)), Some(1));
        assert_eq!(geometry.root_index(Ipa::new(1 << 40)), None);
        assert_eq!(geometry.root_index_of_any(Ipa::new(0b1101 << 39)), 1);
    }

    #[test]
    fn the_widest_and_narrowest_shapes() {
        assert_eq!(Geometry::new(48, 48).unwrap().start(), Level::L0);
        assert_eq!(Geometry::new(44, 44).unwrap().root_order(), 0);
        assert_eq!(Geometry::new(43, 44).unwrap().root_order(), 4);
        assert_eq!(Geometry::new(34, 40).unwrap().root_order(), 4);
        assert_eq!(Geometry::new(36, 32), Err(GeometryError::TooWide));
        assert_eq!(
            Geometry::with_start(29, Level::L1),
            Err(GeometryError::TooNarrow)
        );
        assert_eq!(Geometry::new(24, 40), Err(GeometryError::TooNarrow));
        assert_eq!(Geometry::new(25, 40).unwrap().start(), Level::L2);
        // Sixteen root tables, and no more.
        assert_eq!(Geometry::with_start(34, Level::L2).unwrap().root_order(), 4);
        for (ipa_bits, start) in [(35, Level::L2), (44, Level::L1), (49, Level::L0)] {
            assert_eq!(
                Geometry::with_start(ipa_bits, start),
                Err(GeometryError::TooWide)
            );
        }
    }
}
