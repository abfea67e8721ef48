//! Steps that use what only EL1 has: system registers, calls, and the ways in and out of a vCPU.

use guest::random::Random;

use crate::step::{INTERRUPTS_MASKED, Step, Taker, affinity};
use crate::words::{
    DSB_SY, ELR_EL1, ERET, HVC, ISB, MAIR_EL1, SCTLR_EL1, SMC, SPSR_EL1, System, TCR_EL1,
    TTBR0_EL1, VBAR_EL1, WFE, WFI,
};

/// The registers on which it hangs that the vectors are reached: they are not written at random,
/// but by the kinds `control` and `lost`.
const VITAL: [System; 5] = [SCTLR_EL1, TTBR0_EL1, TCR_EL1, VBAR_EL1, MAIR_EL1];
/// `ICC_BPR0_EL1` and `ICC_BPR1_EL1`: QEMU (7.2) ends in an assertion some time after a guest
/// writes more than three bits to them.
const BINARY_POINTS: [System; 2] = [System(3, 0, 12, 8, 3), System(3, 0, 12, 12, 3)];

/// Any system register, and any system instruction.
pub(super) fn register(step: &mut Step, random: &mut Random, _: Taker<'_>) {
    for _ in 0..4 + random.below(16) {
        let mut field = |bound: usize| random.below(bound) as u32;
        let system = match field(4) {
            // Those of EL1 and EL0.
            0 | 1 => System(3, 3 * field(2), 1 + field(14), field(8), field(8)),
            // Debug, and what is not told from it: instructions.
            2 => System(2 - field(2), field(8), field(16), field(16), field(8)),
            _ => System(2 + field(2), field(8), field(16), field(16), field(8)),
        };
        // An address, for the instructions that take one.
        let operand = field(16);
        if field(2) == 0 {
            step.push(system.read(16));
            step.written |= 1 << 16;
        } else if !VITAL.contains(&system) && !BINARY_POINTS.contains(&system) {
            step.push(system.write(operand));
        }
    }
}

/// The interrupt controller's CPU interface.
pub(super) fn interface(step: &mut Step, random: &mut Random, _: Taker<'_>) {
    for _ in 0..4 + random.below(12) {
        let mut field = |bound: usize| random.below(bound) as u32;
        let system = match field(8) {
            0 => System(3, 0, 4, 6, 0),
            _ => System(3, 0, 12, 8 + field(5), field(8)),
        };
        let value = if BINARY_POINTS.contains(&system) {
            21
        } else {
            17 + field(4)
        };
        // Small numbers are numbers of interrupts, groups and priorities.
        if random.below(2) == 0 {
            step.x[value as usize] = random.below(0x110) as u64;
        }
        if BINARY_POINTS.contains(&system) {
            step.x[value as usize] &= 0b111;
        }
        if random.below(3) == 0 {
            step.push(system.read(16));
            step.written |= 1 << 16;
        } else {
            step.push(system.write(value));
        }
    }
    step.push(ISB);
}

/// Gives memory back, by [`release`].
const RELEASE_MEMORY: u64 = 0xc600_0001;
/// PSCI calls that end something, or that do not come back at once: SYSTEM_OFF and SYSTEM_RESET
/// with its variants would end the run early; the others are for [`power`].
const APART: [u64; 10] = [1, 2, 3, 8, 9, 0xc, 0xd, 0xe, 0x12, 0x15];

/// A call of any function with any arguments.
pub(super) fn call(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    let function = match random.below(6) {
        0 | 1 => 0x8400_0000 | psci_number(random),
        2 => 0xc400_0000 | psci_number(random),
        3 => 0x8000_0000 | (random.next() & 0xffff) | (random.next() & 1) << 15,
        4 => 0xc600_0002 + (random.next() & 0xff),
        _ => random.next() & 0xbfff_ffff & !0x0400_0000,
    };
    step.x[0] = function;
    for argument in 1..8 {
        step.x[argument] = match random.below(4) {
            0 => affinity(random, taker.vcpus),
            1 => random.below(0x20) as u64 | 0x8400_0000,
            2 => taker.places.any(random),
            _ => random.next(),
        };
    }
    push_call(step, random);
}

fn psci_number(random: &mut Random) -> u64 {
    let number = random.below(0x20) as u64;
    if APART.contains(&number) { 0 } else { number }
}

fn push_call(step: &mut Step, random: &mut Random) {
    let number = if random.below(4) == 0 {
        random.below(0x1_0000) as u32
    } else {
        0
    };
    step.push(if random.below(2) == 0 { HVC } else { SMC } | number << 5);
    // The convention has results in x0 to x3.
    step.written |= 0b1111;
}

