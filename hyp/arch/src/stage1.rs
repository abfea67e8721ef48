//! Where a walk of a guest's own tables ends.
//!
//! When stage 2 stops the hardware's walk of stage 1, `ESR_EL2` says so, but has the level of
//! stage 2. If the guest is to be told, the level of its own table is wanted; and where an
//! instruction is to be read, its IPA. So the walk is made once more (Arm ARM, "Translation
//! process"), for granules of 4, 16 and 64 KiB, and 48 and 52 bits of addresses. No more is looked
//! at than what leads from table to table and to the page, and whatever the registers and tables
//! hold, no more than five descriptors are.

/// What `TCR_EL1` says of one half of the addresses; the fields of both have the same sizes.
struct Half {
    /// log2 of the bytes of a page, and of a full table.
    granule: u32,
    /// The bits of an address that are translated.
    address_bits: u32,
}

/// `TCR_EL1.TxSZ`, for EL0's half at bit 0 and for the other at bit 16.
const TCR_SIZE: u64 = 0x3f;
/// `TCR_EL1.TG0` and `TG1`, which encode the granules differently.
const TCR_GRANULE_0: u32 = 14;
const TCR_GRANULE_1: u32 = 30;
/// `TCR_EL1.IPS`, and its value for 52 bits.
const TCR_IPS: u32 = 32;
const IPS_52: u64 = 0b110;
/// `TCR_EL1.DS`: addresses of 52 bits with granules of 4 and 16 KiB (FEAT_LPA2).
const TCR_DS: u64 = 1 << 59;
/// The bit of an address that chooses the half.
const UPPER_HALF: u64 = 1 << 55;

/// A descriptor's bits: it is valid; it is a table's, or at level 3 a page's.
const VALID: u64 = 1 << 0;
const TABLE: u64 = 1 << 1;

/// The registers that say where a guest's tables are.
#[derive(Clone, Copy, Debug)]
pub struct Stage1 {
    /// `TCR_EL1`.
    pub tcr: u64,
    /// `TTBR0_EL1` and `TTBR1_EL1`.
    pub tables: [u64; 2],
    /// `SCTLR_EL1.EE`: the tables are big-endian.
    pub big_endian: bool,
}

/// Why an address has no IPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untranslated<E> {
    /// The registers or the tables do not translate it.
    Invalid,
    /// A descriptor could not be read.
    Unread(E),
}

/// The last access of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last<E> {
    /// The level of the table, from -1 to 3.
    pub level: i8,
    /// The IPA of its descriptor.
    pub ipa: u64,
    /// Why the descriptor could not be read; else it is the last since it names no table.
    pub unread: Option<E>,
}

/// Where a walk came to.
struct End<E> {
    last: Last<E>,
    /// What the last access has found; zero if it could not be read.
    descriptor: u64,
    /// The address that this names, if it names one, with what is below the granule zero.
    next: u64,
    /// How many of an address's low bits the last access did not use.
    below: u32,
}

impl Stage1 {
    /// The IPA of the guest's virtual `address`; its permissions are not looked at. `read` is as in
    /// [`Self::last_access`].
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn translate<E>(
        &self,
        address: u64,
        read: impl FnMut(u64) -> Result<u64, E>,
    ) -> Result<u64, Untranslated<E>> {
        let end = self.walk(address, read).ok_or(Untranslated::Invalid)?;
        if let Some(unread) = end.last.unread {
            return Err(Untranslated::Unread(unread));
        }
        let leaf = if end.last.level == 3 {
            VALID | TABLE
        } else {
            VALID
        };
        if end.descriptor & (VALID | TABLE) != leaf {
            return Err(Untranslated::Invalid);
        }
        let within = (1 << end.below) - 1;
        Ok(end.next & !within | address & within)
    }

    /// The last access of a walk for the guest's virtual `address`; none if the registers allow no
    /// walk. `read` loads the eight bytes at an IPA, as a little-endian number.
    pub fn last_access<E>(
        &self,
        address: u64,
        read: impl FnMut(u64) -> Result<u64, E>,
    ) -> Option<Last<E>> {
        self.walk(address, read).map(|end| end.last)
    }

