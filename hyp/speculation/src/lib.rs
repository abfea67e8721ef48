//! What a CPU needs against attacks by speculation, and what the hypervisor does about each.
//!
//! A CPU executes instructions ahead that it may have to take back, and what these have left in
//! caches can be measured. So a guest that has trained the CPU's branch predictors could have EL2,
//! which maps all guests' memory, load what no guest may see. Whether a CPU can be misled like that
//! is said by its ID registers, by its model, and by the firmware, as Arm's documents lay down:
//! *Cache Speculation Side-channels* and *Spectre-BHB: Speculative Target Reuse Attacks* for the
//! models, DEN 0070, *Firmware interfaces for mitigating cache speculation vulnerabilities*, and
//! DEN 0028 for the calls, the Arm ARM for the registers.
//!
//! [`Protection::decide`] makes of these what is done on one CPU; those of a machine may differ.
//! [`Attacks::common`] is what can be said of all, and [`Answers`] is what guests are told.

#![cfg_attr(not(test), no_std)]

pub mod masked;

use core::fmt;

use arch::id::{Ids, index};
use bootargs::Mitigations;

/// `SMCCC_ARCH_WORKAROUND_1`: makes the CPU forget what its branch predictors have learnt.
pub const ARCH_WORKAROUND_1: u32 = 0x8000_8000;
/// `SMCCC_ARCH_WORKAROUND_2`: keeps loads from bypassing older stores (x1 = 1), or lets them again
/// (0).
pub const ARCH_WORKAROUND_2: u32 = 0x8000_7fff;
/// `SMCCC_ARCH_WORKAROUND_3`: as the first, and the history of branches is forgotten, too.
pub const ARCH_WORKAROUND_3: u32 = 0x8000_3fff;

/// Says whether the firmware has a call; that of PSCI knows of [`SMCCC_VERSION`], too.
const PSCI_FEATURES: u32 = 0x8400_000a;
/// The version of the calls' convention, and the first that has [`SMCCC_ARCH_FEATURES`].
const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_1_1: i32 = 0x1_0001;
/// Says whether there is a call of the architecture's.
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

/// What `SMCCC_ARCH_FEATURES` answers if there is no such call, or it cannot help.
const NOT_SUPPORTED: i32 = -1;
/// What it answers for `ARCH_WORKAROUND_2` if no CPU needs the call.
const NOT_REQUIRED: i32 = -2;
/// What it answers for a call that this CPU needs.
const NEEDED: i32 = 0;
/// What it answers for a call that is there for other CPUs than this.
const UNAFFECTED: i32 = 1;

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
const CLRBHB_SHIFT: u32 = 28;

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
    const fn csv2(&self) -> u64 {
        field(self.pfr0, 56)
    }

    /// What is loaded without the right to it is not used (FEAT_CSV3).
    const fn has_csv3(&self) -> bool {
        field(self.pfr0, 60) != 0
    }

    /// `PSTATE.SSBS` says whether loads may bypass older stores (FEAT_SSBS).
    pub const fn has_ssbs(&self) -> bool {
        field(self.pfr1, 4) != 0
    }

    /// An exception to a higher level clears the history of branches (FEAT_ECBHB).
    const fn has_ecbhb(&self) -> bool {
        field(self.mmfr1, 60) != 0
    }

    /// There is an instruction that does (FEAT_CLRBHB).
    const fn has_clrbhb(&self) -> bool {
        field(self.isar2, CLRBHB_SHIFT) != 0
    }

    /// The CPU's model.
    const fn model(&self) -> Model {
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
struct Model {
    implementer: u8,
    part: u16,
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
    const fn is_simple(self) -> bool {
        matches!(self, CORTEX_A35 | CORTEX_A53 | CORTEX_A55)
    }

    /// The history of branches cannot be used against it.
    const fn ignores_history(self) -> bool {
        self.is_simple() || matches!(self, CORTEX_A510 | CORTEX_A520)
    }

    /// It uses nothing that it has loaded without the right to, although it does not say so.
    const fn checks_before_use(self) -> bool {
        self.is_simple() || matches!(self, CORTEX_A57 | CORTEX_A72 | CORTEX_A73)
    }

    /// How often Arm's loop goes round on it to overwrite the history of branches; one of
    /// [`LOOPS`].
    const fn loops(self) -> Option<u8> {
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

/// What the firmware says of one of its calls, on the CPU that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// There is no such call.
    #[default]
    Missing,
    /// This CPU needs it.
    Needed,
    /// This CPU does not.
    NotNeeded,
}

impl Offer {
    const fn new(answer: i32) -> Self {
        match answer {
            NEEDED => Self::Needed,
            UNAFFECTED => Self::NotNeeded,
            _ => Self::Missing,
        }
    }
}

/// What the firmware says of its workarounds, on the CPU that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    workaround_1: Offer,
    workaround_2: Offer,
    workaround_3: Offer,
}

impl Firmware {
    /// Asks; `call` makes the call of 32 bits that its first argument names, with the second as
    /// that call's own.
    ///
    /// That there is a call to ask by has to be asked for, too, since firmware of old may do
    /// anything with functions that it does not know (DEN 0028, appendix B).
    pub fn ask(call: impl Fn(u32, u32) -> i32) -> Self {
        let can_ask =
            call(PSCI_FEATURES, SMCCC_VERSION) >= 0 && call(SMCCC_VERSION, 0) >= SMCCC_1_1;
        if !can_ask {
            return Self::default();
        }
        let features = |function| call(SMCCC_ARCH_FEATURES, function);
        let offer = |function| Offer::new(features(function));
        Self {
            workaround_1: offer(ARCH_WORKAROUND_1),
            workaround_2: match features(ARCH_WORKAROUND_2) {
                NOT_REQUIRED => Offer::NotNeeded,
                answer => Offer::new(answer),
            },
            workaround_3: offer(ARCH_WORKAROUND_3),
        }
    }

    /// A firmware that offers all.
    const HELPFUL: Self = Self {
        workaround_1: Offer::Needed,
        workaround_2: Offer::Needed,
        workaround_3: Offer::Needed,
    };
}

/// What is executed when a guest is left, before EL2 branches where a predictor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Nothing.
    None,
    /// As many taken branches as Arm's loop makes that goes round so often: [`taken_branches`].
    Branches(u8),
    /// `CLRBHB`.
    ClearHistory,
    /// [`ARCH_WORKAROUND_1`].
    Workaround1,
    /// [`ARCH_WORKAROUND_3`].
    Workaround3,
}