/// Gives memory back, in ranges of all sorts. Its own code and data the guest keeps.
pub(super) fn release(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    let places = taker.places;
    let page = |random: &mut Random| 0x1000 << random.below(3);
    step.x[0] = RELEASE_MEMORY;
    (step.x[1], step.x[2]) = match random.below(6) {
        0 | 1 => (places.page(random), page(random)),
        2 => (places.playground(random), random.next() & 0x1fff),
        3 => (places.nothing(random) & !0xfff, random.next()),
        4 => (places.desert(random) & !0xfff, 0x20_0000),
        _ => (!0xfff << random.below(12), random.next() & !0xfff),
    };
    // Ranges that begin below RAM end there: they are too large, or small.
    if step.x[1] < 0x4000_0000 {
        step.x[2] &= 0x1000;
    }
    push_call(step, random);
}

/// Timers that fire at any time.
pub(super) fn timer(step: &mut Step, random: &mut Random, _: Taker<'_>) {
    for _ in 0..2 + random.below(8) {
        let value = 16 + random.below(8);
        step.x[value] = match random.below(4) {
            0 => random.next(),
            1 => 0_u64.wrapping_sub(random.below(0x1_0000) as u64),
            2 => random.below(8) as u64,
            _ => random.below(0x1_0000) as u64,
        };
        // TVAL, CTL or CVAL of the physical or the virtual timer, or who may use them.
        let register = match random.below(8) {
            0 => System(3, 0, 14, 1, 0),
            _ => System(3, 3, 14, 2 + random.below(2) as u32, random.below(3) as u32),
        };
        step.push(register.write(value as u32));
    }
    step.push(ISB);
}

/// Interrupts to everybody.
pub(super) fn sgi(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    for _ in 0..4 + random.below(16) {
        let value = 16 + random.below(8);
        let number = (random.next() & 0xf) << 24;
        step.x[value] = match random.below(4) {
            0 => random.next(),
            1 => 1 << 40 | number,
            2 => 0xffff | number,
            _ => 1 << random.below(taker.vcpus) | number,
        };
        let register = System(3, 0, 12, 11, 5 + random.below(3) as u32);
        step.push(register.write(value as u32));
    }
}

/// Every TLB operation of EL1, and some of EL2.
pub(super) fn tlb(step: &mut Step, random: &mut Random, _: Taker<'_>) {
    for _ in 0..16 {
        let op1 = if random.below(8) == 0 { 4 } else { 0 };
        let (scope, what) = (random.below(8) as u32, random.below(8) as u32);
        let operand = 16 + random.below(8) as u32;
        step.push(System(1, op1, 8, scope, what).write(operand));
    }
    step.push(DSB_SY);
}

/// CPU_ON of anybody at all sorts of places, CPU_OFF, AFFINITY_INFO, CPU_SUSPEND.
pub(super) fn power(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    let wide = (random.next() & 1) << 30;
    let number = match random.below(32) {
        0 => 2,
        1 => 1,
        2..6 => 4,
        _ => 3,
    };
    step.timed = true;
    step.x[0] = 0x8400_0000 | wide | number;
    step.x[1] = affinity(random, taker.vcpus);
    step.x[2] = match random.below(16) {
        0 => taker.places.elsewhere(random),
        1 if random.below(4) == 0 => taker.places.target(random),
        2 => random.next(),
        _ => taker.entry,
    };
    push_call(step, random);
}

/// Waits for an interrupt although everything is masked, or for an event.
pub(super) fn wait(step: &mut Step, random: &mut Random, _: Taker<'_>) {
    step.pstate |= INTERRUPTS_MASKED;
    step.timed = true;
    for _ in 0..1 + random.below(4) {
        step.push(if random.below(2) == 0 { WFE } else { WFI });
    }
}

/// Returns from an exception that there was not, to anywhere, in any state.
pub(super) fn exception_return(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    step.timed = true;
    step.x[16] = taker.places.target(random);
    step.x[17] = match random.below(2) {
        0 => random.next() & 0xffff_ffff,
        _ => [0x10, 0x30, 0, 4, 5, 8, 9][random.below(7)] | random.next() & 0xf1e0_03c0,
    };
    step.push(ELR_EL1.write(16));
    step.push(SPSR_EL1.write(17));
    step.push(ERET);
}

/// Takes away what the vectors need.
pub(super) fn lost(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    step.x[16] = taker.places.elsewhere(random);
    let register = VITAL[random.below(VITAL.len())];
    if random.below(2) == 0 {
        step.x[16] = random.next();
    }
    step.push(register.write(16));
    step.push(ISB);
    step.push(System(1, 0, 8, 7, 0).write(31));
    step.push(DSB_SY);
    step.push(ISB);
}
