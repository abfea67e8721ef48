//! What CPUs can do for stage 2, and what registers are set to for it.

use crate::descriptor::Format;
use crate::geometry::{Geometry, GeometryError};
use crate::meta::Owner;
use crate::stage2::Config;

/// The ID registers that tell what CPUs can do for stage 2. On a machine whose CPUs differ, what
/// all have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// ID_AA64MMFR0_EL1.
    pub mmfr0: u64,
    /// ID_AA64MMFR1_EL1.
    pub mmfr1: u64,
    /// ID_AA64MMFR2_EL1.
    pub mmfr2: u64,
    /// ID_AA64ISAR0_EL1.
    pub isar0: u64,
    /// CTR_EL0.
    pub ctr: u64,
}

/// What CPUs can do for stage 2.
///
/// Fields of ID registers are read as unsigned "at least" values, so that a CPU newer than this
/// crate is taken for the newest one that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Bits of a physical address (`PARange`).
    pub pa_bits: u8,
    /// Bits of a VMID: 8, or 16 with FEAT_VMID16.
    pub vmid_bits: u8,
    /// FEAT_TLBIRANGE: TLB invalidation by range.
    pub range_tlbi: bool,
    /// FEAT_TTL: TLB invalidation with a level hint.
    pub level_hint: bool,
    /// FEAT_BBM: how a live entry may change its size, level 0 (only through break-before-make)
    /// to 2.
    pub bbm_level: u8,
    /// FEAT_HAFDBS: the hardware sets the access flag.
    pub hardware_access_flag: bool,
    /// FEAT_HAFDBS: the hardware sets the dirty state too.
    pub hardware_dirty_state: bool,
    /// FEAT_XNX: stage 2 tells execution at EL0 from that at EL1.
    pub execute_never_by_level: bool,
    /// FEAT_S2FWB: stage 2 can force memory to be write-back.
    pub force_write_back: bool,
    /// `CTR_EL0.DIC`: instruction caches need no invalidation to follow data.
    pub instructions_follow_data: bool,
}

/// `HCR_EL2.VM`: stage 2 translates.
const HCR_VM: u64 = 1 << 0;
/// `HCR_EL2.RW`: EL1 is AArch64.
const HCR_RW: u64 = 1 << 31;
/// `HCR_EL2.FWB`: stage 2 can force memory to be write-back.
const HCR_FWB: u64 = 1 << 46;

impl Abilities {
    /// Those of the oldest CPU that there may be.
    pub const NONE: Self = Self::decode(&IdRegisters {
        mmfr0: 0,
        mmfr1: 0,
        mmfr2: 0,
        isar0: 0,
        ctr: 0,
    });

    /// Takes the registers apart.
    ///
    /// ```
    /// use stage2::aarch64::{Abilities, IdRegisters};
    ///
    /// // A Cortex-A57.
    /// let abilities = Abilities::decode(&IdRegisters { mmfr0: 0x1124, ..IdRegisters::default() });
    /// assert_eq!((abilities.pa_bits, abilities.vmid_bits), (44, 8));
    /// assert!(!abilities.range_tlbi);
    /// ```
    pub const fn decode(ids: &IdRegisters) -> Self {
        let &IdRegisters {
            mmfr0,
            mmfr1,
            mmfr2,
            isar0,
            ctr,
        } = ids;
        let dirty = field(mmfr1, 0);
        Self {
            pa_bits: match field(mmfr0, 0) {
                0 => 32,
                1 => 36,
                2 => 40,
                3 => 42,
                4 => 44,
                5 => 48,
                _ => 52,
            },
            vmid_bits: if field(mmfr1, 4) >= 2 { 16 } else { 8 },
            range_tlbi: field(isar0, 56) >= 2,
            level_hint: field(mmfr2, 48) >= 1,
            bbm_level: match field(mmfr2, 52) {
                level @ 0..=2 => level,
                _ => 2,
            },
            hardware_access_flag: dirty >= 1,
            hardware_dirty_state: dirty >= 2,
            execute_never_by_level: field(mmfr1, 28) >= 1,
            force_write_back: field(mmfr2, 40) >= 1,
            instructions_follow_data: ctr >> 29 & 1 == 1,
        }
    }

    /// Bits of an address in 64-bit descriptors of 4 KiB tables: physical addresses beyond 48 bits
    /// take FEAT_LPA2's descriptors, which are not used.
    pub const fn table_pa_bits(&self) -> u8 {
        if self.pa_bits > 48 { 48 } else { self.pa_bits }
    }

    /// The format of leaves on these CPUs.
    pub const fn format(&self) -> Format {
        Format {
            force_write_back: self.force_write_back,
            execute_never_by_level: self.execute_never_by_level,
            hardware_dirty: self.hardware_dirty_state,
        }
    }