/// The branches that are taken while Arm's loop goes round so often. Each time that is one within
/// the loop and, but for the last time, the one back.
pub const fn taken_branches(loops: u8) -> usize {
    2 * loops as usize - 1
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Branches(loops) => write!(f, "{} branches", taken_branches(*loops)),
            Self::ClearHistory => f.write_str("CLRBHB"),
            Self::Workaround1 => f.write_str("ARCH_WORKAROUND_1"),
            Self::Workaround3 => f.write_str("ARCH_WORKAROUND_3"),
        }
    }
}

/// How things stand with one attack. The later the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// The CPU cannot be attacked like this.
    Unaffected,
    /// It could, and this prevents it.
    Mitigated(Means),
    /// It can.
    Vulnerable(Cause),
}

/// What prevents an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// A guest and EL2 never use the same tables.
    OwnTables,
    /// An exception clears the history of branches by itself.
    Exception,
    /// `CLRBHB`.
    Instruction,
    /// Branches that overwrite the history.
    Branches,
    /// `PSTATE.SSBS` is clear at EL2; guests set their own.
    StoreBypassOff,
    /// A call of the firmware.
    Firmware,
}

/// Why an attack is not prevented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// `mitigations=off` was given.
    SwitchedOff,
    /// It takes a call that the firmware does not offer.
    NoFirmware,
    /// What the CPU would need is not known.
    UnknownModel,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unaffected => "not affected",
            Self::Mitigated(Means::OwnTables) => "mitigated: EL2 has tables of its own",
            Self::Mitigated(Means::Exception) => "mitigated: exceptions clear the history",
            Self::Mitigated(Means::Instruction) => "mitigated: CLRBHB",
            Self::Mitigated(Means::Branches) => "mitigated: branches",
            Self::Mitigated(Means::StoreBypassOff) => "mitigated: SSBS",
            Self::Mitigated(Means::Firmware) => "mitigated: firmware",
            Self::Vulnerable(Cause::SwitchedOff) => "vulnerable: switched off",
            Self::Vulnerable(Cause::NoFirmware) => "vulnerable: the firmware offers no workaround",
            Self::Vulnerable(Cause::UnknownModel) => "vulnerable: no workaround is known",
        })
    }
}

