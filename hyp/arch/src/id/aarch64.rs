//! The ID registers of AArch64.

use super::Show::{All, Fixed, Hidden, UpTo};
use super::{Field, IdRegister, f, index, register};

pub(super) const REGISTERS: &[IdRegister] = &[
    register("ID_AA64PFR0_EL1", index(4, 0), PFR0),
    register("ID_AA64PFR1_EL1", index(4, 1), PFR1),
    register("ID_AA64PFR2_EL1", index(4, 2), PFR2),
    register("ID_AA64ZFR0_EL1", index(4, 4), ZFR0),
    register("ID_AA64SMFR0_EL1", index(4, 5), SMFR0),
    register("ID_AA64FPFR0_EL1", index(4, 7), FPFR0),
    register("ID_AA64DFR0_EL1", index(5, 0), DFR0),
    register("ID_AA64DFR1_EL1", index(5, 1), DFR1),
    register("ID_AA64DFR2_EL1", index(5, 2), DFR2),
    register("ID_AA64AFR0_EL1", index(5, 4), AFR),
    register("ID_AA64AFR1_EL1", index(5, 5), AFR),
    register("ID_AA64ISAR0_EL1", index(6, 0), ISAR0),
    register("ID_AA64ISAR1_EL1", index(6, 1), ISAR1),
    register("ID_AA64ISAR2_EL1", index(6, 2), ISAR2),
    register("ID_AA64ISAR3_EL1", index(6, 3), ISAR3),
    register("ID_AA64MMFR0_EL1", index(7, 0), MMFR0),
    register("ID_AA64MMFR1_EL1", index(7, 1), MMFR1),
    register("ID_AA64MMFR2_EL1", index(7, 2), MMFR2),
    register("ID_AA64MMFR3_EL1", index(7, 3), MMFR3),
    register("ID_AA64MMFR4_EL1", index(7, 4), MMFR4),
];

const PFR0: &[Field] = &[
    f("EL0", 0, All),
    // EL1 is AArch64.
    f("EL1", 4, UpTo(1)),
    f("EL2", 8, Hidden),
    f("EL3", 12, Hidden),
    f("FP", 16, All).signed(),
    f("AdvSIMD", 20, All).signed(),
    // The registers of GICv3.
    f("GIC", 24, UpTo(1)),
    f("RAS", 28, Hidden),
    f("SVE", 32, Hidden),
    f("SEL2", 36, Hidden),
    f("MPAM", 40, Hidden),
    f("AMU", 44, Hidden),
    f("DIT", 48, All),
    f("RME", 52, Hidden),
    // Beyond 1 there is SCXTNUM_ELx.
    f("CSV2", 56, UpTo(1)),
    f("CSV3", 60, All),
];

const PFR1: &[Field] = &[
    f("BT", 0, All),
    f("SSBS", 4, All),
    f("MTE", 8, Hidden),
    f("RAS_frac", 12, Hidden),
    f("MPAM_frac", 16, Hidden),
    f("SME", 24, Hidden),
    f("RNDR_trap", 28, Hidden),
    f("CSV2_frac", 32, Hidden),
    f("NMI", 36, Hidden),
    f("MTE_frac", 40, Hidden),
    f("GCS", 44, Hidden),
    f("THE", 48, Hidden),
    f("MTEX", 52, Hidden),
    f("DF2", 56, Hidden),
    f("PFAR", 60, Hidden),
];

const PFR2: &[Field] = &[
    f("MTEPERM", 0, Hidden),
    f("MTESTOREONLY", 4, Hidden),
    f("MTEFAR", 8, Hidden),
    f("UINJ", 16, Hidden),
    f("FPMR", 32, Hidden),
];

const ZFR0: &[Field] = &[
    f("SVEver", 0, Hidden),
    f("AES", 4, Hidden),
    f("EltPerm", 8, Hidden),
    f("BitPerm", 16, Hidden),
    f("BF16", 20, Hidden),
    f("B16B16", 24, Hidden),
    f("SHA3", 32, Hidden),
    f("SM4", 40, Hidden),
    f("I8MM", 44, Hidden),
    f("F16MM", 48, Hidden),
    f("F32MM", 52, Hidden),
    f("F64MM", 56, Hidden),
];

