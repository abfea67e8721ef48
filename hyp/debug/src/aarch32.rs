//! The debug registers that a program of AArch32 finds at EL0: coprocessor 14.
//!
//! `MDCR_EL2.TDA` and `TDRA`, which are always set, trap them with those of AArch64. Arm ARM, the
//! registers' pages: `DBGDIDR`, `DBGDRAR`, `DBGDSAR`, and the channel to a debugger, `DBGDSCRint`
//! and `DBGDTR*int`. The guest's EL1 can keep all of them from EL0. LDC and STC, by which the
//! channel is loaded from memory and stored there, are not answered.

use crate::registers::{Counts, DebugRegisters, Refusal};
use arch::syndrome::CoprocessorAccess;

/// `DBGDIDR.Version`: Armv8; bit 15 is one. There is no EL3.
const IDENTIFICATION: u32 = 0b0110 << 16 | 1 << 15;

impl DebugRegisters {
    /// What `access` from EL0 to a register of coprocessor 14 reads, on a machine that shows guests
    /// this many breakpoints and watchpoints; a write does nothing.
    ///
    /// # Errors
    ///
    /// What becomes of the access instead.
    pub fn access_aarch32(&self, access: CoprocessorAccess, shown: Counts) -> Result<u32, Refusal> {
        let CoprocessorAccess {
            opc1,
            crn,
            crm,
            opc2,
            read,
            ..
        } = access;
        let value = match (opc1, crn, crm, opc2, read) {
            (0, 0, 0, 0, true) => identification(shown),
            // DBGDRAR and DBGDSAR, by MRC or MRRC: there is no table of what there is for
            // debugging.
            (0, 1 | 2, 0, 0, true) => 0,
            // DBGDSCRint, DBGDTRRXint and DBGDTRTXint: the channel is empty.
            (0, 0, 1, 0, true) | (0, 0, 5, 0, _) => 0,
            _ => return Err(Refusal::Undefined),
        };
        if self.traps_channel() {
            return Err(Refusal::TrappedByEl1);
        }
        Ok(value)
    }
}

/// `DBGDIDR`: WRPs 31:28, BRPs 27:24, CTX_CMPs 23:20, each one less.
fn identification(shown: Counts) -> u32 {
    let less_one = |count: u8| u32::from(count.saturating_sub(1)) & 0xf;
    less_one(shown.watchpoints) << 28
        | less_one(shown.breakpoints) << 24
        | less_one(shown.context_aware) << 20
        | IDENTIFICATION
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch::Encoding;

    const SHOWN: Counts = Counts {
        breakpoints: 6,
        context_aware: 2,
        watchpoints: 4,
    };
    const MDSCR_EL1: Encoding = Encoding::new(2, 0, 0, 2, 2);

    fn access(crn: u32, crm: u32, read: bool) -> CoprocessorAccess {
        CoprocessorAccess {
            opc1: 0,
            crn,
            crm,
            opc2: 0,
            register: 0,
            second: None,
            read,
        }
    }

    #[test]
    fn a_program_finds_what_the_architecture_has() {
        let mut registers = DebugRegisters::RESET;
        let known = [
            (access(0, 0, true), 0x3516_8000),
            (access(0, 1, true), 0),
            (access(0, 5, true), 0),
            (access(0, 5, false), 0),
            (access(1, 0, true), 0),
            (access(2, 0, true), 0),
        ];
        for (access, value) in known {
            assert_eq!(
                registers.access_aarch32(access, SHOWN),
                Ok(value),
                "{access:x?}"
            );
        }
        let others = [access(0, 0, false), access(0, 6, true), access(7, 14, true)];
        for access in others {
            let found = registers.access_aarch32(access, SHOWN);
            assert_eq!(found, Err(Refusal::Undefined), "{access:x?}");
        }
        // MDSCR_EL1.TDCC
        let written = registers.write(MDSCR_EL1, 1 << 12, false, SHOWN);
        assert!(written.is_ok());
        for (access, _) in known {
            let found = registers.access_aarch32(access, SHOWN);
            assert_eq!(found, Err(Refusal::TrappedByEl1), "{access:x?}");
        }
    }
}