    fn walk<E>(&self, address: u64, mut read: impl FnMut(u64) -> Result<u64, E>) -> Option<End<E>> {
        let upper = address & UPPER_HALF != 0;
        let half = self.half(upper);
        let stride = half.granule - 3;
        let levels = half
            .address_bits
            .saturating_sub(half.granule)
            .div_ceil(stride);
        let mut table = self.root(upper, half.granule);
        let mut end = None;
        for below in (0..levels).rev() {
            let lowest = half.granule + stride * below;
            let bits = stride.min(half.address_bits - lowest);
            if below == levels - 1 {
                // What is left is smaller than the table, or reads as zero.
                table &= u64::MAX << (bits + 3);
            }
            let index = address >> lowest & ((1 << bits) - 1);
            let (level, ipa) = (3 - below as i8, table + 8 * index);
            let (descriptor, unread) = match read(ipa) {
                Ok(value) if self.big_endian => (value.swap_bytes(), None),
                Ok(value) => (value, None),
                Err(unread) => (0, Some(unread)),
            };
            let next = self.next(descriptor, half.granule);
            end = Some(End {
                last: Last { level, ipa, unread },
                descriptor,
                next,
                below: lowest,
            });
            if descriptor & (VALID | TABLE) != VALID | TABLE {
                break;
            }
            table = next;
        }
        end
    }

    fn half(&self, upper: bool) -> Half {
        let (size, granule) = if upper {
            let granule = match self.tcr >> TCR_GRANULE_1 & 3 {
                0b01 => 14,
                0b11 => 16,
                _ => 12,
            };
            (self.tcr >> 16 & TCR_SIZE, granule)
        } else {
            let granule = match self.tcr >> TCR_GRANULE_0 & 3 {
                0b01 => 16,
                0b10 => 14,
                _ => 12,
            };
            (self.tcr & TCR_SIZE, granule)
        };
        let most = if granule == 16 || self.has_long_addresses() {
            52
        } else {
            48
        };
        Half {
            granule,
            address_bits: (64 - size as u32).min(most),
        }
    }

    /// Whether descriptors for granules of 4 and 16 KiB have 52 bits of an address.
    fn has_long_addresses(&self) -> bool {
        self.tcr & TCR_DS != 0
    }

    /// The root table's address, with less than the table's size left over in its low bits.
    fn root(&self, upper: bool, granule: u32) -> u64 {
        let register = self.tables[usize::from(upper)];
        let base = register & 0xffff_ffff_fffe;
        let is_long = match granule {
            16 => self.tcr >> TCR_IPS & 0b111 == IPS_52,
            _ => self.has_long_addresses(),
        };
        if is_long {
            // Such a table is a multiple of 64 bytes, and bits 5:2 are 51:48 of its address.
            base & !0x3f | (register >> 2 & 0xf) << 48
        } else {
            base
        }
    }

