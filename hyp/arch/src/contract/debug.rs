//! Registers with Op0 2: debug and trace.

use super::Guest::{Command, Emulated, Hidden, Modelled};
use super::{contract, control::*};

contract! {
    //                        Op0 Op1 CRn     CRm     Op2   needs   guest
    // Each vCPU has its own, of which the hardware is told what is switched on. TDA is one trap for
    // these and for what follows, so it is never lifted.
    "MDCCINT_EL1"             2   0   0       2       0     ALWAYS  Modelled(&[TDA]);
    "MDSCR_EL1"               2   0   0       2       2     ALWAYS  Modelled(&[TDA]);
    "MDSELR_EL1"              2   0   0       4       2     FGT2    Hidden(&[FGT2_DEBUG]);
    "MDSTEPOP_EL1"            2   0   0       5       2     STEP2   Hidden(&[ENSTEPOP]);
    "DBG[BW][CV]R<n>_EL1"     2   0   0       0..=15  4..=7 ALWAYS  Modelled(&[TDA]);
    "DBGCLAIMSET_EL1, ..."    2   0   7       8..=9   6     ALWAYS  Modelled(&[TDA]);
    // The channel to a debugger that is not there.
    "OSDTRRX_EL1, ..."        2   0   0       0..=6   2     ALWAYS  Emulated(&[TDA]);
    "DBGAUTHSTATUS_EL1, ..."  2   0   7       10..=15 6     ALWAYS  Emulated(&[TDA]);
    "MDCCSR_EL0, DBGDTR*_EL0" 2   3   0       1..=5   0     ALWAYS  Emulated(&[TDA]);
    "MDRAR_EL1"               2   0   1       0       0     ALWAYS  Emulated(&[TDRA]);
    // The OS lock, one for each vCPU.
    "OSLAR_EL1"               2   0   1       0       4     ALWAYS  Command;
    "OSLSR_EL1"               2   0   1       1       4     ALWAYS  Emulated(&[TDOSA]);
    "OSDLR_EL1, DBGPRCR_EL1"  2   0   1       3..=4   4     ALWAYS  Emulated(&[TDOSA]);
    "SPM*_EL1"                2   0   9       13..=15 0..=7 SPMU    Hidden(&[ENSPM]);
    // Trace, and records of branches.
    "BRB*_EL1"                2   1   8..=9   0..=15  0..=7 BRBE    Hidden(&[NBRB]);
    "TRC*"                    2   1   0..=7   0..=15  0..=7 TRACE   Hidden(&[TTA]);
    "SPM*_EL0"                2   3   9       12..=15 0..=7 SPMU    Hidden(&[ENSPM]);
    "SPMEV*_EL0"              2   3   14      0..=15  0..=7 SPMU    Hidden(&[ENSPM]);
}
