//! Steps that load, store, fetch and walk, everywhere.

use guest::random::Random;

use crate::places::Places;
use crate::step::{EL1H, Step, Taker};
use crate::words::{self, DSB_SY, ISB, System, TCR_EL1, TTBR1_EL1};

/// Accesses of every kind to addresses that `place` chooses; one time in four after a change of the
/// MMU.
fn accesses(step: &mut Step, random: &mut Random, place: impl Fn(&mut Random) -> u64) {
    if random.below(4) == 0 {
        step.push_control(random);
    }
    for _ in 0..4 + random.below(12) {
        let address = place(random);
        step.push_access(random, address, words::access);
    }
}

pub(super) fn device(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    accesses(step, random, |random| taker.places.device(random));
}

pub(super) fn edge(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    accesses(step, random, |random| taker.places.edge(random));
}

/// Plain accesses, each of which must abort.
pub(super) fn nothing(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    step.pstate = EL1H;
    step.aborts = true;
    for _ in 0..4 + random.below(8) {
        let address = taker.places.nothing(random);
        let load = random.below(2) == 0;
        step.push_access(random, address, |random, registers| {
            words::plain(random, load, registers)
        });
    }
}

pub(super) fn read_only(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    for _ in 0..4 + random.below(8) {
        let address = taker.places.read_only(random);
        step.push_access(random, address, |random, registers| {
            words::plain(random, false, registers)
        });
    }
    // ID registers, and the counter.
    step.push(System(3, 0, 0, random.below(8) as u32, random.below(8) as u32).write(16));
    step.push(System(3, 3, 14, 0, 1 + random.below(2) as u32).write(16));
}

/// Branches to anywhere.
pub(super) fn fetch(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    step.pstate = EL1H;
    if random.below(2) == 0 {
        step.push_control(random);
    }
    let to = random.below(16) as u32;
    step.x[to as usize] = taker.places.target(random);
    step.push(words::branch(to));
}

/// `TCR_EL1` as the guest has it, for addresses of the lower half, with 40-bit physical addresses.
const LOWER_HALF: u64 = 2 << 32 | 0b11_0101 << 8 | 25;
/// `TCR_EL1`: the fields for the upper half, where the guest has nothing, but for EPD1, which would
/// forbid it.
const UPPER_HALF: u64 = 0xff7f_0000;

/// Tables for the upper half of virtual addresses that lie anywhere, and accesses through them.
pub(super) fn tables(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    let table = 16;
    let upper = if random.below(4) == 0 {
        random.next()
    } else {
        (25 << 16) | (0b1011_0101 << 24)
    };
    step.x[17] = LOWER_HALF | upper & UPPER_HALF;
    step.x[table] = match random.below(3) {
        // A table with entries of random data, or one that leads to itself.
        0 => self_made_table(step, random, taker.places),
        _ => taker.places.any(random) & !0xfff,
    };
    step.push(TTBR1_EL1.write(table as u32));
    step.push(TCR_EL1.write(17));
    step.push(ISB);
    for _ in 0..4 {
        let address = u64::MAX << 39 | random.next() >> random.below(40);
        match random.below(4) {
            0 => {
                // AT S1E1R and S1E1W, and their variants.
                let (kind, operand) = (random.below(4) as u32, random.below(16));
                step.x[operand] = address;
                step.push(System(1, 0, 7, 8, kind).write(operand as u32));
            }
            1 => {
                step.x[15] = address & !3;
                step.push(words::branch(15));
            }
            _ => step.push_access(random, address, words::access),
        }
    }
}

/// Adds stores that make a table in the playground, and returns its address.
fn self_made_table(step: &mut Step, random: &mut Random, places: &Places) -> u64 {
    let table = places.page(random);
    for entry in 0..4 {
        let to = match random.below(3) {
            0 => table,
            _ => places.elsewhere(random) & 0xff_ffff_f000,
        };
        let (value, at) = (18 + entry, 12 + entry);
        step.x[value] = to | random.next() & 0xfff | 0b11;
        step.x[at] = table + 8 * random.below(512) as u64;
        step.push(words::store(at as u32, value as u32));
        step.written |= 1 << at;
    }
    step.push(DSB_SY);
    table
}

/// Bits of `SCTLR_EL1`, again and again, with accesses to memory under them.
pub(super) fn control(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    for _ in 0..3 {
        step.push_control(random);
        for _ in 0..3 {
            let address = taker.places.playground(random);
            step.push_access(random, address, words::access);
        }
    }
}

/// Cache maintenance by set and way, and by addresses of all sorts.
pub(super) fn cache(step: &mut Step, random: &mut Random, taker: Taker<'_>) {
    const BY_SET: [System; 3] = [
        System(1, 0, 7, 6, 2),
        System(1, 0, 7, 10, 2),
        System(1, 0, 7, 14, 2),
    ];
    const BY_ADDRESS: [System; 7] = [
        System(1, 0, 7, 6, 1),
        System(1, 3, 7, 4, 1),
        System(1, 3, 7, 5, 1),
        System(1, 3, 7, 10, 1),
        System(1, 3, 7, 11, 1),
        System(1, 3, 7, 12, 1),
        System(1, 3, 7, 14, 1),
    ];
    for _ in 0..4 + random.below(12) {
        let system = match random.below(4) {
            0 => BY_SET[random.below(BY_SET.len())],
            1 => System(1, 0, 7, 1 + 4 * random.below(2) as u32, 0),
            _ => BY_ADDRESS[random.below(BY_ADDRESS.len())],
        };
        let operand = random.below(16);
        step.x[operand] = taker.places.any(random);
        step.push(system.write(operand as u32));
    }
    step.push(DSB_SY);
}
