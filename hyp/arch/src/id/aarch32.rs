//! The ID registers of AArch32, in which EL0 may run. EL1 is AArch64, so what they say of its
//! translation is of no use to anybody; what they say of instructions is.

use super::Show::{All, Hidden, UpTo};
use super::{Field, IdRegister, f, index, register};

/// The fields from bit 0 on, all shown.
macro_rules! shown {
    ($($name:literal $lsb:literal),*) => {
        &[$(f($name, $lsb, All)),*]
    };
}

pub(super) const REGISTERS: &[IdRegister] = &[
    register("ID_PFR0_EL1", index(1, 0), PFR0),
    register("ID_PFR1_EL1", index(1, 1), PFR1),
    register("ID_DFR0_EL1", index(1, 2), DFR0),
    register("ID_AFR0_EL1", index(1, 3), AFR0),
    register("ID_MMFR0_EL1", index(1, 4), MMFR0),
    register("ID_MMFR1_EL1", index(1, 5), MMFR1),
    register("ID_MMFR2_EL1", index(1, 6), MMFR2),
    register("ID_MMFR3_EL1", index(1, 7), MMFR3),
    register("ID_ISAR0_EL1", index(2, 0), ISAR0),
    register("ID_ISAR1_EL1", index(2, 1), ISAR1),
    register("ID_ISAR2_EL1", index(2, 2), ISAR2),
    register("ID_ISAR3_EL1", index(2, 3), ISAR3),
    register("ID_ISAR4_EL1", index(2, 4), ISAR4),
    register("ID_ISAR5_EL1", index(2, 5), ISAR5),
    register("ID_MMFR4_EL1", index(2, 6), MMFR4),
    register("ID_ISAR6_EL1", index(2, 7), ISAR6),
    register("MVFR0_EL1", index(3, 0), MVFR0),
    register("MVFR1_EL1", index(3, 1), MVFR1),
    register("MVFR2_EL1", index(3, 2), MVFR2),
    register("ID_PFR2_EL1", index(3, 4), PFR2),
    register("ID_DFR1_EL1", index(3, 5), DFR1),
    register("ID_MMFR5_EL1", index(3, 6), MMFR5),
];

const PFR0: &[Field] = &[
    f("State0", 0, All),
    f("State1", 4, All),
    f("State2", 8, All),
    f("State3", 12, All),
    f("CSV2", 16, UpTo(1)),
    f("AMU", 20, Hidden),
    f("DIT", 24, All),
    f("RAS", 28, Hidden),
];

const PFR1: &[Field] = &[
    f("ProgMod", 0, All),
    f("Security", 4, Hidden),
    f("MProgMod", 8, Hidden),
    f("Virtualization", 12, Hidden),
    f("GenTimer", 16, All),
    f("Sec_frac", 20, Hidden),
    f("Virt_frac", 24, Hidden),
    f("GIC", 28, UpTo(1)),
];

const PFR2: &[Field] = &[
    f("CSV3", 0, All),
    f("SSBS", 4, All),
    f("RAS_frac", 8, Hidden),
];

const DFR0: &[Field] = &[
    f("CopDbg", 0, Hidden),
    f("CopSDbg", 4, Hidden),
    f("MMapDbg", 8, Hidden),
    f("CopTrc", 12, Hidden),
    f("MMapTrc", 16, Hidden),
    f("MProfDbg", 20, Hidden),
    f("PerfMon", 24, Hidden).signed(),
    f("TraceFilt", 28, Hidden),
];

const DFR1: &[Field] = &[f("MTPMU", 0, Hidden).signed(), f("HPMN0", 4, Hidden)];

/// Implementation defined.
const AFR0: &[Field] = &[
    f("0", 0, Hidden),
    f("1", 4, Hidden),
    f("2", 8, Hidden),
    f("3", 12, Hidden),
];

const MMFR0: &[Field] = &[
    f("VMSA", 0, All),
    f("PMSA", 4, All),
    f("OuterShr", 8, All).signed(),
    f("ShareLvl", 12, All),
    f("TCM", 16, All),
    f("AuxReg", 20, All),
    f("FCSE", 24, All),
    f("InnerShr", 28, All).signed(),
];

const MMFR1: &[Field] = shown!(
    "L1HvdVA" 0, "L1UniVA" 4, "L1HvdSW" 8, "L1UniSW" 12, "L1Hvd" 16, "L1Uni" 20, "L1TstCln" 24, "BPred" 28
);

const MMFR2: &[Field] = shown!(
    "L1HvdFG" 0, "L1HvdBG" 4, "L1HvdRng" 8, "HvdTLB" 12, "UniTLB" 16, "MemBarr" 20, "WFIStall" 24, "HWAccFlg" 28
);

const MMFR3: &[Field] = shown!(
    "CMaintVA" 0, "CMaintSW" 4, "BPMaint" 8, "MaintBcst" 12, "PAN" 16, "CohWalk" 20, "CMemSz" 24, "Supersec" 28
);

const MMFR4: &[Field] = &[
    f("SpecSEI", 0, Hidden),
    f("AC2", 4, All),
    f("XNX", 8, Hidden),
    f("CnP", 12, All),
    f("HPDS", 16, All),
    f("LSM", 20, All),
    f("CCIDX", 24, All),
    f("EVT", 28, Hidden),
];

const MMFR5: &[Field] = shown!("ETS" 0, "nTLBPA" 4);

const ISAR0: &[Field] = shown!(
    "Swap" 0, "BitCount" 4, "BitField" 8, "CmpBranch" 12, "Coproc" 16, "Debug" 20, "Divide" 24
);

const ISAR1: &[Field] = shown!(
    "Endian" 0, "Except" 4, "Except_AR" 8, "Extend" 12, "IfThen" 16, "Immediate" 20, "Interwork" 24, "Jazelle" 28
);

const ISAR2: &[Field] = shown!(
    "LoadStore" 0, "MemHint" 4, "MultiAccessInt" 8, "Mult" 12, "MultS" 16, "MultU" 20, "PSR_AR" 24, "Reversal" 28
);

const ISAR3: &[Field] = shown!(
    "Saturate" 0, "SIMD" 4, "SVC" 8, "SynchPrim" 12, "TabBranch" 16, "T32Copy" 20, "TrueNOP" 24, "T32EE" 28
);

const ISAR4: &[Field] = shown!(
    "Unpriv" 0, "WithShifts" 4, "Writeback" 8, "SMC" 12, "Barrier" 16, "SynchPrim_frac" 20, "PSR_M" 24, "SWP_frac" 28
);

const ISAR5: &[Field] = shown!(
    "SEVL" 0, "AES" 4, "SHA1" 8, "SHA2" 12, "CRC32" 16, "RDM" 24, "VCMA" 28
);

const ISAR6: &[Field] = shown!(
    "JSCVT" 0, "DP" 4, "FHM" 8, "SB" 12, "SPECRES" 16, "BF16" 20, "I8MM" 24, "CLRBHB" 28
);

const MVFR0: &[Field] = shown!(
    "SIMDReg" 0, "FPSP" 4, "FPDP" 8, "FPTrap" 12, "FPDivide" 16, "FPSqrt" 20, "FPShVec" 24, "FPRound" 28
);

const MVFR1: &[Field] = shown!(
    "FPFtZ" 0, "FPDNaN" 4, "SIMDLS" 8, "SIMDInt" 12, "SIMDSP" 16, "SIMDHP" 20, "FPHP" 24, "SIMDFMAC" 28
);

const MVFR2: &[Field] = shown!("SIMDMisc" 0, "FPMisc" 4);