    /// The address of the table that a descriptor names.
    fn next(&self, descriptor: u64, granule: u32) -> u64 {
        let field = |low: u32, bits: u32| descriptor >> low & ((1 << bits) - 1);
        if granule == 16 {
            field(16, 32) << 16 | field(12, 4) << 48
        } else if self.has_long_addresses() {
            field(granule, 50 - granule) << granule | field(8, 2) << 50
        } else {
            field(granule, 48 - granule) << granule
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const TG0_64K: u64 = 0b01 << 14;
    const TG0_16K: u64 = 0b10 << 14;
    const TG1_16K: u64 = 0b01 << 30;
    const TG1_4K: u64 = 0b10 << 30;
    const TG1_64K: u64 = 0b11 << 30;

    /// What a guest's memory holds; elsewhere nothing is.
    type Memory = HashMap<u64, u64>;

    fn last(stage1: Stage1, address: u64, memory: &Memory) -> Option<Last<()>> {
        stage1.last_access(address, |ipa| memory.get(&ipa).copied().ok_or(()))
    }

    fn stage1(tcr: u64, lower: u64, upper: u64) -> Stage1 {
        Stage1 {
            tcr,
            tables: [lower, upper],
            big_endian: false,
        }
    }

    /// Follows `path`, from descriptor to the table that it names: the walk must end right behind,
    /// wherever it is cut.
    #[track_caller]
    fn follows(stage1: Stage1, address: u64, top: i8, path: &[(u64, u64)]) {
        for (count, &(ipa, _)) in path.iter().enumerate() {
            let memory: Memory = path[..count].iter().copied().collect();
            let level = top + count as i8;
            let unread = Some(());
            assert_eq!(
                last(stage1, address, &memory),
                Some(Last { level, ipa, unread })
            );
            for no_table in [0, 0b10, 0b01] {
                let mut memory = memory.clone();
                memory.insert(ipa, path[count].1 & !3 | no_table);
                let unread = None;
                assert_eq!(
                    last(stage1, address, &memory),
                    Some(Last { level, ipa, unread })
                );
            }
        }
        // A page is the end, also if it were a table.
        let memory: Memory = path.iter().copied().collect();
        let &(ipa, _) = path.last().expect("a walk");
        let unread = None;
        let level = 3;
        assert_eq!(
            last(stage1, address, &memory),
            Some(Last { level, ipa, unread })
        );
    }

    #[test]
    fn an_address_has_the_ipa_that_page_or_block_gives() {
        let address = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x567;
        let path = [
            (0x8000_1008, 0x8000_2003),
            (0x8000_2010, 0x8000_3003),
            (0x8000_3018, 0x8000_4003),
            (0x8000_4020, 0xffff_9000_0000_0703),
        ];
        let translate = |changed: usize, descriptor: Option<u64>| {
            let mut memory: Memory = path.iter().copied().collect();
            match descriptor {
                Some(value) => memory.insert(path[changed].0, value),
                None => memory.remove(&path[changed].0),
            };
            stage1(16, 0x8000_1000, 0)
                .translate(address, |ipa| memory.get(&ipa).copied().ok_or(ipa))
        };
        let page = Some(path[3].1);
        assert_eq!(translate(3, page), Ok(0x9000_0000_0567));
        // A block's low bits are the address's, whatever its descriptor has there.
        assert_eq!(translate(2, Some(0x8020_1401)), Ok(0x8020_4567));
        assert_eq!(translate(1, Some(0xc020_0401)), Ok(0xc060_4567));
        assert_eq!(translate(3, Some(0x9000_0401)), Err(Untranslated::Invalid));
        for (level, &(ipa, _)) in path.iter().enumerate() {
            assert_eq!(translate(level, Some(0)), Err(Untranslated::Invalid));
            assert_eq!(translate(level, None), Err(Untranslated::Unread(ipa)));
        }
        let nothing_to_walk = stage1(63, 0, 0).translate(0, |_| Err(()));
        assert_eq!(nothing_to_walk, Err(Untranslated::Invalid));
    }

    #[test]
    fn a_page_of_64_kib_gives_sixteen_bits() {
        let address = 5 << 42 | 6 << 29 | 7 << 16 | 0x2345;
        let memory: Memory = [
            (0x8001_0028, 0x8002_0003),
            (0x8002_0030, 0x8003_0003),
            (0x8003_0038, 0x9004_0703),
        ]
        .into();
        let ipa = stage1(TG0_64K | 16, 0x8001_0000, 0)
            .translate(address, |ipa| memory.get(&ipa).copied().ok_or(()));
        assert_eq!(ipa, Ok(0x9004_2345));
    }

    #[test]
    fn four_levels_of_4_kib() {
        // Indices 1, 2, 3 and 4. CnP and an ASID are no part of the root's address.
        let address = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x567;
        let path = [
            (0x8000_1008, 0x8000_2003),
            (0x8000_2010, 0x8000_3003),
            (0x8000_3018, 0xffff_8000_4000_0403 | 0xf << 56),
            (0x8000_4000_0020, 0x9000_0703),
        ];
        follows(stage1(16, 5 << 48 | 0x8000_1001, 0), address, 0, &path);
        // The upper half has its own size and granule; the tag does not matter.
        let upper = 0xaaff_0000_0000_0000 | address;
        let tcr = TG1_4K | 16 << 16 | TG0_64K | 25;
        follows(stage1(tcr, 0, 0x8000_1000), upper, 0, &path);
    }

    #[test]
    fn fewer_bits_have_a_smaller_root_or_fewer_levels() {
        let path = [
            (0x4000_1018, 0x4000_2003),
            (0x4000_2020, 0x4000_3003),
            (0x4000_3028, 3),
        ];
        let address = 3 << 30 | 4 << 21 | 5 << 12;
        follows(stage1(25, 0x4000_1000, 0), address, 1, &path);
        // 33 bits: a root of eight entries, anywhere.
        let path = [(0x4000_1058, 0x4000_2003), path[1], path[2]];
        follows(stage1(31, 0x4000_1040, 0), address, 1, &path);
        // 30 bits: from level 2 on. 16 bits: one entry for each of 16 pages.
        follows(
            stage1(34, 0x4000_2000, 0),
            address & !(7 << 30),
            2,
            &path[1..],
        );
        follows(stage1(48, 0x4000_3080, 0), 5 << 12, 3, &[(0x4000_30a8, 3)]);
    }

    #[test]
    fn pages_of_16_kib() {
        // Indices 1, 2, 3 and 4 of 1, 11, 11 and 11 bits.
        let address = 1 << 47 | 2 << 36 | 3 << 25 | 4 << 14;
        let path = [
            (0x4000_0008, 0x4000_4003),
            (0x4000_4010, 0x4000_8003),
            (0x4000_8018, 0x4000_c003),
            (0x4000_c020, 3),
        ];
        follows(stage1(TG0_16K | 16, 0x4000_0000, 0), address, 0, &path);
        let upper = 0xffff << 48 | address;
        let tcr = TG1_16K | 16 << 16;
        follows(stage1(tcr, 0, 0x4000_0000), upper, 0, &path);
    }

    #[test]
    fn pages_of_64_kib() {
        // Indices 1, 2 and 3 of 6, 13 and 13 bits.
        let address = 1 << 42 | 2 << 29 | 3 << 16;
        let path = [
            (0x4000_0008, 0x4001_0003),
            (0x4001_0010, 0x4002_0003),
            (0x4002_0018, 3),
        ];
        follows(stage1(TG0_64K | 16, 0x4000_0000, 0), address, 1, &path);
        let upper = 0xffff << 48 | address;
        follows(stage1(TG1_64K | 16 << 16, 0, 0x4000_0000), upper, 1, &path);
        // 52 bits of everything: FEAT_LVA and FEAT_LPA.
        let long = 0x3ff << 42 | address;
        let path = [
            (0x5_0000_4000_0000 + 8 * 0x3ff, 0x4001_9003),
            (0x9_0000_4001_0010, 0x4002_3003),
            (0x3_0000_4002_0018, 3),
        ];
        let tcr = TG0_64K | IPS_52 << 32 | 12;
        follows(stage1(tcr, 0x4000_0000 | 5 << 2 | 1, 0), long, 1, &path);
    }

    #[test]
    fn long_addresses_of_4_and_16_kib() {
        let address = 1 << 48 | 2 << 39 | 3 << 30 | 4 << 21 | 5 << 12;
        let path = [
            (0xc_0000_4000_0088, 0x1_0000_4000_1003 | 0b11 << 8),
            (0xd_0000_4000_1010, 0x4000_2003),
            (0x4000_2018, 0x2_0000_4000_3003),
            (0x2_0000_4000_3020, 0x4000_4003),
            (0x4000_4028, 3),
        ];
        let tcr = TCR_DS | 12;
        follows(stage1(tcr, 0x4000_0080 | 0xc << 2, 0), address, -1, &path);
        let address = 0x1f << 47 | 2 << 36 | 3 << 25 | 4 << 14;
        let path = [
            (0x4000_00f8, 0x4000_4103),
            (0x4_0000_4000_4010, 0x4000_8003),
            (0x4000_8018, 0x4000_c003),
            (0x4000_c020, 3),
        ];
        let tcr = TG0_16K | TCR_DS | 12;
        follows(stage1(tcr, 0x4000_0000, 0), address, 0, &path);
    }

    #[test]
    fn big_endian_tables() {
        let stage1 = Stage1 {
            big_endian: true,
            ..stage1(25, 0x4000_0000, 0)
        };
        let memory = Memory::from([(0x4000_0000, 0x4000_1003_u64.swap_bytes())]);
        let end = last(stage1, 0, &memory).expect("a walk");
        assert_eq!((end.level, end.ipa), (2, 0x4000_1000));
    }

    #[test]
    fn a_table_that_names_itself_is_left() {
        let memory = Memory::from([(0x4000_0000, 0x4000_0003)]);
        let end = last(stage1(16, 0x4000_0000, 0), 0, &memory).expect("a walk");
        assert_eq!((end.level, end.unread), (3, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn whatever_the_registers_hold(
            tcr: u64,
            tables: [u64; 2],
            big_endian: bool,
            address: u64,
            descriptors: [u64; 5],
        ) {
            let stage1 = Stage1 { tcr, tables, big_endian };
            let table = if big_endian { 3 << 56 } else { 3 };
            let mut read = Vec::new();
            let end = stage1.last_access(address, |ipa| {
                read.push(ipa);
                Ok::<_, ()>(descriptors[read.len() - 1] | table)
            });
            prop_assert_eq!(end.map(|end| (end.level, end.ipa)), read.last().map(|&ipa| (3, ipa)));
            prop_assert!(read.iter().all(|ipa| ipa % 8 == 0 && *ipa < 1 << 52));
            let cut = stage1.last_access(address, |_| Err(()));
            let top = (4 - read.len() as i8, read.first().copied());
            prop_assert_eq!(cut.map(|end| (end.level, Some(end.ipa))), end.map(|_| top));
        }
    }
}
