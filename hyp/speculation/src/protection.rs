//! The decision: what a CPU does against each attack.

use core::fmt;

use bootargs::Mitigations;

use crate::firmware::{Firmware, Offer};
use crate::identity::{CLRBHB_SHIFT, Identity};
use crate::status::{Attacks, Cause, Means, Status};

/// What is executed when a guest is left, before EL2 branches where a predictor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Nothing.
    None,
    /// As many taken branches as Arm's loop makes that goes round so often: [`taken_branches`].
    Branches(u8),
    /// `CLRBHB`.
    ClearHistory,
    /// [`ARCH_WORKAROUND_1`](crate::ARCH_WORKAROUND_1).
    Workaround1,
    /// [`ARCH_WORKAROUND_3`](crate::ARCH_WORKAROUND_3).
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

/// What is done on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// How it stands then.
    pub attacks: Attacks,
    /// What is executed whenever a guest is left.
    pub sequence: Sequence,
    /// [`ARCH_WORKAROUND_2`](crate::ARCH_WORKAROUND_2) is called once, to keep loads from bypassing
    /// stores.
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
