//! The CPU's identity: its model, and what its ID registers say of speculation.

use arch::id::{Ids, index};

/// How often Arm's loop against Spectre-BHB goes round on one model or another: the `K` of the
/// white paper.
pub const LOOPS: [u8; 6] = [8, 11, 24, 32, 38, 132];

/// What says which CPU this is and how it speculates: `MIDR_EL1` and ID registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `MIDR_EL1`.
    pub midr: u64,
    /// `ID_AA64PFR0_EL1`.
    pub pfr0: u64,
    /// `ID_AA64PFR1_EL1`.
    pub pfr1: u64,
    /// `ID_AA64MMFR1_EL1`.
    pub mmfr1: u64,
    /// `ID_AA64ISAR2_EL1`.
    pub isar2: u64,
}

/// `ID_AA64ISAR2_EL1.CLRBHB`.
pub(crate) const CLRBHB_SHIFT: u32 = 28;

impl Identity {
    /// A CPU with this `MIDR_EL1` and these ID registers.
    pub const fn new(midr: u64, ids: &Ids) -> Self {
        Self {
            midr,
            pfr0: ids.get(index(4, 0)),
            pfr1: ids.get(index(4, 1)),
            mmfr1: ids.get(index(7, 1)),
            isar2: ids.get(index(6, 2)),
        }
    }

    /// Branch targets of other contexts do not matter (FEAT_CSV2), and from 3 on their history does
    /// not either.
    pub(crate) const fn csv2(&self) -> u64 {
        field(self.pfr0, 56)
    }

    /// What is loaded without the right to it is not used (FEAT_CSV3).
    pub(crate) const fn has_csv3(&self) -> bool {
        field(self.pfr0, 60) != 0
    }

    /// `PSTATE.SSBS` says whether loads may bypass older stores (FEAT_SSBS).
    pub const fn has_ssbs(&self) -> bool {
        field(self.pfr1, 4) != 0
    }

    /// An exception to a higher level clears the history of branches (FEAT_ECBHB).
    pub(crate) const fn has_ecbhb(&self) -> bool {
        field(self.mmfr1, 60) != 0
    }

    /// There is an instruction that does (FEAT_CLRBHB).
    pub(crate) const fn has_clrbhb(&self) -> bool {
        field(self.isar2, CLRBHB_SHIFT) != 0
    }

    /// The CPU's model.
    pub(crate) const fn model(&self) -> Model {
        Model {
            implementer: (self.midr >> 24) as u8,
            part: (self.midr >> 4) as u16 & 0xfff,
        }
    }
}

const fn field(register: u64, shift: u32) -> u64 {
    register >> shift & 0xf
}

/// A model of CPU, of whatever revision: the implementer and the part number of `MIDR_EL1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) implementer: u8,
    pub(crate) part: u16,
}

const fn arm(part: u16) -> Model {
    Model {
        implementer: 0x41,
        part,
    }
}

const CORTEX_A35: Model = arm(0xd04);
const CORTEX_A53: Model = arm(0xd03);
const CORTEX_A55: Model = arm(0xd05);
const CORTEX_A57: Model = arm(0xd07);
const CORTEX_A72: Model = arm(0xd08);
const CORTEX_A73: Model = arm(0xd09);
const CORTEX_A76: Model = arm(0xd0b);
const CORTEX_A76AE: Model = arm(0xd0e);
const CORTEX_A77: Model = arm(0xd0d);
const CORTEX_A78: Model = arm(0xd41);
const CORTEX_A78AE: Model = arm(0xd42);
const CORTEX_A78C: Model = arm(0xd4b);
const CORTEX_A510: Model = arm(0xd46);
const CORTEX_A520: Model = arm(0xd80);
const CORTEX_A710: Model = arm(0xd47);
const CORTEX_A715: Model = arm(0xd4d);
const CORTEX_A720: Model = arm(0xd81);
const CORTEX_X1: Model = arm(0xd44);
const CORTEX_X1C: Model = arm(0xd4c);
const CORTEX_X2: Model = arm(0xd48);
const CORTEX_X3: Model = arm(0xd4e);
const NEOVERSE_N1: Model = arm(0xd0c);
const NEOVERSE_N2: Model = arm(0xd49);
const NEOVERSE_V1: Model = arm(0xd40);
const NEOVERSE_V2: Model = arm(0xd4f);
const AMPERE_1: Model = Model {
    implementer: 0xc0,
    part: 0xac3,
};

impl Model {
    /// It does not speculate far enough for any of these attacks.
    pub(crate) const fn is_simple(self) -> bool {
        matches!(self, CORTEX_A35 | CORTEX_A53 | CORTEX_A55)
    }

    /// The history of branches cannot be used against it.
    pub(crate) const fn ignores_history(self) -> bool {
        self.is_simple() || matches!(self, CORTEX_A510 | CORTEX_A520)
    }

    /// It uses nothing that it has loaded without the right to, although it does not say so.
    pub(crate) const fn checks_before_use(self) -> bool {
        self.is_simple() || matches!(self, CORTEX_A57 | CORTEX_A72 | CORTEX_A73)
    }

    /// How often Arm's loop goes round on it to overwrite the history of branches; one of
    /// [`LOOPS`].
    pub(crate) const fn loops(self) -> Option<u8> {
        Some(match self {
            CORTEX_A57 | CORTEX_A72 => 8,
            AMPERE_1 => 11,
            CORTEX_A76 | CORTEX_A76AE | CORTEX_A77 | NEOVERSE_N1 => 24,
            CORTEX_A78 | CORTEX_A78AE | CORTEX_A78C | CORTEX_X1 | CORTEX_X1C => 32,
            CORTEX_A710 | CORTEX_X2 | NEOVERSE_N2 | NEOVERSE_V1 => 32,
            CORTEX_A715 | CORTEX_A720 => 38,
            CORTEX_X3 | NEOVERSE_V2 => 132,
            _ => return None,
        })
    }
}
