//! Registers with Op0 2: debug and trace.

use super::Guest::{Command, Emulated, Hidden};
use super::{contract, control::*};

contract! {
    //                        Op0 Op1 CRn     CRm     Op2   needs   guest
    // Each vCPU has its own, of which the hardware is told what is switched on; and the channel to a debugger that is
    // not there. TDA is one trap for all of these, so it is never lifted.
    "MDSELR_EL1"              2   0   0       4       2     FGT2    Hidden(&[FGT2_DEBUG]);
    "MDSTEPOP_EL1"            2   0   0       5       2     STEP2   Hidden(&[ENSTEPOP]);
    "MDSCR_EL1, DBG*_EL1"     2   0   0       0..=15  2..=7 ALWAYS  Emulated(&[TDA]);
    "DBGCLAIMSET_EL1, ..."    2   0   7       8..=14  6     ALWAYS  Emulated(&[TDA]);
    "MDCCSR_EL0, DBGDTR*_EL0" 2   3   0       1..=5   0     ALWAYS  Emulated(&[TDA]);
    "MDRAR_EL1"               2   0   1       0       0     ALWAYS  Emulated(&[TDRA]);
    // The OS lock, one for each vCPU.
    "OSLAR_EL1"               2   0   1       0       4     ALWAYS  Command;
    "OSLSR_EL1"               2   0   1       1       4     ALWAYS  Emulated(&[TDOSA]);
    "OSDLR_EL1"               2   0   1       3       4     ALWAYS  Emulated(&[TDOSA]);
    "DBGPRCR_EL1"             2   0   1       4       4     ALWAYS  Emulated(&[TDOSA]);
    "SPM*_EL1"                2   0   9       13..=15 0..=7 SPMU    Hidden(&[ENSPM]);
    // Trace, and records of branches.
    "BRB*_EL1"                2   1   8..=9   0..=15  0..=7 BRBE    Hidden(&[NBRB]);
    "TRC*"                    2   1   0..=7   0..=15  0..=7 TRACE   Hidden(&[TTA]);
    "SPM*_EL0"                2   3   9       12..=15 0..=7 SPMU    Hidden(&[ENSPM]);
    "SPMEV*_EL0"              2   3   14      0..=15  0..=7 SPMU    Hidden(&[ENSPM]);
}
