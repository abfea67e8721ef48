//! The contract for registers: one table with a [`Row`] for every register that EL1 and EL0 can
//! name.
//!
//! A row says what a guest meets ([`Guest`]): a value that nobody can change, one that is its
//! vCPU's own and where it is kept, an answer of the hypervisor, or nothing, and by which
//! [`Control`] of EL2 that is so. A register that no row names is undefined, or else the table
//! lacks it: the guest `sweep` tries all encodings.
//!
//! Generated from it are
//! - what is saved and loaded when vCPUs take turns ([`SWITCHED`], [`is_switched`]);
//! - the values of the registers by which EL2 controls guests ([`control_value`]), which every CPU
//!   is given at its start, whatever firmware left there.
//!
//! What is shown of features is in the table of [`ID registers`](crate::id); rows say which field
//! they go with, and the tests here see to it that no feature is shown whose state is not switched,
//! and none hidden that is in reach.
//!
//! To give guests a register: show the field of its feature in `id`, and make its row `Own`. To
//! take one away: hide the field, and name the controls in its row. A control with a bit of its own
//! is a line in `control`.

mod control;
mod debug;
mod el0;
mod el1;
mod interrupts;
mod switched;

pub use control::{CONTROLS, Control, El2, control_value};
pub use switched::{Group, SWITCHED, Switched, is_switched};

use crate::encoding::Encoding;
use crate::id::{AtLeast, Ids, Needs, at_least};

/// What a guest meets at a register.
#[derive(Clone, Copy, Debug)]
pub enum Guest {
    /// A value that no guest can change: the CPU's, or what EL2 has set for the vCPU.
    Constant,
    /// A value that changes by itself and tells nothing of others: time, random numbers, pending
    /// interrupts.
    Moving,
    /// A command: the register has no value.
    Command,
    /// The vCPU's own value.
    Own(Home),
    /// What the hypervisor answers; accesses come to EL2 by these controls.
    Emulated(&'static [Control]),
    /// The vCPU's own value, in a model of the hypervisor's: accesses come to EL2 by these
    /// controls.
    Modelled(&'static [Control]),
    /// Nothing: the access is undefined, by these controls where the CPU has the register.
    Hidden(&'static [Control]),
    /// Nothing where the CPU has these controls; where it has not, the register is in reach and so
    /// is the vCPU's own.
    HiddenOrOwn(&'static [Control], Home),
}

/// Where a value is kept while its vCPU is on no CPU.
#[derive(Clone, Copy, Debug)]
pub enum Home {
    /// With the vCPU: the register itself is switched.
    Switched,
    /// With the vCPU: what the guest accesses by this name is in these registers, which are
    /// switched.
    SwitchedAs(&'static [(&'static str, Encoding)]),
    /// With the vCPU, as [`Self::Switched`]. A timer that is loaded interrupts also while EL2 runs,
    /// so it is loaded last and switched off when its vCPU leaves.
    Timer,
    /// In `PSTATE`: `SPSR_EL2` has it while EL2 runs, and the thread keeps that. Each vCPU has its
    /// own of it, whether the feature is shown or not.
    Pstate,
    /// With the vector registers (`vcpu::fp`).
    Vectors,
    /// In the virtual CPU interface (`vcpu::interface`).
    Interface,
    /// In other registers of this table, of which it is another view.
    View,
}

/// What the contract says of a register, or of a block of them.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As Arm calls it.
    pub name: &'static str,
    /// What it is called in instructions.
    pub at: Block,
    /// What the CPU must have for it to be there.
    pub needs: Needs,
    /// What a guest meets.
    pub guest: Guest,
    /// Its value when a vCPU starts.
    pub reset: u64,
}

/// Encodings: all whose numbers are within these bounds.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    first: Encoding,
    last: Encoding,
}

impl Block {
    /// Whether the encoding is one of these.
    pub const fn contains(&self, encoding: Encoding) -> bool {
        let Self { first, last } = *self;
        encoding.op0() == first.op0()
            && encoding.op1() == first.op1()
            && first.crn() <= encoding.crn()
            && encoding.crn() <= last.crn()
            && first.crm() <= encoding.crm()
            && encoding.crm() <= last.crm()
            && first.op2() <= encoding.op2()
            && encoding.op2() <= last.op2()
    }

    /// The encoding, if it is one.
    pub const fn single(&self) -> Option<Encoding> {
        if self.first.bits() == self.last.bits() {
            Some(self.first)
        } else {
            None
        }
    }
}

/// All rows. Of several that name a register, the first counts.
pub const ROWS: [&[Row]; 4] = [el1::ROWS, el0::ROWS, interrupts::ROWS, debug::ROWS];

/// The row of a register. `None` says that it is undefined.
pub fn find(encoding: Encoding) -> Option<&'static Row> {
    let mut rows = ROWS.into_iter().flatten();
    rows.find(|row| row.at.contains(encoding))
}

/// What is decided about guests by what the CPUs have.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// What all CPUs have.
    pub common: Ids,
    /// What guests read.
    pub guest: Ids,
}

impl Machine {
    /// The machine whose CPUs have these values in common.
    #[must_use]
    pub fn new(common: Ids) -> Self {
        Self {
            common,
            guest: common.guest(),
        }
    }
}

