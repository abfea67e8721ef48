//! Which TLBI instructions invalidate a range of IPAs, and their operands.
//!
//! Owns the encoding of the operands (Arm ARM, `TLBI IPAS2E1IS` and `TLBI RIPAS2E1IS`) and the
//! choice between single addresses, ranges (FEAT_TLBIRANGE) and the whole VMID. No instruction is
//! executed here, so the choice can be tested on any machine.

use super::abilities::Abilities;
use crate::addr::{Ipa, IpaRange, Level, PAGE_SHIFT};
use crate::env::Scope;

/// One TLBI, by its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// By IPA: `IPAS2E1IS`, or `IPAS2LE1IS` for leaves.
    Single(u64),
    /// By a range of IPAs: `RIPAS2E1IS`, or `RIPAS2LE1IS` for leaves.
    Range(u64),
    /// All of the VMID, stage 1 included: `VMALLS12E1IS`.
    All,
}

/// Beyond this many single operations, invalidating the whole VMID is the lesser evil.
const MAX_SINGLE: u64 = 64;
/// Pages of a range operation are `(NUM + 1) << (5 * SCALE + 1)`: at most this many.
const MAX_RANGE_PAGES: u64 = 32 << 16;
const TTL_SINGLE_SHIFT: u32 = 44;
const TTL_RANGE_SHIFT: u32 = 37;
const NUM_SHIFT: u32 = 39;
const SCALE_SHIFT: u32 = 44;
/// TG: 4 KiB, bits 47:46 of a range operand.
const GRANULE_4K: u64 = 0b01 << 46;
/// The translation granule in a TTL: 4 KiB, bits 3:2; the level is in bits 1:0.
const TTL_4K: u64 = 0b01 << 2;
/// The level in a TTL: all that a range operand has room for, which names the granule elsewhere.
const TTL_LEVEL: u64 = 0b11;
/// BaseADDR in a range operand: 37 bits of the page number.
const BASE_MASK: u64 = (1 << 37) - 1;
/// IPA\[47:12\] in a single operand: 36 bits.
const IPA_MASK: u64 = (1 << 36) - 1;

/// The operations that invalidate a range, in order.
#[derive(Clone, Debug)]
pub(super) struct Operations {
    next: Ipa,
    end: Ipa,
    stride: Level,
    ttl: u64,
    by_range: bool,
    all: bool,
}

/// Whether leaves only are meant, so that the last-level form of an instruction is enough.
pub(super) const fn leaves_only(scope: Scope) -> bool {
    !matches!(scope, Scope::Tables)
}

/// What it takes to invalidate `range` in `scope`.
pub(super) fn operations(range: IpaRange, scope: Scope, abilities: &Abilities) -> Operations {
    // One operation reaches a whole block, by any address in it.
    let (stride, level) = match scope {
        Scope::Leaf(level) => (level, Some(level)),
        Scope::Leaves | Scope::Tables => (Level::L3, None),
    };
    let start = range.start().align_down(stride);
    let singles = (range.end().get() - start.get()).div_ceil(stride.size());
    let pages = (range.end().get() - start.get()) >> PAGE_SHIFT;
    let by_range = abilities.range_tlbi && singles > 1;
    Operations {
        next: start,
        end: range.end(),
        stride,
        ttl: match level {
            Some(level) if abilities.level_hint => TTL_4K | level as u64,
            _ => 0,
        },
        by_range,
        all: if by_range {
            pages > MAX_RANGE_PAGES
        } else {
            singles > MAX_SINGLE
        },
    }
}

impl Operations {
    fn single(&mut self) -> Operation {
        let operand = self.next.get() >> PAGE_SHIFT & IPA_MASK | self.ttl << TTL_SINGLE_SHIFT;
        self.next = self.next.offset(self.stride.size());
        Operation::Single(operand)
    }

    /// The longest range operation that does not go beyond the end.
    fn range(&mut self, pages: u64) -> Operation {
        // The largest unit, `1 << (5 * scale + 1)` pages, of which there is one at least.
        let scale = u64::from((pages.ilog2() - 1) / 5).min(3);
        let unit = 1 << (5 * scale + 1);
        let count = (pages / unit).min(32);
        let operand = self.next.get() >> PAGE_SHIFT & BASE_MASK
            | (self.ttl & TTL_LEVEL) << TTL_RANGE_SHIFT
            | (count - 1) << NUM_SHIFT
            | scale << SCALE_SHIFT
            | GRANULE_4K;
        self.next = self.next.offset((count * unit) << PAGE_SHIFT);
        Operation::Range(operand)
    }
}

