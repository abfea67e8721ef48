//! What `ESR_EL2` says about an exception from a guest.
//!
//! Arm ARM, `ESR_EL2`. Only taken apart here, not acted upon.

use crate::Encoding;

/// Exception classes (`ESR_EL2.EC`) with which a guest's exceptions come to EL2.
pub mod class {
    /// A WFI or WFE that `HCR_EL2` traps.
    pub const WAIT: u64 = 0x01;
    /// MCR or MRC of coprocessor 14 from AArch32 that is trapped.
    pub const COPROCESSOR_14: u64 = 0x05;
    /// MRRC of coprocessor 14 from AArch32 that is trapped.
    pub const COPROCESSOR_14_PAIR: u64 = 0x0c;
    /// HVC from AArch64.
    pub const HVC: u64 = 0x16;
    /// SMC from AArch64.
    pub const SMC: u64 = 0x17;
    /// MSR, MRS or system instruction from AArch64 that is trapped.
    pub const SYSTEM: u64 = 0x18;
    /// An instruction abort from a lower exception level.
    pub const INSTRUCTION_ABORT: u64 = 0x20;
    /// A data abort from a lower exception level.
    pub const DATA_ABORT: u64 = 0x24;
}

/// The class of a syndrome.
pub const fn class_of(esr: u64) -> u64 {
    esr >> 26 & 0x3f
}

/// `ESR_EL2.IL`: the instruction has 32 bits.
pub const IL: u64 = 1 << 25;

/// The status code of a synchronous external abort on an access itself.
pub const EXTERNAL_ABORT: u64 = 0x10;

/// The status code of a synchronous external abort on a walk that reads a table of this level, -1
/// to 3.
pub const fn external_abort_on_walk(level: i8) -> u64 {
    0x14_u64.wrapping_add_signed(level as i64)
}

/// HVC and SMC: the immediate in the instruction.
pub const fn immediate(esr: u64) -> u64 {
    esr & 0xffff
}

/// A trapped instruction that waits (`ESR_EL2.ISS` for WF*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// WFE or WFET; or a WFIT of which the syndrome does not say for how long. It may end at once.
    Event,
    /// WFI.
    Interrupt,
    /// WFIT: until the counter reaches the value of this general-purpose register at the latest.
    InterruptUntil(usize),
}

impl Wait {
    /// TI is in bits 1:0, RV in bit 2, RN in bits 9:5.
    pub const fn new(esr: u64) -> Self {
        const TIMED: u64 = 0b10;
        const REGISTER_VALID: u64 = 1 << 2;
        match esr & 0b11 {
            0 => Self::Interrupt,
            TIMED if esr & REGISTER_VALID != 0 => Self::InterruptUntil((esr >> 5 & 31) as usize),
            _ => Self::Event,
        }
    }
}

pub use stage2::aarch64::{Abort, Cause};

/// A load or store of one general-purpose register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Its number; 31 is the zero register.
    pub register: usize,
    /// Bytes in memory: 1, 2, 4 or 8.
    pub size: u32,
    /// It stores.
    pub write: bool,
    /// It loads and extends the sign.
    pub sign_extend: bool,
    /// The register is 64 bits wide, not 32.
    pub sixty_four: bool,
}

impl Transfer {
    /// The load or store that can be emulated from the syndrome of an abort alone, if it says
    /// enough.
    pub fn described(abort: Abort) -> Option<Self> {
        if !abort.contains(Abort::SYNDROME_VALID) || abort.contains(Abort::STAGE1_WALK) {
            return None;
        }
        let field = |mask: Abort| (abort & mask).bits() >> mask.bits().trailing_zeros();
        Some(Self {
            register: field(Abort::REGISTER) as usize,
            size: 1 << field(Abort::SIZE),
            write: abort.contains(Abort::WRITE),
            sign_extend: abort.contains(Abort::SIGN_EXTEND),
            sixty_four: abort.contains(Abort::SIXTY_FOUR),
        })
    }

    /// What a store puts into memory, of the register's value; devices are little-endian.
    pub const fn stored(self, value: u64, big_endian: bool) -> u64 {
        self.in_order(value & self.mask(), big_endian)
    }

    /// What a load puts into the register, of a device's value.
    pub const fn loaded(self, value: u64, big_endian: bool) -> u64 {
        let value = self.in_order(value & self.mask(), big_endian);
        let sign = 1 << (8 * self.size - 1);
        let extended = if self.sign_extend && value & sign != 0 {
            value | !self.mask()
        } else {
            value
        };
        if self.sixty_four {
            extended
        } else {
            extended & 0xffff_ffff
        }
    }

