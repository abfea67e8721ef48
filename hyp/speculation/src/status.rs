//! The state of a CPU, or of a machine, with regard to each attack.

use core::fmt;

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

impl Status {
    /// Without what takes time.
    pub(crate) const fn off(self) -> Self {
        match self {
            Self::Mitigated(Means::OwnTables | Means::Exception) => self,
            Self::Mitigated(_) => Self::Vulnerable(Cause::SwitchedOff),
            other => other,
        }
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
}
