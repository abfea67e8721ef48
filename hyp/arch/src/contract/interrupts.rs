//! The registers of the interrupt controller's CPU interface (Arm IHI 0069). EL1 reaches the
//! virtual interface (`HCR_EL2.IMO` and `FMO`).

use super::Guest::{Command, Emulated, Moving, Own};
use super::Home::{Interface, View};
use super::{contract, control::SRE_ENABLE};

contract! {
    //                   Op0 Op1 CRn     CRm     Op2   needs   guest
    "ICC_PMR_EL1"        3   0   4       6       0     ALWAYS  Own(Interface);
    "ICC_IAR0_EL1"       3   0   12      8       0     ALWAYS  Command;
    "ICC_EOIR0_EL1"      3   0   12      8       1     ALWAYS  Command;
    "ICC_HPPIR0_EL1"     3   0   12      8       2     ALWAYS  Moving;
    "ICC_BPR0_EL1"       3   0   12      8       3     ALWAYS  Own(Interface);
    "ICC_AP0R<n>_EL1"    3   0   12      8       4..=7 ALWAYS  Own(Interface);
    "ICC_AP1R<n>_EL1"    3   0   12      9       0..=3 ALWAYS  Own(Interface);
    "ICC_NMIAR1_EL1"     3   0   12      9       5     NMI     Moving;
    "ICC_DIR_EL1"        3   0   12      11      1     ALWAYS  Command;
    "ICC_RPR_EL1"        3   0   12      11      3     ALWAYS  Own(View);
    "ICC_SGI1R_EL1, ..." 3   0   12      11      5..=7 ALWAYS  Command;
    "ICC_IAR1_EL1"       3   0   12      12      0     ALWAYS  Command;
    "ICC_EOIR1_EL1"      3   0   12      12      1     ALWAYS  Command;
    "ICC_HPPIR1_EL1"     3   0   12      12      2     ALWAYS  Moving;
    "ICC_BPR1_EL1"       3   0   12      12      3     ALWAYS  Own(Interface);
    "ICC_CTLR_EL1"       3   0   12      12      4     ALWAYS  Own(Interface);
    "ICC_SRE_EL1"        3   0   12      12      5     ALWAYS  Emulated(&[SRE_ENABLE]);
    "ICC_IGRPEN0_EL1"    3   0   12      12      6     ALWAYS  Own(Interface);
    "ICC_IGRPEN1_EL1"    3   0   12      12      7     ALWAYS  Own(Interface);
}
