//! What the CPUs of the machine can do, decoded from what their ID registers have in common.
//!
//! Fields and encodings are those of the Arm ARM's `ID_AA64*` registers. Fields are read as
//! unsigned "at least" values, so that a CPU newer than this file is taken for the newest one it
//! knows.

use core::fmt;

use crate::id::{Ids, index};
use stage2::aarch64::{Abilities, IdRegisters};

/// What every CPU of a machine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// What stage 2 can do.
    pub stage2: Abilities,
    /// FEAT_LSE: atomic instructions.
    pub lse: bool,
    /// FEAT_PAN: EL1 can be kept from what EL0 may access.
    pub pan: bool,
    /// FEAT_SSBS: speculation past stores can be forbidden.
    pub ssbs: bool,
    /// FEAT_PAuth: pointer authentication.
    pub pointer_authentication: bool,
    /// FEAT_MTE2: memory tags, with their storage.
    pub memory_tagging: bool,
    /// FEAT_SVE.
    pub sve: bool,
}

impl Features {
    /// Decodes what CPUs have in common.
    pub fn decode(ids: &Ids) -> Self {
        let [mmfr0, mmfr1, mmfr2] = [0, 1, 2].map(|number| ids.get(index(7, number)));
        let [isar0, isar1, isar2] = [0, 1, 2].map(|number| ids.get(index(6, number)));
        let [pfr0, pfr1] = [0, 1].map(|number| ids.get(index(4, number)));
        // APA, API, GPA and GPI, or APA3 and GPA3: any of the algorithms.
        let pointer_authentication = isar1 & 0xff00_0ff0 != 0 || isar2 & 0xff00 != 0;
        Self {
            stage2: Abilities::decode(&IdRegisters {
                mmfr0,
                mmfr1,
                mmfr2,
                isar0,
                ctr: ids.cache_type(),
            }),
            lse: field(isar0, 20) >= 2,
            pan: field(mmfr1, 20) >= 1,
            ssbs: field(pfr1, 4) >= 1,
            pointer_authentication,
            memory_tagging: field(pfr1, 8) >= 2,
            sve: field(pfr0, 32) >= 1,
        }
    }

    /// The features as rows of a table: what it is, Arm's name for it, what there is.
    pub fn rows(&self) -> [Row; 14] {
        let row = |what, arm_name, value| Row {
            what,
            arm_name,
            value,
        };
        [
            row(
                "physical address",
                "PARange",
                Value::Bits(self.stage2.pa_bits),
            ),
            row("VMID", "FEAT_VMID16", Value::Bits(self.stage2.vmid_bits)),
            row(
                "TLB invalidation by range",
                "FEAT_TLBIRANGE",
                self.stage2.range_tlbi.into(),
            ),
            row("TLB level hint", "FEAT_TTL", self.stage2.level_hint.into()),
            row(
                "block size change",
                "FEAT_BBM",
                Value::Level(self.stage2.bbm_level),
            ),
            row(
                "hardware access flag",
                "FEAT_HAFDBS",
                self.stage2.hardware_access_flag.into(),
            ),
            row(
                "hardware dirty state",
                "FEAT_HAFDBS",
                self.stage2.hardware_dirty_state.into(),
            ),
            row(
                "execute-never by level",
                "FEAT_XNX",
                self.stage2.execute_never_by_level.into(),
            ),
            row(
                "forced write-back",
                "FEAT_S2FWB",
                self.stage2.force_write_back.into(),
            ),
            row(
                "instructions follow data",
                "CTR_EL0.DIC",
                self.stage2.instructions_follow_data.into(),
            ),
            row("atomic instructions", "FEAT_LSE", self.lse.into()),
            row(
                "pointer authentication",
                "FEAT_PAuth",
                self.pointer_authentication.into(),
            ),
            row("memory tagging", "FEAT_MTE2", self.memory_tagging.into()),
            row("scalable vectors", "FEAT_SVE", self.sve.into()),
        ]
    }
}

/// The unsigned four-bit field of an ID register whose lowest bit is `shift`.
const fn field(register: u64, shift: u32) -> u8 {
    (register >> shift & 0xf) as u8
}

/// One row of the feature table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    what: &'static str,
    arm_name: &'static str,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Bits(u8),
    Level(u8),
    Present(bool),
}

