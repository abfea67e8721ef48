//! Registers with Op0 3 and Op1 0: those of EL1.

use super::Guest::{Constant, Emulated, Hidden, HiddenOrOwn, Moving, Own};
use super::Home::{Pstate, Switched, SwitchedAs};
use super::{contract, control::*};
use crate::encoding::Encoding;

/// `SCTLR_EL1` after reset: MMU and caches off, the RES1 bits set.
const SCTLR_RESET: u64 = 0x30d0_0800;

/// EL1's own stack pointer has a name for EL2 only.
const STACK_POINTERS: &[(&str, Encoding)] = &[
    ("SP_EL0", Encoding::new(3, 0, 4, 1, 0)),
    ("SP_EL1", Encoding::new(3, 4, 4, 1, 0)),
];

/// With `HCR_EL2.AMO` set, a guest that names `DISR_EL1` reaches `VDISR_EL2`. What a virtual error
/// would say goes with it.
const VIRTUAL_ERROR: &[(&str, Encoding)] = &[
    ("VDISR_EL2", Encoding::new(3, 4, 12, 1, 1)),
    ("VSESR_EL2", Encoding::new(3, 4, 5, 2, 3)),
];

contract! {
    //                           Op0 Op1 CRn     CRm     Op2   needs         guest
    // Who the CPU is. `VPIDR_EL2` and `VMPIDR_EL2` have what a guest reads in the first two.
    "MIDR_EL1"                   3   0   0       0       0     ALWAYS        Constant;
    "MPIDR_EL1"                  3   0   0       0       5     ALWAYS        Constant;
    "REVIDR_EL1"                 3   0   0       0       6     ALWAYS        Emulated(&[TID1]);
    "ID registers"               3   0   0       1..=7   0..=7 ALWAYS        Emulated(&[TID3]);
    // System control.
    "SCTLR_EL1"                  3   0   1       0       0     ALWAYS        Own(Switched), reset SCTLR_RESET;
    "ACTLR_EL1"                  3   0   1       0       1     ALWAYS        Emulated(&[TACR]);
    "CPACR_EL1"                  3   0   1       0       2     ALWAYS        Own(Switched);
    "SCTLR2_EL1"                 3   0   1       0       3     SCTLR2        Hidden(&[SCTLR2EN]);
    "RGSR_EL1"                   3   0   1       0       5     MTE2          Hidden(&[ATA]);
    "GCR_EL1"                    3   0   1       0       6     MTE2          Hidden(&[ATA]);
    "ZCR_EL1"                    3   0   1       2       0     SVE           Hidden(&[TZ]);
    "TRFCR_EL1"                  3   0   1       2       1     TRF           Hidden(&[TTRF]);
    "TRCITECR_EL1"               3   0   1       2       3     ITE           Hidden(&[FGT2_DEBUG]);
    "SMPRI_EL1"                  3   0   1       2       4     SME           HiddenOrOwn(&[NSMPRI], Switched);
    "SMCR_EL1"                   3   0   1       2       6     SME           Hidden(&[TSM]);
    "*MASK_EL1"                  3   0   1       4       0..=7 SRMASK        Hidden(&[SRMASKEN]);
    // Translation.
    "TTBR0_EL1"                  3   0   2       0       0     ALWAYS        Own(Switched);
    "TTBR1_EL1"                  3   0   2       0       1     ALWAYS        Own(Switched);
    "TCR_EL1"                    3   0   2       0       2     ALWAYS        Own(Switched);
    "TCR2_EL1"                   3   0   2       0       3     TCR2          Hidden(&[TCR2EN]);
    "TCR2MASK_EL1"               3   0   2       7       3     SRMASK        Hidden(&[SRMASKEN]);
    "TCRMASK_EL1"                3   0   2       7       2     SRMASK        Hidden(&[SRMASKEN]);
    "MAIR_EL1"                   3   0   10      2       0     ALWAYS        Own(Switched);
    "MAIR2_EL1"                  3   0   10      2       1     AIE           Hidden(&[NMAIR2]);
    "PIRE0_EL1"                  3   0   10      2       2     S1PIE         Hidden(&[NPIRE0]);
    "PIR_EL1"                    3   0   10      2       3     S1PIE         Hidden(&[NPIR]);
    "POR_EL1"                    3   0   10      2       4     S1POE         Hidden(&[NPOR_EL1]);
    "S2POR_EL1"                  3   0   10      2       5     S2POE         Hidden(&[NS2POR]);
    "AMAIR_EL1"                  3   0   10      3       0     ALWAYS        Own(Switched);
    "AMAIR2_EL1"                 3   0   10      3       1     AIE           Hidden(&[NAMAIR2]);
    "PAR_EL1"                    3   0   7       4       0     ALWAYS        Own(Switched);
    "CONTEXTIDR_EL1"             3   0   13      0       1     ALWAYS        Own(Switched);
    // Pointer authentication.
    "APIAKeyLo_EL1"              3   0   2       1       0     PAUTH         Own(Switched);
    "APIAKeyHi_EL1"              3   0   2       1       1     PAUTH         Own(Switched);
    "APIBKeyLo_EL1"              3   0   2       1       2     PAUTH         Own(Switched);
    "APIBKeyHi_EL1"              3   0   2       1       3     PAUTH         Own(Switched);
    "APDAKeyLo_EL1"              3   0   2       2       0     PAUTH         Own(Switched);
    "APDAKeyHi_EL1"              3   0   2       2       1     PAUTH         Own(Switched);
    "APDBKeyLo_EL1"              3   0   2       2       2     PAUTH         Own(Switched);
    "APDBKeyHi_EL1"              3   0   2       2       3     PAUTH         Own(Switched);
    "APGAKeyLo_EL1"              3   0   2       3       0     PAUTH         Own(Switched);
    "APGAKeyHi_EL1"              3   0   2       3       1     PAUTH         Own(Switched);
    // Guarded control stacks.
    "GCSCR*_EL1, GCSPR_EL1"      3   0   2       5       0..=2 GCS           Hidden(&[NGCS_EL1, NGCS_EL0]);
    // PSTATE and exceptions.
    "SPSR_EL1"                   3   0   4       0       0     ALWAYS        Own(Switched);
    "ELR_EL1"                    3   0   4       0       1     ALWAYS        Own(Switched);
    "SP_EL0"                     3   0   4       1       0     ALWAYS        Own(SwitchedAs(STACK_POINTERS));
    "SPSel"                      3   0   4       2       0     ALWAYS        Own(Pstate);
    "CurrentEL"                  3   0   4       2       2     ALWAYS        Constant;
    "PAN"                        3   0   4       2       3     PAN           Own(Pstate);
    "UAO"                        3   0   4       2       4     UAO           Own(Pstate);
    "ALLINT"                     3   0   4       3       0     NMI           Own(Pstate);
    "PM"                         3   0   4       3       1     EBEP          Own(Pstate);
    "AFSR0_EL1"                  3   0   5       1       0     ALWAYS        Own(Switched);
    "AFSR1_EL1"                  3   0   5       1       1     ALWAYS        Own(Switched);
    "ESR_EL1"                    3   0   5       2       0     ALWAYS        Own(Switched);
    "FAR_EL1"                    3   0   6       0       0     ALWAYS        Own(Switched);
    "PFAR_EL1"                   3   0   6       0       5     PFAR          Hidden(&[FGT2_READ]);
    "VBAR_EL1"                   3   0   12      0       0     ALWAYS        Own(Switched);
    "ISR_EL1"                    3   0   12      1       0     ALWAYS        Moving;
    // Errors. No trap reaches DISR_EL1.
    "ERR*_EL1"                   3   0   5       3       0..=1 RAS           Hidden(&[TERR]);
    "ERX*_EL1"                   3   0   5       4..=5   0..=7 RAS           Hidden(&[TERR]);
    "DISR_EL1"                   3   0   12      1       1     RAS           HiddenOrOwn(&[], SwitchedAs(VIRTUAL_ERROR));
    // Memory tags.
    "TFSR_EL1, TFSRE0_EL1"       3   0   5       6       0..=1 MTE2          Hidden(&[ATA]);
    // Profiling.
    "PMBIDR_EL1"                 3   0   9       10      7     SPE           Hidden(&[PMBIDR]);
    "PMS*_EL1"                   3   0   9       9       0..=7 SPE           Hidden(&[TPMS]);
    "PMB*_EL1"                   3   0   9       10      0..=6 SPE           Hidden(&[E2PB]);
    "TRBIDR_EL1"                 3   0   9       11      7     TRBE          Hidden(&[TRBIDR]);
    "TRB*_EL1"                   3   0   9       11      0..=6 TRBE          Hidden(&[E2TB]);
    "PM*_EL1"                    3   0   9       12..=14 0..=7 PMU           Hidden(&[TPM]);
    // Limited ordering, and partitions of memory.
    "LOR*_EL1"                   3   0   10      4       0..=3 LOR           Hidden(&[TLOR]);
    "LORID_EL1"                  3   0   10      4       7     LOR           Hidden(&[TLOR]);
    "MPAMIDR_EL1, MPAMBWIDR_EL1" 3   0   10      4       4..=5 MPAM          Hidden(&[MPAM_TIDR]);
    "MPAM1_EL1"                  3   0   10      5       0     MPAM          Hidden(&[TRAP_MPAM1]);
    "MPAM0_EL1"                  3   0   10      5       1     MPAM          Hidden(&[TRAP_MPAM0]);
    "MPAMSM_EL1"                 3   0   10      5       3     SME           Hidden(&[ENMPAMSM]);
    "MPAMBW*_EL1"                3   0   10      5       4..=6 MPAM          Hidden(&[FGT2_READ]);
    // Implementation defined.
    "S3_0_C11_*"                 3   0   11      0..=15  0..=7 ALWAYS        Hidden(&[TIDCP]);
    "S3_0_C15_*"                 3   0   15      0..=15  0..=7 ALWAYS        Hidden(&[TIDCP]);
    // Threads and time.
    "TPIDR_EL1"                  3   0   13      0       4     ALWAYS        Own(Switched);
    "ACCDATA_EL1"                3   0   13      0       5     LS64_ACCDATA  HiddenOrOwn(&[NACCDATA], Switched);
    "SCXTNUM_EL1"                3   0   13      0       7     CSV2_2        Hidden(&[ENSCXT]);
    "CNTKCTL_EL1"                3   0   14      1       0     ALWAYS        Own(Switched);
}