/// How a CPU, or the worst one of several, stands up to each attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attacks {
    /// Spectre v2: branch targets that others have trained (CVE-2017-5715).
    pub branch_targets: Status,
    /// Spectre-BHB: EL2's own targets, chosen by a history of others' branches (CVE-2022-23960).
    pub branch_history: Status,
    /// Spectre v4: loads that bypass older stores (CVE-2018-3639).
    pub store_bypass: Status,
    /// Meltdown: loads without the right to what is loaded (CVE-2017-5754).
    pub privileged_loads: Status,
}

/// What is done on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// How it stands then.
    pub attacks: Attacks,
    /// What is executed whenever a guest is left.
    pub sequence: Sequence,
    /// [`ARCH_WORKAROUND_2`] is called once, to keep loads from bypassing stores.
    pub firmware_stops_bypass: bool,
    /// `SCTLR_EL2.DSSBS`: loads of EL2 may bypass stores.
    pub bypass_at_el2: bool,
}

impl Protection {
    /// Decides for a CPU.
    pub const fn decide(cpu: Identity, firmware: Firmware, mitigations: Mitigations) -> Self {
        match mitigations {
            Mitigations::On => Self::needed(cpu, firmware),
            Mitigations::Off => Self::needed(cpu, firmware).off(),
            Mitigations::AsWithFirmware => Self::needed(cpu, Firmware::HELPFUL),
            Mitigations::AsWithClrbhb => {
                let isar2 = cpu.isar2 | 1 << CLRBHB_SHIFT;
                Self::needed(Identity { isar2, ..cpu }, firmware)
            }
        }
    }

    const fn needed(cpu: Identity, firmware: Firmware) -> Self {
        let (branch_targets, mut sequence) = branch_targets(cpu, firmware);
        let branch_history = if matches!(branch_targets, Status::Unaffected) {
            let history;
            (history, sequence) = branch_history(cpu, firmware);
            history
        } else {
            // One call of the firmware prevents both; and without the call targets can be trained
            // anyway.
            branch_targets
        };
        let store_bypass = store_bypass(cpu, firmware);
        Self {
            attacks: Attacks {
                branch_targets,
                branch_history,
                store_bypass,
                privileged_loads: privileged_loads(cpu),
            },
            sequence,
            firmware_stops_bypass: matches!(store_bypass, Status::Mitigated(Means::Firmware)),
            bypass_at_el2: false,
        }
    }

    /// Nothing that takes time.
    const fn off(self) -> Self {
        Self {
            attacks: Attacks {
                branch_targets: self.attacks.branch_targets.off(),
                branch_history: self.attacks.branch_history.off(),
                store_bypass: self.attacks.store_bypass.off(),
                privileged_loads: self.attacks.privileged_loads.off(),
            },
            sequence: Sequence::None,
            firmware_stops_bypass: false,
            bypass_at_el2: true,
        }
    }
}

impl Status {
    /// Without what takes time.
    const fn off(self) -> Self {
        match self {
            Self::Mitigated(Means::OwnTables | Means::Exception) => self,
            Self::Mitigated(_) => Self::Vulnerable(Cause::SwitchedOff),
            other => other,
        }
    }
}

const fn branch_targets(cpu: Identity, firmware: Firmware) -> (Status, Sequence) {
    if cpu.csv2() >= 1 || cpu.model().is_simple() {
        return (Status::Unaffected, Sequence::None);
    }
    match (firmware.workaround_3, firmware.workaround_1) {
        (Offer::Needed, _) => (Status::Mitigated(Means::Firmware), Sequence::Workaround3),
        (_, Offer::Needed) => (Status::Mitigated(Means::Firmware), Sequence::Workaround1),
        (_, Offer::NotNeeded) => (Status::Unaffected, Sequence::None),
        (_, Offer::Missing) => (Status::Vulnerable(Cause::NoFirmware), Sequence::None),
    }
}

