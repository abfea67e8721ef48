//! Registers with Op0 3 and Op1 1 to 3: caches, and those of EL0.

use super::Guest::{Constant, Emulated, Hidden, HiddenOrOwn, Moving, Own};
use super::Home::{Pstate, Switched, Timer, Vectors, View};
use super::{contract, control::*};

contract! {
    //                           Op0 Op1 CRn     CRm     Op2   needs    guest
    // Who the CPU is, and its caches. CCSIDR shows what CSSELR selects; TID2 traps both (and
    // CCSIDR2), too.
    "CCSIDR_EL1"                 3   1   0       0       0     ALWAYS   Own(View);
    "CLIDR_EL1"                  3   1   0       0       1     ALWAYS   Emulated(&[TID2]);
    "CCSIDR2_EL1"                3   1   0       0       2     CCIDX    Own(View);
    "GMID_EL1"                   3   1   0       0       4     MTE2     Hidden(&[TID5]);
    "SMIDR_EL1"                  3   1   0       0       6     SME      Hidden(&[TID1]);
    "AIDR_EL1"                   3   1   0       0       7     ALWAYS   Emulated(&[TID1]);
    "CSSELR_EL1"                 3   2   0       0       0     ALWAYS   Own(Switched);
    "CTR_EL0"                    3   3   0       0       1     ALWAYS   Emulated(&[TID2]);
    "DCZID_EL0"                  3   3   0       0       7     ALWAYS   Constant;
    // Random numbers.
    "RNDR, RNDRRS"               3   3   2       4       0..=1 RNG      Moving;
    // PSTATE, floating point.
    "GCSPR_EL0"                  3   3   2       5       1     GCS      Hidden(&[NGCS_EL0]);
    "NZCV"                       3   3   4       2       0     ALWAYS   Own(Pstate);
    "DAIF"                       3   3   4       2       1     ALWAYS   Own(Pstate);
    "SVCR"                       3   3   4       2       2     SME      Hidden(&[TSM]);
    "DIT"                        3   3   4       2       5     DIT      Own(Pstate);
    "SSBS"                       3   3   4       2       6     SSBS2    Own(Pstate);
    "TCO"                        3   3   4       2       7     MTE      Own(Pstate);
    "FPCR"                       3   3   4       4       0     ALWAYS   Own(Vectors);
    "FPSR"                       3   3   4       4       1     ALWAYS   Own(Vectors);
    "FPMR"                       3   3   4       4       2     FPMR     Hidden(&[ENFPM]);
    "POR_EL0"                    3   3   10      2       4     S1POE    Hidden(&[NPOR_EL0]);
    // Performance and activity monitors.
    "PMICNTR_EL0, PMICFILTR_EL0" 3   3   9       4..=6   0     PMICNTR  Hidden(&[FGT2_DEBUG]);
    "PMCR_EL0"                   3   3   9       12      0     PMU      Hidden(&[TPM, TPMCR]);
    "PM*_EL0"                    3   3   9       12..=14 0..=7 PMU      Hidden(&[TPM]);
    "PMEV*_EL0"                  3   3   14      8..=15  0..=7 PMU      Hidden(&[TPM]);
    "AM*_EL0"                    3   3   13      2..=15  0..=7 AMU      Hidden(&[TAM]);
    // Threads.
    "TPIDR_EL0"                  3   3   13      0       2     ALWAYS   Own(Switched);
    "TPIDRRO_EL0"                3   3   13      0       3     ALWAYS   Own(Switched);
    "TPIDR2_EL0"                 3   3   13      0       5     SME      HiddenOrOwn(&[NTPIDR2], Switched);
    "SCXTNUM_EL0"                3   3   13      0       7     CSV2_2   Hidden(&[ENSCXT]);
    // Time.
    "CNTFRQ_EL0"                 3   3   14      0       0     ALWAYS   Constant;
    "CNTPCT_EL0, CNTVCT_EL0"     3   3   14      0       1..=2 ALWAYS   Moving;
    "CNTPCTSS_EL0, CNTVCTSS_EL0" 3   3   14      0       5..=6 ECV      Moving;
    "CNTP_TVAL_EL0"              3   3   14      2       0     ALWAYS   Moving;
    "CNTP_CVAL_EL0"              3   3   14      2       2     ALWAYS   Own(Timer);
    "CNTP_CTL_EL0"               3   3   14      2       1     ALWAYS   Own(Timer);
    "CNTV_TVAL_EL0"              3   3   14      3       0     ALWAYS   Moving;
    "CNTV_CVAL_EL0"              3   3   14      3       2     ALWAYS   Own(Timer);
    "CNTV_CTL_EL0"               3   3   14      3       1     ALWAYS   Own(Timer);
    // Implementation defined.
    "S3_1_C11_*"                 3   1   11      0..=15  0..=7 ALWAYS   Hidden(&[TIDCP]);
    "S3_1_C15_*"                 3   1   15      0..=15  0..=7 ALWAYS   Hidden(&[TIDCP]);
    "S3_2_C11_*"                 3   2   11      0..=15  0..=7 ALWAYS   Hidden(&[TIDCP]);
    "S3_2_C15_*"                 3   2   15      0..=15  0..=7 ALWAYS   Hidden(&[TIDCP]);
    "S3_3_C11_*"                 3   3   11      0..=15  0..=7 ALWAYS   Hidden(&[TIDCP]);
    "S3_3_C15_*"                 3   3   15      0..=15  0..=7 ALWAYS   Hidden(&[TIDCP]);
}