/// A part of the table: a line for each row, with a name, an encoding in which blocks have bounds,
/// what the CPU must have, and what a guest meets.
macro_rules! contract {
    ($($name:literal
        $op0:literal $op1:literal
        $crn:literal $(..=$last_crn:literal)? $crm:literal $(..=$last_crm:literal)?
        $op2:literal $(..=$last_op2:literal)?
        $needs:ident $guest:expr $(, reset $reset:expr)?;)*
    ) => {
        pub(super) const ROWS: &[super::Row] = &[$(super::Row {
            name: $name,
            at: super::Block {
                first: crate::Encoding::new($op0, $op1, $crn, $crm, $op2),
                last: crate::Encoding::new(
                    $op0,
                    $op1,
                    contract!(@last $crn $($last_crn)?),
                    contract!(@last $crm $($last_crm)?),
                    contract!(@last $op2 $($last_op2)?),
                ),
            },
            needs: super::feature::$needs,
            guest: $guest,
            reset: 0 $(+ $reset)?,
        },)*];
    };
    (@last $first:literal) => { $first };
    (@last $first:literal $last:literal) => { $last };
}
use contract;

/// What rows and controls take for granted, by the names of Arm's features.
mod feature {
    use super::{AtLeast, Needs, at_least};

    macro_rules! features {
        ($(
            $(#[$doc:meta])*
            $name:ident = $($register:literal . $field:literal >= $least:literal)|+;
        )*) => {
            $(
                $(#[$doc])*
                pub(super) const $name: Needs = {
                    const FIELDS: &[AtLeast] = &[$(at_least($register, $field, $least)),+];
                    Needs::any(FIELDS)
                };
            )*
        };
    }

    pub(super) const ALWAYS: Needs = Needs::NOTHING;

    features! {
        AIE = "ID_AA64MMFR3_EL1"."AIE" >= 1;
        AMU = "ID_AA64PFR0_EL1"."AMU" >= 1;
        BRBE = "ID_AA64DFR0_EL1"."BRBE" >= 1;
        CCIDX = "ID_AA64MMFR2_EL1"."CCIDX" >= 1;
        CSV2_2 = "ID_AA64PFR0_EL1"."CSV2" >= 2 | "ID_AA64PFR1_EL1"."CSV2_frac" >= 2;
        DIT = "ID_AA64PFR0_EL1"."DIT" >= 1;
        EBEP = "ID_AA64DFR1_EL1"."EBEP" >= 1;
        ECV = "ID_AA64MMFR0_EL1"."ECV" >= 1;
        FGT = "ID_AA64MMFR0_EL1"."FGT" >= 1;
        FGT2 = "ID_AA64MMFR0_EL1"."FGT" >= 2;
        FPMR = "ID_AA64PFR2_EL1"."FPMR" >= 1;
        GCS = "ID_AA64PFR1_EL1"."GCS" >= 1;
        HCX = "ID_AA64MMFR1_EL1"."HCX" >= 1;
        ITE = "ID_AA64DFR1_EL1"."ITE" >= 1;
        LOR = "ID_AA64MMFR1_EL1"."LO" >= 1;
        LS64_ACCDATA = "ID_AA64ISAR1_EL1"."LS64" >= 3;
        MPAM = "ID_AA64PFR0_EL1"."MPAM" >= 1 | "ID_AA64PFR1_EL1"."MPAM_frac" >= 1;
        MTE = "ID_AA64PFR1_EL1"."MTE" >= 1;
        MTE2 = "ID_AA64PFR1_EL1"."MTE" >= 2;
        NMI = "ID_AA64PFR1_EL1"."NMI" >= 1;
        PAN = "ID_AA64MMFR1_EL1"."PAN" >= 1;
        PAUTH = "ID_AA64ISAR1_EL1"."APA" >= 1 | "ID_AA64ISAR1_EL1"."API" >= 1
            | "ID_AA64ISAR1_EL1"."GPA" >= 1 | "ID_AA64ISAR1_EL1"."GPI" >= 1
            | "ID_AA64ISAR2_EL1"."APA3" >= 1 | "ID_AA64ISAR2_EL1"."GPA3" >= 1;
        PFAR = "ID_AA64PFR1_EL1"."PFAR" >= 1;
        PMU = "ID_AA64DFR0_EL1"."PMUVer" >= 1;
        PMICNTR = "ID_AA64DFR1_EL1"."PMICNTR" >= 1;
        RAS = "ID_AA64PFR0_EL1"."RAS" >= 1;
        RNG = "ID_AA64ISAR0_EL1"."RNDR" >= 1;
        S1PIE = "ID_AA64MMFR3_EL1"."S1PIE" >= 1;
        S1POE = "ID_AA64MMFR3_EL1"."S1POE" >= 1;
        S2FWB = "ID_AA64MMFR2_EL1"."FWB" >= 1;
        S2POE = "ID_AA64MMFR3_EL1"."S2POE" >= 1;
        SCTLR2 = "ID_AA64MMFR3_EL1"."SCTLRX" >= 1;
        SME = "ID_AA64PFR1_EL1"."SME" >= 1;
        SPE = "ID_AA64DFR0_EL1"."PMSVer" >= 1;
        SPMU = "ID_AA64DFR1_EL1"."SPMU" >= 1;
        SRMASK = "ID_AA64MMFR4_EL1"."SRMASK" >= 1;
        SSBS2 = "ID_AA64PFR1_EL1"."SSBS" >= 2;
        STEP2 = "ID_AA64DFR2_EL1"."STEP" >= 1;
        SVE = "ID_AA64PFR0_EL1"."SVE" >= 1;
        TCR2 = "ID_AA64MMFR3_EL1"."TCRX" >= 1;
        TRACE = "ID_AA64DFR0_EL1"."TraceVer" >= 1;
        TRBE = "ID_AA64DFR0_EL1"."TraceBuffer" >= 1;
        TRF = "ID_AA64DFR0_EL1"."TraceFilt" >= 1;
        UAO = "ID_AA64MMFR2_EL1"."UAO" >= 1;
    }
}

#[cfg(test)]
mod tests;