impl From<bool> for Value {
    fn from(present: bool) -> Self {
        Self::Present(present)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<26} {:<15} ", self.what, self.arm_name)?;
        match self.value {
            Value::Bits(bits) => write!(f, "{bits} bits"),
            Value::Level(level) => write!(f, "level {level}"),
            Value::Present(true) => f.write_str("yes"),
            Value::Present(false) => f.write_str("no"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::COUNT;

    /// The registers of a CPU: CRm and Op2 of each, with its value.
    type Registers = [((u32, u32), u64)];

    // As QEMU 7.2 gives them at EL2.
    const CORTEX_A57: &Registers = &[((7, 0), 0x1124), ((6, 0), 0x1_1120), ((4, 0), 0x100_0222)];
    const NEOVERSE_N1: &Registers = &[
        ((7, 0), 0x10_1125),
        ((7, 1), 0x1021_2122),
        ((7, 2), 0x1011),
        ((6, 0), 0x1000_1021_1120),
        ((6, 1), 0x10_0001),
        ((4, 0), 0x1100_0000_1111_0112),
        ((4, 1), 0x20),
    ];
    const MAX: &Registers = &[
        ((7, 0), 0x323_1020_1126),
        ((7, 1), 0x110_1021_1122),
        ((7, 2), 0x1021_0110_1001_1011),
        ((6, 0), 0x1221_1111_1021_2120),
        ((6, 1), 0x11_1111_0121_1012),
        ((4, 0), 0x1201_0011_2111_0222),
        ((4, 1), 0x100_0021),
    ];

    fn ids(registers: &Registers) -> Ids {
        let mut values = [0; COUNT];
        for &((crm, op2), value) in registers {
            values[index(crm, op2)] = value;
        }
        Ids::new(values)
    }

    fn decode(registers: &Registers) -> Features {
        Features::decode(&ids(registers))
    }

    const SMALLEST: Features = Features {
        stage2: Abilities {
            pa_bits: 44,
            ..Abilities::NONE
        },
        lse: false,
        pan: false,
        ssbs: false,
        pointer_authentication: false,
        memory_tagging: false,
        sve: false,
    };

    #[test]
    fn cortex_a57_has_nothing_beyond_armv8_0() {
        assert_eq!(decode(CORTEX_A57), SMALLEST);
    }

    #[test]
    fn neoverse_n1_has_what_armv8_2_brought() {
        assert_eq!(
            decode(NEOVERSE_N1),
            Features {
                stage2: Abilities {
                    pa_bits: 48,
                    vmid_bits: 16,
                    hardware_access_flag: true,
                    hardware_dirty_state: true,
                    execute_never_by_level: true,
                    ..Abilities::NONE
                },
                lse: true,
                pan: true,
                ssbs: true,
                ..SMALLEST
            }
        );
    }

    #[test]
    fn max_has_everything_but_tag_storage() {
        let features = decode(MAX);
        assert_eq!(
            features,
            Features {
                stage2: Abilities {
                    pa_bits: 52,
                    vmid_bits: 16,
                    range_tlbi: true,
                    level_hint: true,
                    bbm_level: 2,
                    hardware_access_flag: true,
                    hardware_dirty_state: true,
                    execute_never_by_level: true,
                    force_write_back: true,
                    instructions_follow_data: false,
                },
                lse: true,
                pan: true,
                ssbs: true,
                pointer_authentication: true,
                memory_tagging: false,
                sve: true,
            }
        );
        assert_eq!(features.stage2.table_pa_bits(), 48);
    }

    #[test]
    fn instruction_caches_follow_where_those_of_all_cpus_do() {
        let [follows, not] = [1 << 29, 0].map(|ctr| ids(MAX).with_cache_type(ctr));
        assert!(
            Features::decode(&follows.common(&follows))
                .stage2
                .instructions_follow_data
        );
        assert!(
            !Features::decode(&follows.common(&not))
                .stage2
                .instructions_follow_data
        );
    }

    #[test]
    fn any_algorithm_authenticates_pointers() {
        let has = |op2, value| decode(&[((6, op2), value)]).pointer_authentication;
        for field in [4, 8, 24, 28] {
            assert!(has(1, 1 << field), "ISAR1, bit {field}");
        }
        for field in [8, 12] {
            assert!(has(2, 1 << field), "ISAR2, bit {field}");
        }
        assert!(!has(1, 0xf000) && !has(2, 0xff00_00ff));
    }

    #[test]
    fn values_of_the_future_count_as_the_newest_known() {
        let features = decode(&[
            ((7, 0), 0xf),
            ((7, 1), 0xffff_ffff),
            ((7, 2), u64::MAX),
            ((6, 0), u64::MAX),
        ]);
        assert_eq!(features.stage2.pa_bits, 52);
        assert_eq!(features.stage2.bbm_level, 2);
        assert!(features.stage2.range_tlbi && features.stage2.hardware_dirty_state && features.lse);
    }

    #[test]
    fn a_machine_has_what_all_its_cpus_have() {
        let common = |one, other| Features::decode(&ids(one).common(&ids(other)));
        let [a57, n1] = [CORTEX_A57, NEOVERSE_N1].map(decode);
        assert_eq!(common(MAX, NEOVERSE_N1), n1);
        assert_eq!(common(NEOVERSE_N1, CORTEX_A57), a57);
        assert_eq!(common(CORTEX_A57, NEOVERSE_N1), a57);
    }

    #[test]
    fn rows_line_up() {
        let rows = decode(MAX).rows().map(|row| row.to_string());
        assert_eq!(
            rows[0],
            "physical address           PARange         52 bits"
        );
        assert_eq!(
            rows[4],
            "block size change          FEAT_BBM        level 2"
        );
        assert_eq!(rows[12], "memory tagging             FEAT_MTE2       no");
    }
}