/// Its fields have a bit or four; none is shown.
const SMFR0: &[Field] = &[
    f("SMOP4 to STMOP", 0, Hidden),
    f("SBitPerm to SFEXPA", 28, Hidden),
    f("F32F32 to F16F32", 32, Hidden),
    f("I8I32", 36, Hidden),
    f("F8F32 to BI32I32", 40, Hidden),
    f("I16I32", 44, Hidden),
    f("F64F64", 48, Hidden),
    f("I16I64", 52, Hidden),
    f("SMEver", 56, Hidden),
    f("FA64, LUTv2", 60, Hidden),
];

/// Its fields have a bit; none is shown.
const FPFR0: &[Field] = &[
    f("F8E4M3 to F8MM4", 0, Hidden),
    f("F8MM8 to F8CVT", 28, Hidden),
];

/// Breakpoints, watchpoints and breakpoints that compare contexts are counted from one; what there
/// is beyond Armv8.0's debugging is hidden.
const DFR0: &[Field] = &[
    f("DebugVer", 0, Fixed(6)),
    f("TraceVer", 4, Hidden),
    f("PMUVer", 8, Hidden).signed(),
    f("BRPs", 12, All),
    f("PMSS", 16, Hidden),
    f("WRPs", 20, All),
    f("SEBEP", 24, Hidden),
    f("CTX_CMPs", 28, All),
    f("PMSVer", 32, Hidden),
    f("DoubleLock", 36, Fixed(0xf)).signed(),
    f("TraceFilt", 40, Hidden),
    f("TraceBuffer", 44, Hidden),
    f("MTPMU", 48, Hidden).signed(),
    f("BRBE", 52, Hidden),
    f("ExtTrcBuff", 56, Hidden),
    f("HPMN0", 60, Hidden),
];

const DFR1: &[Field] = &[
    f("SYSPMUID", 0, Hidden),
    f("BRPs", 8, Hidden),
    f("WRPs", 16, Hidden),
    f("CTX_CMPs", 24, Hidden),
    f("SPMU", 32, Hidden),
    f("PMICNTR", 36, Hidden),
    f("ABLE", 40, Hidden),
    f("ITE", 44, Hidden),
    f("EBEP", 48, Hidden),
    f("DPFZS", 52, Hidden),
    f("ABL_CMPs", 56, Hidden),
];

const DFR2: &[Field] = &[
    f("STEP", 0, Hidden),
    f("BWE", 4, Hidden),
    f("TRBE_EXC", 24, Hidden),
    f("SPE_EXC", 28, Hidden),
    f("SPE_nVM", 32, Hidden),
];

/// Implementation defined.
const AFR: &[Field] = &[
    f("0", 0, Hidden),
    f("1", 4, Hidden),
    f("2", 8, Hidden),
    f("3", 12, Hidden),
];

/// Instructions without state, all of them.
const ISAR0: &[Field] = &[
    f("AES", 4, All),
    f("SHA1", 8, All),
    f("SHA2", 12, All),
    f("CRC32", 16, All),
    f("Atomic", 20, All),
    // Transactions, which hardware has given up, are trapped.
    f("TME", 24, Hidden),
    f("RDM", 28, All),
    f("SHA3", 32, All),
    f("SM3", 36, All),
    f("SM4", 40, All),
    f("DP", 44, All),
    f("FHM", 48, All),
    f("TS", 52, All),
    f("TLB", 56, All),
    f("RNDR", 60, All),
];

/// Instructions without state, and pointer authentication, which has keys.
const ISAR1: &[Field] = &[
    f("DPB", 0, All),
    f("APA", 4, All).exact(),
    f("API", 8, All).exact(),
    f("JSCVT", 12, All),
    f("FCMA", 16, All),
    f("LRCPC", 20, All),
    f("GPA", 24, All).exact(),
    f("GPI", 28, All).exact(),
    f("FRINTTS", 32, All),
    f("SB", 36, All),
    f("SPECRES", 40, All),
    f("BF16", 44, All),
    f("DGH", 48, All),
    f("I8MM", 52, All),
    f("XS", 56, All),
    // `HCRX_EL2` gates it.
    f("LS64", 60, Hidden),
];