    /// The tables of a VM with guest addresses of `ipa_bits`, which belong to `owner`.
    ///
    /// # Errors
    ///
    /// The CPUs, or sixteen root tables, do not have such addresses.
    pub const fn config(&self, owner: Owner, ipa_bits: u32) -> Result<Config, GeometryError> {
        match Geometry::new(ipa_bits, self.table_pa_bits() as u32) {
            Ok(geometry) => Ok(Config {
                geometry,
                format: self.format(),
                owner,
                direct_size_change: self.bbm_level >= 2,
            }),
            Err(error) => Err(error),
        }
    }

    /// VTCR_EL2 for tables of this shape, with all that the CPUs can do: inner shareable,
    /// write-back walks.
    pub const fn vtcr(&self, geometry: Geometry) -> u64 {
        const RES1: u64 = 1 << 31;
        const SH0_INNER: u64 = 0b11 << 12;
        const ORGN0_WRITE_BACK: u64 = 0b01 << 10;
        const IRGN0_WRITE_BACK: u64 = 0b01 << 8;
        let physical_size = match self.table_pa_bits() {
            0..36 => 0,
            36..40 => 1,
            40..42 => 2,
            42..44 => 3,
            44..48 => 4,
            _ => 5,
        };
        geometry.vtcr()
            | physical_size << 16
            | ((self.vmid_bits == 16) as u64) << 19
            | (self.hardware_access_flag as u64) << 21
            | (self.hardware_dirty_state as u64) << 22
            | SH0_INNER
            | ORGN0_WRITE_BACK
            | IRGN0_WRITE_BACK
            | RES1
    }

    /// The bits of HCR_EL2 that have a guest in AArch64 at EL1 translated by stage 2: VM, RW, and
    /// FWB where memory can be forced to be write-back. What else is trapped is the hypervisor's
    /// business.
    pub const fn hcr(&self) -> u64 {
        HCR_VM | HCR_RW | if self.force_write_back { HCR_FWB } else { 0 }
    }
}

/// The unsigned four-bit field of an ID register whose lowest bit is `shift`.
const fn field(register: u64, shift: u32) -> u8 {
    (register >> shift & 0xf) as u8
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    // As QEMU 7.2 gives them at EL2.
    const CORTEX_A57: IdRegisters = IdRegisters {
        mmfr0: 0x1124,
        mmfr1: 0,
        mmfr2: 0,
        isar0: 0x1_1120,
        ctr: 0x8444_c004,
    };
    const NEWEST: IdRegisters = IdRegisters {
        mmfr0: u64::MAX,
        mmfr1: u64::MAX,
        mmfr2: u64::MAX,
        isar0: u64::MAX,
        ctr: u64::MAX,
    };

    #[test]
    fn an_old_core_can_do_little_and_an_unknown_one_what_is_known() {
        let old = Abilities::decode(&CORTEX_A57);
        assert_eq!((old.pa_bits, old.vmid_bits, old.bbm_level), (44, 8, 0));
        assert!(!old.range_tlbi && !old.level_hint && !old.force_write_back);
        let new = Abilities::decode(&NEWEST);
        assert_eq!((new.pa_bits, new.table_pa_bits()), (52, 48));
        assert_eq!((new.vmid_bits, new.bbm_level), (16, 2));
        assert!(new.range_tlbi && new.hardware_dirty_state && new.instructions_follow_data);
    }

    /// Each field of VTCR_EL2 by its place (Arm ARM, `VTCR_EL2`).
    #[test]
    fn vtcr_says_what_the_tables_and_the_cpus_are_like() {
        let owner = Owner::new(1).unwrap();
        for (ids, ps, vs, ha, hd) in [(CORTEX_A57, 4, 0, 0, 0), (NEWEST, 5, 1, 1, 1)] {
            let abilities = Abilities::decode(&ids);
            let config = abilities.config(owner, 40).unwrap();
            let vtcr = abilities.vtcr(config.geometry);
            assert_eq!(vtcr & 0x3f, 64 - 40, "T0SZ");
            assert_eq!(vtcr >> 6 & 0b11, 1, "SL0: the walk starts at level 1");
            assert_eq!(vtcr >> 8 & 0xff, 0b0011_0101, "TG0, SH0, ORGN0, IRGN0");
            assert_eq!(vtcr >> 16 & 0b111, ps, "PS");
            assert_eq!([19, 21, 22, 31].map(|bit| vtcr >> bit & 1), [vs, ha, hd, 1]);
            assert_eq!(vtcr >> 23 & 0xff, 0, "nothing else");
            assert_eq!(config.direct_size_change, ids == NEWEST);
        }
        assert!(Abilities::decode(&CORTEX_A57).config(owner, 48).is_err());
    }

    #[test]
    fn hcr_forces_write_back_exactly_where_the_format_says_so() {
        for ids in [CORTEX_A57, NEWEST] {
            let abilities = Abilities::decode(&ids);
            let forced = abilities.hcr() & HCR_FWB != 0;
            assert_eq!(forced, abilities.format().force_write_back);
            assert_eq!(abilities.hcr() & !HCR_FWB, 0x8000_0001);
        }
    }
}