impl Iterator for Operations {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        if self.next >= self.end {
            return None;
        }
        if self.all {
            self.next = self.end;
            return Some(Operation::All);
        }
        let pages = (self.end.get() - self.next.get()) >> PAGE_SHIFT;
        // A range operation covers an even number of pages.
        Some(if self.by_range && pages > 1 {
            self.range(pages)
        } else {
            self.single()
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    use crate::aarch64::IdRegisters;

    /// CPUs with everything, and with nothing.
    const ALL: &Abilities = &Abilities::decode(&IdRegisters {
        isar0: u64::MAX,
        mmfr2: u64::MAX,
        mmfr0: 0,
        mmfr1: 0,
        ctr: 0,
    });
    const NONE: &Abilities = &Abilities::NONE;

    fn pages(start: u64, pages: u64) -> IpaRange {
        IpaRange::new(Ipa::new(start), Ipa::new(start + pages * 4096)).unwrap()
    }

    /// The pages that an operation reaches.
    fn reach(operation: Operation) -> (u64, u64) {
        match operation {
            Operation::Single(operand) => (operand & IPA_MASK, 1),
            Operation::Range(operand) => {
                let (num, scale) = (operand >> NUM_SHIFT & 31, operand >> SCALE_SHIFT & 3);
                (operand & BASE_MASK, (num + 1) << (5 * scale + 1))
            }
            Operation::All => (0, 1 << 36),
        }
    }

    #[test]
    fn one_page_is_one_operation_with_its_level() {
        let mut ops = operations(pages(0x4000_3000, 1), Scope::Leaf(Level::L3), ALL);
        assert_eq!(ops.next(), Some(Operation::Single(0x40003 | 0b0111 << 44)));
        assert_eq!(ops.next(), None);
    }

    #[test]
    fn without_level_hints_the_field_is_zero() {
        let mut ops = operations(pages(0x4000_3000, 1), Scope::Leaf(Level::L3), NONE);
        assert_eq!(ops.next(), Some(Operation::Single(0x40003)));
    }

    #[test]
    fn a_block_is_one_operation() {
        let ops = operations(pages(0x4020_0000, 512), Scope::Leaf(Level::L2), NONE);
        assert_eq!(ops.collect::<Vec<_>>(), [Operation::Single(0x40200)]);
    }

    /// Race 40: no part of a range survives, wherever it begins and however long it is.
    #[test]
    fn race_40_ranges_are_covered_without_a_gap() {
        for start in [0x4000_0000, 0x4000_1000, 0x401f_f000, 0x7fff_f000] {
            for count in (1..200).chain([511, 512, 513, 2048, 65535, 65536, 100_000, 1 << 21]) {
                let first = start >> 12;
                let mut next = first;
                for operation in operations(pages(start, count), Scope::Tables, ALL) {
                    let (base, reached) = reach(operation);
                    assert_eq!(
                        base, next,
                        "a gap or an overlap in {count} pages from {start:#x}"
                    );
                    next = base + reached;
                }
                assert_eq!(next, first + count);
            }
        }
    }

    #[test]
    fn a_level_in_a_range_leaves_its_length_alone() {
        for count in 2..600 {
            let range = pages(0x4000_0000, count);
            let with = operations(range, Scope::Leaf(Level::L3), ALL);
            let without = operations(range, Scope::Tables, ALL);
            assert_eq!(
                with.clone().map(reach).collect::<Vec<_>>(),
                without.map(reach).collect::<Vec<_>>()
            );
            for operation in with {
                if let Operation::Range(operand) = operation {
                    assert_eq!(operand >> TTL_RANGE_SHIFT & TTL_LEVEL, 3);
                }
            }
        }
    }

    #[test]
    fn long_ranges_take_few_operations() {
        let count = |abilities, pages_| {
            operations(pages(0x4000_0000, pages_), Scope::Tables, abilities).count()
        };
        assert_eq!(count(ALL, 512), 1);
        assert_eq!(count(NONE, 64), 64);
        assert_eq!(count(NONE, 65), 1);
        assert_eq!(
            operations(pages(0, 1 << 22), Scope::Tables, ALL).next(),
            Some(Operation::All)
        );
    }
}
