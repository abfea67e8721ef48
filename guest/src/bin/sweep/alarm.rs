//! How a vCPU gives up its CPU in a round: it works on until its slice is over, or it sleeps until
//! a timer's interrupt is pending, so that others get to its CPU, and it goes on elsewhere.
//!
//! The interrupt stays masked: WFI ends all the same, and then it is acknowledged as a handler
//! would. Registers that an alarm uses are looked at in rounds that have another.

use aarch64_cpu::asm::{barrier, wfi};
use aarch64_cpu::registers::{CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, Writeable};
use arch::Encoding;
use guest::{gic::Gic, machine::Machine, time};

use crate::code;

/// INTIDs from here on are no interrupts.
const SPECIAL: u64 = 1020;

const ICC_PMR_EL1: Encoding = Encoding::new(3, 0, 4, 6, 0);
const ICC_IAR1_EL1: Encoding = Encoding::new(3, 0, 12, 12, 0);
const ICC_EOIR1_EL1: Encoding = Encoding::new(3, 0, 12, 12, 1);
const ICC_CTLR_EL1: Encoding = Encoding::new(3, 0, 12, 12, 4);
const ICC_IGRPEN1_EL1: Encoding = Encoding::new(3, 0, 12, 12, 7);

/// What gives the CPU up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// The end of its slice.
    Slice,
    /// WFI, until the physical timer's interrupt.
    Physical,
    /// WFI, until the virtual timer's interrupt.
    Virtual,
}

/// Lets the timers' interrupts through on this vCPU, the first.
pub(crate) fn enable(machine: &Machine<'static>) {
    let gic = Gic::of(machine, 0);
    gic.init_distributor();
    gic.init_vcpu();
}

impl Alarm {
    /// The alarm of this round; guests with different seeds have different ones.
    pub(crate) const fn of(round: u64, seed: u64) -> Self {
        match (round + seed) % 4 {
            0 => Self::Physical,
            2 => Self::Virtual,
            _ => Self::Slice,
        }
    }

    /// Whether the register is one of its.
    pub(crate) fn uses(self, register: Encoding) -> bool {
        let timer = match self {
            Self::Slice => return false,
            Self::Physical => 2,
            Self::Virtual => 3,
        };
        let of_timer = (0..3).any(|op2| register == Encoding::new(3, 3, 14, timer, op2));
        let of_interface = register.crn() == 12 && register.crm() >= 8 && register.op0() == 3;
        of_timer || of_interface || register == ICC_PMR_EL1
    }

    /// Makes it ready.
    pub(crate) fn set_up(self) {
        if self != Self::Slice {
            for (register, value) in [(ICC_CTLR_EL1, 0), (ICC_PMR_EL1, 0xff), (ICC_IGRPEN1_EL1, 1)]
            {
                code::store(register, value);
            }
        }
    }

    /// Gives up the CPU for so many microseconds, or for a slice or two in as many.
    pub(crate) fn wait(self, microseconds: usize) {
        let end = time::now() + time::frequency() / 1_000_000 * microseconds as u64;
        match self {
            Self::Slice => {
                while time::now() < end {
                    core::hint::spin_loop();
                }
                return;
            }
            Self::Physical => {
                CNTP_CVAL_EL0.set(end);
                CNTP_CTL_EL0.write(CNTP_CTL_EL0::ENABLE::SET);
            }
            Self::Virtual => {
                CNTV_CVAL_EL0.set(end);
                CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
            }
        }
        barrier::isb(barrier::SY);
        wfi();
        match self {
            Self::Physical => CNTP_CTL_EL0.set(0),
            _ => CNTV_CTL_EL0.set(0),
        }
        barrier::isb(barrier::SY);
        acknowledge();
    }
}

/// Takes the interrupts that are pending, and ends them.
fn acknowledge() {
    while let Some(interrupt) = code::read(ICC_IAR1_EL1).filter(|&number| number < SPECIAL) {
        code::store(ICC_EOIR1_EL1, interrupt);
    }
}
