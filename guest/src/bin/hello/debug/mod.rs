//! Self-hosted debugging, as the architecture has it: breakpoints and watchpoints hit what they are
//! set to and nothing else, a step is one instruction also where the hypervisor carries it out, and
//! each vCPU has its own registers.
//!
//! - [`registers`]: the registers; - [`hits`]: breakpoints and watchpoints; - [`steps`]: software step;
//! - [`turns`]: all vCPUs use them at once, on whichever CPU they are.

mod hits;
mod registers;
mod steps;
mod turns;

use guest::{machine::Machine, println};

use crate::{
    catch::{Caught, catch},
    lower::{self, USER},
};
use registers::Registers;

/// SPSRs' values for EL0, and for EL1 with its own stack pointer, with A, I and F masked and D not.
const EL0: u64 = 0x1c0;
const EL1: u64 = 0x1c5;
/// PSTATE.D: debug exceptions from EL1 to EL1 are masked.
const MASKED: u64 = 1 << 9;
/// SPSR.SS: the next instruction is executed before a step is over.
const STEPPING: u64 = 1 << 21;

/// `ESR_EL1.EC`, all but the first of which are one higher if the exception comes from EL1.
const UNKNOWN: u64 = 0x00;
const ABORT: u64 = 0x24;
const BREAKPOINT: u64 = 0x30;
const STEP: u64 = 0x32;
const WATCHPOINT: u64 = 0x34;

/// The instructions that are run most: none does anything but the last, which is undefined.
static SLIDE: Code<16> = Code::slide();

/// Instructions, which are run where they lie.
#[repr(C, align(8))]
struct Code<const N: usize>([u32; N]);

impl<const N: usize> Code<N> {
    const NOP: u32 = 0xd503_201f;
    const UDF: u32 = 0;

    const fn slide() -> Self {
        let mut code = [Self::NOP; N];
        code[N - 1] = Self::UDF;
        Self(code)
    }

    /// Where instruction `n` lies.
    fn at(&self, n: usize) -> u64 {
        &raw const self.0[n] as u64
    }
}

/// An exception level that is debugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    El0,
    El1,
}

impl Level {
    const BOTH: [Self; 2] = [Self::El0, Self::El1];

    /// Where this level finds what EL1 has at `address`.
    fn sees(self, address: u64) -> u64 {
        match self {
            Self::El0 => address + USER,
            Self::El1 => address,
        }
    }

    /// PSTATE here, as a SPSR has it.
    fn pstate(self) -> u64 {
        match self {
            Self::El0 => EL0,
            Self::El1 => EL1,
        }
    }

    /// The class of an exception from here, given that of one from EL0.
    fn class(self, class: u64) -> u64 {
        match self {
            Self::El1 if class != UNKNOWN => class + 1,
            _ => class,
        }
    }

    /// Runs what lies at `address`, which is EL1's, with `argument` in x1, and bits of PSTATE set.
    fn runs(self, address: u64, argument: u64, pstate: u64) -> Caught {
        let pstate = self.pstate() | pstate;
        // SAFETY: Code of this mode, which does no more than load or store what is the mode's own,
        // or what the test of it says, and ends in an undefined instruction.
        unsafe { catch(self.sees(address), pstate, argument) }
    }
}

/// The class of an exception, and the address at which EL1 has the instruction that it was taken
/// from.
fn what_and_where(caught: &Caught, level: Level) -> (u64, u64) {
    let address = caught.elr.wrapping_sub(level.sees(0));
    (caught.esr >> 26, address)
}

/// Says what is not as it must be, and ends the guest.
#[track_caller]
fn check(what: core::fmt::Arguments<'_>, level: Level, caught: &Caught, class: u64, at: u64) {
    let expected = (level.class(class), at);
    assert!(
        what_and_where(caught, level) == expected,
        "debug: {what} at {level:?}: {caught:x?}, not class {:#x} at {:#x}",
        expected.0,
        level.sees(at)
    );
}

/// Tries them all; then all vCPUs use them for `milliseconds`, with values that depend on `seed`.
pub(crate) fn run(machine: &'static Machine<'static>, milliseconds: u64, seed: u64) {
    let registers = Registers::unlock();
    println!(
        "debug: {} breakpoints, {} of them for contexts, {} watchpoints",
        registers.breakpoints, registers.context_aware, registers.watchpoints
    );
    lower::with_tables(|| {
        hits::run(&registers);
        steps::run(machine, &registers);
    });
    println!("debug: every hit and every step is right");
    if milliseconds > 0 {
        turns::run(machine, milliseconds, seed);
    }
}