    /// The bytes of a value the other way round, if they are to be.
    #[inline]
    const fn in_order(self, value: u64, big_endian: bool) -> u64 {
        if big_endian {
            self.reversed(value)
        } else {
            value
        }
    }

    #[cold]
    const fn reversed(self, value: u64) -> u64 {
        value.swap_bytes() >> (64 - 8 * self.size)
    }

    const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.size)
    }
}

/// A trapped MSR or MRS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// The register.
    pub encoding: Encoding,
    /// The general-purpose register's number; 31 is the zero register.
    pub register: usize,
    /// It is an MRS.
    pub read: bool,
}

impl SystemAccess {
    /// Where the syndrome has the encoding: Op0 21:20, Op2 19:17, Op1 16:14, CRn 13:10, CRm 4:1.
    pub const fn new(esr: u64) -> Self {
        Self {
            encoding: Encoding::new(
                (esr >> 20 & 3) as u32,
                (esr >> 14 & 7) as u32,
                (esr >> 10 & 15) as u32,
                (esr >> 1 & 15) as u32,
                (esr >> 17 & 7) as u32,
            ),
            register: (esr >> 5 & 31) as usize,
            read: esr & 1 == 1,
        }
    }
}

/// A trapped MCR, MRC or MRRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoprocessorAccess {
    /// The register, as the instruction names it; for MRRC, which has neither CRn nor opc2, as an
    /// MRC of the same register does.
    pub opc1: u32,
    /// See `opc1`.
    pub crn: u32,
    /// See `opc1`.
    pub crm: u32,
    /// See `opc1`.
    pub opc2: u32,
    /// The general-purpose register's number; 15 means the flags.
    pub register: usize,
    /// That of MRRC's other one.
    pub second: Option<usize>,
    /// It is an MRC or MRRC.
    pub read: bool,
}

impl CoprocessorAccess {
    /// Where the syndrome has the encoding: Opc2 19:17, Opc1 16:14, CRn 13:10, CRm 4:1, Rt 9:5; for
    /// two registers Opc1 19:16, Rt2 14:10. By two registers `DBGDRAR` and `DBGDSAR` are c1 and c2
    /// of CRm, as else of CRn.
    pub const fn new(esr: u64) -> Self {
        let register = (esr >> 5 & 31) as usize;
        let (crm, read) = ((esr >> 1 & 15) as u32, esr & 1 == 1);
        if class_of(esr) == class::COPROCESSOR_14_PAIR {
            return Self {
                opc1: (esr >> 16 & 15) as u32,
                crn: crm,
                crm: 0,
                opc2: 0,
                register,
                second: Some((esr >> 10 & 31) as usize),
                read,
            };
        }
        Self {
            opc1: (esr >> 14 & 7) as u32,
            crn: (esr >> 10 & 15) as u32,
            crm,
            opc2: (esr >> 17 & 7) as u32,
            register,
            second: None,
            read,
        }
    }
}