const ISAR2: &[Field] = &[
    f("WFxT", 0, All),
    f("RPRES", 4, All),
    f("GPA3", 8, All).exact(),
    f("APA3", 12, All).exact(),
    // `HCRX_EL2` gates it.
    f("MOPS", 16, Hidden),
    f("BC", 20, All),
    f("PAC_frac", 24, All),
    f("CLRBHB", 28, All),
    f("SYSREG_128", 32, Hidden),
    f("SYSINSTR_128", 36, Hidden),
    f("PRFMSLC", 40, Hidden),
    f("PCDPHINT", 44, Hidden),
    f("RPRFM", 48, Hidden),
    f("CSSC", 52, Hidden),
    f("LUT", 56, Hidden),
    f("ATS1A", 60, Hidden),
];

const ISAR3: &[Field] = &[
    f("CPA", 0, Hidden),
    f("FAMINMAX", 4, Hidden),
    f("TLBIW", 8, Hidden),
    f("PACM", 12, Hidden),
    f("LSFE", 16, Hidden),
    f("OCCMO", 20, Hidden),
    f("LSUI", 24, Hidden),
    f("FPRCVT", 28, Hidden),
];

const MMFR0: &[Field] = &[
    f("PARange", 0, All),
    f("ASIDBits", 4, All),
    f("BigEnd", 8, All),
    f("SNSMem", 12, Hidden),
    f("BigEndEL0", 16, All),
    f("TGran16", 20, All),
    f("TGran64", 24, All).signed(),
    f("TGran4", 28, All).signed(),
    f("TGran16_2", 32, Hidden).exact(),
    f("TGran64_2", 36, Hidden).exact(),
    f("TGran4_2", 40, Hidden).exact(),
    f("ExS", 44, All),
    f("FGT", 56, Hidden),
    f("ECV", 60, Hidden),
];

const MMFR1: &[Field] = &[
    // Beyond 2 the switch is in TCR2_EL1.
    f("HAFDBS", 0, UpTo(2)),
    f("VMIDBits", 4, Hidden),
    f("VH", 8, Hidden),
    f("HPDS", 12, All),
    f("LO", 16, Hidden),
    f("PAN", 20, All),
    f("SpecSEI", 24, Hidden),
    f("XNX", 28, Hidden),
    f("TWED", 32, Hidden),
    f("ETS", 36, All),
    f("HCX", 40, Hidden),
    f("AFP", 44, All),
    f("nTLBPA", 48, All),
    f("TIDCP1", 52, Hidden),
    f("CMOW", 56, Hidden),
    f("ECBHB", 60, All),
];

const MMFR2: &[Field] = &[
    f("CnP", 0, All),
    f("UAO", 4, All),
    f("LSM", 8, All),
    f("IESB", 12, Hidden),
    f("VARange", 16, All),
    f("CCIDX", 20, All),
    f("NV", 24, Hidden),
    f("ST", 28, All),
    f("AT", 32, All),
    f("IDS", 36, All),
    f("FWB", 40, Hidden),
    f("TTL", 48, All),
    f("BBM", 52, All),
    f("EVT", 56, Hidden),
    f("E0PD", 60, All),
];

const MMFR3: &[Field] = &[
    f("TCRX", 0, Hidden),
    f("SCTLRX", 4, Hidden),
    f("S1PIE", 8, Hidden),
    f("S2PIE", 12, Hidden),
    f("S1POE", 16, Hidden),
    f("S2POE", 20, Hidden),
    f("AIE", 24, Hidden),
    f("MEC", 28, Hidden),
    f("D128", 32, Hidden),
    f("D128_2", 36, Hidden),
    f("SNERR", 40, Hidden),
    f("ANERR", 44, Hidden),
    f("SDERR", 52, Hidden),
    f("ADERR", 56, Hidden),
    f("Spec_FPACC", 60, Hidden),
];

const MMFR4: &[Field] = &[
    f("PoPS", 0, Hidden),
    f("EIESB", 4, Hidden).signed(),
    f("ASID2", 8, Hidden),
    f("HACDBS", 12, Hidden),
    f("FGWTE3", 16, Hidden),
    f("NV_frac", 20, Hidden),
    f("E2H0", 24, Hidden).signed(),
    f("E3DSE", 36, Hidden),
    f("SRMASK", 40, Hidden),
];
