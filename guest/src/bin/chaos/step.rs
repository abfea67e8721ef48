//! One step: its instructions, and the registers that it begins with.

use guest::{machine::MAX_VCPUS, random::Random};

use crate::places::Places;
use crate::words::{END, ISB, Registers, SCTLR_EL1};

/// Instructions of a step, at most, the end excluded.
const MOST_WORDS: usize = 24;
/// Registers that hold addresses when a step begins: x0 to x15.
const ADDRESSES: u32 = 16;
/// Registers for data: x16 to x26, and the zero register.
const DATA: [u32; 12] = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 31];
/// The register with the value that `SCTLR_EL1` gets.
const CONTROL: u32 = 28;

/// PSTATE: EL1 with its own stack pointer and everything masked; with the other stack pointer; EL0.
pub(crate) const EL1H: u64 = 0x3c5;
const EL1T: u64 = 0x3c4;
const EL0T: u64 = 0x3c0;
/// PSTATE.I and PSTATE.F.
pub(crate) const INTERRUPTS_MASKED: u64 = 0b11 << 6;

/// `SCTLR_EL1` with the bits set that older CPUs demand: everything is off.
const ALL_OFF: u64 = 0x30d0_0800;
/// `SCTLR_EL1.M`: the MMU is on.
const MMU: u64 = 1;
/// `SCTLR_EL1` as the guest's runtime sets it up, with MMU and caches on.
const ALL_ON: u64 = ALL_OFF | 1 << 23 | 1 << 12 | 1 << 8 | 1 << 7 | 1 << 3 | 1 << 2 | MMU;
/// What must stay off with the MMU on. `WXN`: memory that can be written, as all of the guest's
/// can, cannot be run. `EE`: tables are big-endian.
const DEADLY: u64 = 1 << 19 | 1 << 25;

/// Who takes a step.
#[derive(Clone, Copy)]
pub(crate) struct Taker<'a> {
    pub(crate) places: &'a Places,
    /// How many vCPUs there are.
    pub(crate) vcpus: usize,
    /// Where a vCPU starts that is to take steps.
    pub(crate) entry: u64,
}

/// A step.
pub(crate) struct Step {
    words: [u32; MOST_WORDS + 1],
    length: usize,
    /// x0 to x30.
    pub(crate) x: [u64; 31],
    pub(crate) pstate: u64,
    /// Registers whose value may have changed, one bit each.
    pub(crate) written: u32,
    /// Every instruction must end with a synchronous external abort.
    pub(crate) aborts: bool,
    /// The timer is to end it, should nothing else do so.
    pub(crate) timed: bool,
}

impl Step {
    /// One that does nothing, with addresses of all sorts and random data.
    pub(crate) fn new(random: &mut Random, places: &Places) -> Self {
        let mut x: [u64; 31] = core::array::from_fn(|_| random.next());
        for address in &mut x[..ADDRESSES as usize] {
            *address = places.any(random);
        }
        let pstate = match random.below(8) {
            0 => EL1T,
            1 => EL0T,
            2 => EL1H & !INTERRUPTS_MASKED,
            _ => EL1H,
        };
        Self {
            words: [END; MOST_WORDS + 1],
            length: 0,
            x,
            pstate,
            written: 0,
            aborts: false,
            timed: false,
        }
    }

    /// Adds an instruction, as long as there is room.
    pub(crate) fn push(&mut self, word: u32) {
        if self.length < MOST_WORDS {
            self.words[self.length] = word;
            self.length += 1;
        }
    }

    /// Adds loads, stores or anything else that names one register with an address, and data.
    pub(crate) fn push_access(
        &mut self,
        random: &mut Random,
        address: u64,
        word: impl FnOnce(&mut Random, Registers) -> u32,
    ) {
        let registers = Registers {
            base: random.below(ADDRESSES as usize) as u32,
            data: core::array::from_fn(|_| DATA[random.below(DATA.len())]),
        };
        let base = 1 << registers.base;
        // An address that an earlier instruction has changed, or may use, stays as it is.
        if self.written & base == 0 {
            self.x[registers.base as usize] = address;
        }
        self.written |= base;
        // Bit 31 is the zero register, which cannot change. CASP writes to the next register, too.
        let set = |set: u32, register: &u32| set | 0b11 << register;
        self.written |= registers.data.iter().fold(0, set);
        let word = word(random, registers);
        self.push(word);
    }

    /// From here on with the MMU off, or with other random bits of `SCTLR_EL1` that leave the
    /// vectors reachable.
    pub(crate) fn push_control(&mut self, random: &mut Random) {
        let some = random.next() & random.next();
        let value = match random.below(4) {
            0 => ALL_OFF,
            1 => (ALL_OFF ^ some) & !MMU,
            _ => (ALL_ON ^ some) & !DEADLY,
        };
        self.x[CONTROL as usize] = value;
        self.push(SCTLR_EL1.write(CONTROL));
        self.push(ISB);
    }

    /// The instructions, with the one that ends the step.
    pub(crate) fn words(&self) -> &[u32] {
        &self.words[..=self.length]
    }

    /// A number that tells this step from others, in most cases.
    pub(crate) fn digest(&self) -> u64 {
        let words = self.words().iter().map(|&word| u64::from(word));
        let all = words.chain(self.x).chain([self.pstate]);
        all.fold(0, |sum, value| Random::new(sum ^ value).next())
    }
}

/// An affinity, mostly one that a vCPU has.
pub(crate) fn affinity(random: &mut Random, vcpus: usize) -> u64 {
    match random.below(8) {
        0 => random.next(),
        1 => MAX_VCPUS as u64 + random.below(300) as u64,
        _ => random.below(vcpus) as u64,
    }
}