/// Of a CPU that uses no targets which others have trained.
const fn branch_history(cpu: Identity, firmware: Firmware) -> (Status, Sequence) {
    if cpu.csv2() >= 3 || cpu.model().ignores_history() {
        (Status::Unaffected, Sequence::None)
    } else if cpu.has_ecbhb() {
        (Status::Mitigated(Means::Exception), Sequence::None)
    } else if cpu.has_clrbhb() {
        (
            Status::Mitigated(Means::Instruction),
            Sequence::ClearHistory,
        )
    } else if let Some(loops) = cpu.model().loops() {
        (
            Status::Mitigated(Means::Branches),
            Sequence::Branches(loops),
        )
    } else {
        match firmware.workaround_3 {
            Offer::Needed => (Status::Mitigated(Means::Firmware), Sequence::Workaround3),
            Offer::NotNeeded => (Status::Unaffected, Sequence::None),
            Offer::Missing => (Status::Vulnerable(Cause::UnknownModel), Sequence::None),
        }
    }
}

const fn store_bypass(cpu: Identity, firmware: Firmware) -> Status {
    if cpu.model().is_simple() {
        Status::Unaffected
    } else if cpu.has_ssbs() {
        Status::Mitigated(Means::StoreBypassOff)
    } else {
        match firmware.workaround_2 {
            Offer::Needed => Status::Mitigated(Means::Firmware),
            Offer::NotNeeded => Status::Unaffected,
            Offer::Missing => Status::Vulnerable(Cause::NoFirmware),
        }
    }
}

const fn privileged_loads(cpu: Identity) -> Status {
    if cpu.has_csv3() || cpu.model().checks_before_use() {
        Status::Unaffected
    } else {
        Status::Mitigated(Means::OwnTables)
    }
}

impl Attacks {
    /// How the worse of both stands: what can be said of a machine that has both.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self {
            branch_targets: self.branch_targets.max(other.branch_targets),
            branch_history: self.branch_history.max(other.branch_history),
            store_bypass: self.store_bypass.max(other.store_bypass),
            privileged_loads: self.privileged_loads.max(other.privileged_loads),
        }
    }

    /// As rows of a table: the attack, what of the hardware has to do with it, how things stand.
    pub fn rows(&self) -> [(&'static str, &'static str, Status); 4] {
        [
            ("Spectre v2", "CSV2", self.branch_targets),
            ("Spectre-BHB", "CLRBHB, ECBHB", self.branch_history),
            ("Spectre v4", "SSBS", self.store_bypass),
            ("Meltdown", "CSV3", self.privileged_loads),
        ]
    }

    /// What guests are told of the workarounds that they may ask for; `ssbs` says that their ID
    /// registers show FEAT_SSBS.
    pub const fn answers(&self, ssbs: bool) -> Answers {
        Answers {
            workaround_1: answer(self.branch_targets),
            workaround_2: match self.store_bypass {
                Status::Vulnerable(_) => NOT_SUPPORTED,
                // It is the guests' own choice.
                Status::Mitigated(Means::StoreBypassOff) if ssbs => NOT_SUPPORTED,
                // Loads never bypass stores: the firmware prevents it, or the guest does not know
                // of SSBS, which is clear then.
                Status::Unaffected | Status::Mitigated(_) => NOT_REQUIRED,
            },
            workaround_3: answer(self.branch_history),
        }
    }
}

const fn answer(status: Status) -> i32 {
    match status {
        Status::Unaffected => UNAFFECTED,
        Status::Mitigated(_) => NEEDED,
        Status::Vulnerable(_) => NOT_SUPPORTED,
    }
}

/// What `SMCCC_ARCH_FEATURES` answers guests, on any vCPU: a vCPU may move to the worst CPU.
///
/// The calls themselves have nothing to do. To make one is to leave the guest, which takes the CPU
/// through its [`Sequence`]; and that loads do not bypass stores, where the firmware sees to it, is
/// for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    workaround_1: i32,
    workaround_2: i32,
    workaround_3: i32,
}

impl Answers {
    /// What a guest is told that asks for `function`; `None` if that is no workaround.
    pub const fn features(&self, function: u32) -> Option<i32> {
        match function {
            ARCH_WORKAROUND_1 => Some(self.workaround_1),
            ARCH_WORKAROUND_2 => Some(self.workaround_2),
            ARCH_WORKAROUND_3 => Some(self.workaround_3),
            _ => None,
        }
    }

    /// What a call of the workaround `function` returns; `None` if that is no workaround.
    pub const fn call(&self, function: u32) -> Option<i32> {
        match self.features(function) {
            Some(NOT_SUPPORTED) => Some(NOT_SUPPORTED),
            Some(_) => Some(0),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests;
