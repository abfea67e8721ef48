//! The answers to guests that ask for the architecture's workarounds.

use crate::firmware::{
    ARCH_WORKAROUND_1, ARCH_WORKAROUND_2, ARCH_WORKAROUND_3, NEEDED, NOT_REQUIRED, NOT_SUPPORTED,
    UNAFFECTED,
};
use crate::status::{Attacks, Means, Status};

impl Attacks {
    /// What guests are told of the workarounds that they may ask for; `ssbs` says that their ID
    /// registers show FEAT_SSBS.
    pub const fn answers(&self, ssbs: bool) -> Answers {
        Answers {
            workaround_1: answer(self.branch_targets),
            workaround_2: match self.store_bypass {
                Status::Vulnerable(_) => NOT_SUPPORTED,
                // It is the guests' own choice.
                Status::Mitigated(Means::StoreBypassOff) if ssbs => NOT_SUPPORTED,
                // Loads never bypass stores: the firmware prevents it, or the guest does not know
                // of SSBS, which is clear then.
                Status::Unaffected | Status::Mitigated(_) => NOT_REQUIRED,
            },
            workaround_3: answer(self.branch_history),
        }
    }
}

const fn answer(status: Status) -> i32 {
    match status {
        Status::Unaffected => UNAFFECTED,
        Status::Mitigated(_) => NEEDED,
        Status::Vulnerable(_) => NOT_SUPPORTED,
    }
}

/// What `SMCCC_ARCH_FEATURES` answers guests, on any vCPU: a vCPU may move to the worst CPU.
///
/// The calls themselves have nothing to do. To make one is to leave the guest, which takes the CPU
/// through its [`Sequence`](crate::Sequence); and where the firmware keeps loads from bypassing
/// stores, it does so for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    workaround_1: i32,
    workaround_2: i32,
    workaround_3: i32,
}

impl Answers {
    /// What a guest is told that asks for `function`; `None` if that is no workaround.
    pub const fn features(&self, function: u32) -> Option<i32> {
        match function {
            ARCH_WORKAROUND_1 => Some(self.workaround_1),
            ARCH_WORKAROUND_2 => Some(self.workaround_2),
            ARCH_WORKAROUND_3 => Some(self.workaround_3),
            _ => None,
        }
    }

    /// What a call of the workaround `function` returns; `None` if that is no workaround.
    pub const fn call(&self, function: u32) -> Option<i32> {
        match self.features(function) {
            Some(NOT_SUPPORTED) => Some(NOT_SUPPORTED),
            Some(_) => Some(0),
            None => None,
        }
    }
}