/// The condition of a trapped AArch32 instruction (COND), if the syndrome has it (CV); else
/// `PSTATE.IT` does.
pub const fn condition(esr: u64) -> Option<u64> {
    const VALID: u64 = 1 << 24;
    if esr & VALID != 0 {
        Some(esr >> 20 & 0xf)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stage2::{Access, Level};

    #[test]
    fn a_byte_store_to_a_device() {
        // strb w3, [x1]: EC 0x24, IL, ISV, SAS 0, SRT 3, WnR, translation fault at level 3.
        let esr = 0x24 << 26 | IL | 1 << 24 | 3 << 16 | 1 << 6 | 7;
        assert_eq!(class_of(esr), class::DATA_ABORT);
        let abort = Abort::new(esr);
        assert_eq!(abort.cause(), Cause::Translation(Level::L3));
        assert_eq!(abort.access(None), Access::Write);
        let access = Transfer::described(abort).unwrap();
        assert_eq!((access.register, access.size, access.write), (3, 1, true));
        assert_eq!(access.stored(0x1234, false), 0x34);
    }

    #[test]
    fn what_the_syndrome_does_not_describe_is_not_emulated_by_it() {
        for esr in [1 << 8 | 1 << 6 | 0x07, 1 << 24 | 1 << 7, 0x07] {
            assert_eq!(Transfer::described(Abort::new(esr)), None);
        }
    }

    #[test]
    fn loads_extend_as_the_instruction_says() {
        let load = |size, sign_extend, sixty_four| Transfer {
            register: 0,
            size,
            write: false,
            sign_extend,
            sixty_four,
        };
        assert_eq!(load(1, false, false).loaded(0xfff0, false), 0xf0);
        assert_eq!(load(1, true, false).loaded(0xf0, false), 0xffff_fff0);
        assert_eq!(
            load(1, true, true).loaded(0xf0, false),
            0xffff_ffff_ffff_fff0
        );
        assert_eq!(load(2, true, true).loaded(0x7fff, false), 0x7fff);
        assert_eq!(
            load(4, true, true).loaded(0x8000_0000, false),
            0xffff_ffff_8000_0000
        );
        assert_eq!(load(8, true, true).loaded(u64::MAX, false), u64::MAX);
    }

    #[test]
    fn a_big_endian_guest_finds_registers_in_its_order() {
        let access = |size, sign_extend| Transfer {
            register: 0,
            size,
            write: false,
            sign_extend,
            sixty_four: true,
        };
        assert_eq!(access(1, false).loaded(0x80, true), 0x80);
        assert_eq!(access(2, true).loaded(0x0180, true), u64::MAX - 0x7ffe);
        assert_eq!(access(4, false).loaded(0x1234_5678, true), 0x7856_3412);
        assert_eq!(
            access(4, false).stored(0xffff_ffff_1234_5678, true),
            0x7856_3412
        );
        assert_eq!(
            access(8, false).stored(0x0102_0304_0506_0708, true),
            0x0807_0605_0403_0201
        );
    }

    /// DC IVAC on a page whose stores trap: as a load it would be answered again and again, with
    /// nothing changed.
    #[test]
    fn race_60_maintenance_that_needs_the_right_to_store_is_a_store() {
        let maintenance = 1 << 8 | 1 << 6;
        for level in 0..4 {
            let refused = Abort::new(maintenance | 0x0c | level);
            assert_eq!(refused.access(None), Access::Write);
            let not_mapped = Abort::new(maintenance | 0x04 | level);
            assert_eq!(not_mapped.access(None), Access::Read);
            let not_marked = Abort::new(maintenance | 0x08 | level);
            assert_eq!(not_marked.access(None), Access::Read);
        }
    }

    #[test]
    fn each_level_has_its_status_code() {
        let codes = [-1, 0, 1, 2, 3].map(external_abort_on_walk);
        assert_eq!(
            codes,
            [0b01_0011, 0b01_0100, 0b01_0101, 0b01_0110, 0b01_0111]
        );
    }

    #[test]
    fn waits_are_told_apart() {
        let class = class::WAIT << 26 | IL | 1 << 24 | 0xe << 20;
        assert_eq!(Wait::new(class), Wait::Interrupt);
        assert_eq!(Wait::new(class | 1), Wait::Event);
        let register = 7 << 5 | 1 << 2;
        assert_eq!(Wait::new(class | register | 2), Wait::InterruptUntil(7));
        assert_eq!(Wait::new(class | register | 3), Wait::Event);
        assert_eq!(Wait::new(class | 2), Wait::Event);
    }

    #[test]
    fn a_trapped_coprocessor_register_is_named() {
        // mrc p14, 0, r3, c0, c1, 0
        let access = CoprocessorAccess::new(0x05 << 26 | IL | 0x1e << 20 | 3 << 5 | 1 << 1 | 1);
        let expected = CoprocessorAccess {
            opc1: 0,
            crn: 0,
            crm: 1,
            opc2: 0,
            register: 3,
            second: None,
            read: true,
        };
        assert_eq!(access, expected);
        // mrrc p14, 0, r3, r4, c2
        let pair = 0x0c << 26 | IL | 0x1e << 20 | 4 << 10 | 3 << 5 | 2 << 1 | 1;
        let expected = CoprocessorAccess {
            crn: 2,
            crm: 0,
            second: Some(4),
            ..expected
        };
        assert_eq!(CoprocessorAccess::new(pair), expected);
        assert_eq!(
            (condition(0x1e << 20), condition(0xe << 20)),
            (Some(0xe), None)
        );
    }

    #[test]
    fn a_trapped_register_is_named() {
        // mrs x5, id_aa64pfr0_el1: Op0 3, Op1 0, CRn 0, CRm 4, Op2 0.
        let access = SystemAccess::new(0x18 << 26 | IL | 3 << 20 | 4 << 1 | 5 << 5 | 1);
        assert_eq!(access.encoding, Encoding::new(3, 0, 0, 4, 0));
        assert_eq!((access.register, access.read), (5, true));
    }
}
