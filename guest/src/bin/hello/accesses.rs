//! Loads and stores that the syndrome of an abort does not describe: of a device's registers each
//! must do what it does to memory.
//!
//! Each instruction is executed twice, with x1 as base: on registers that keep what is stored, and
//! on memory that held the same. Registers and contents must be the same afterwards.

use core::arch::naked_asm;

use aarch64_cpu::{
    asm::barrier,
    registers::{CPACR_EL1, ID_AA64ISAR0_EL1, Readable, Writeable},
};
use guest::{
    machine::Machine,
    println,
    probe::{self, Outcome},
};

/// What an instruction finds in the registers, and leaves there: x0 to x7, and the halves of v0 and
/// v1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    x: [u64; 8],
    v: [u64; 4],
}

/// Registers that keep what is stored, as far as the mask goes, which repeats every eight bytes.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    words: usize,
    mask: u64,
}

/// The most words of 32 bits that a place has.
const WORDS: usize = 16;
/// How far behind a place's start the base is, so that there are registers on both sides.
const BASE: usize = 16;

/// Which place an instruction is executed on.
#[derive(Clone, Copy)]
enum Of {
    /// `GICD_IPRIORITYR8` and further, of which the upper five bits of each byte are kept: accessed
    /// by bytes and words.
    Priorities,
    /// `GICD_IROUTER32` and further: accessed by words and doublewords.
    Routes,
    /// `UARTIBRD`, of which two bytes are kept, and `UARTFBRD`.
    Rates,
}

struct Case {
    name: &'static str,
    of: Of,
    /// It needs FEAT_LSE.
    atomic: bool,
    run: unsafe extern "C" fn(state: *mut State),
}

macro_rules! case {
    ($of:ident, $name:literal) => {
        case!($of, $name, false)
    };
    (atomic $of:ident, $name:literal) => {
        case!($of, $name, true)
    };
    ($of:ident, $name:literal, $atomic:literal) => {{
        #[unsafe(naked)]
        unsafe extern "C" fn run(state: *mut State) {
            naked_asm!(
                ".arch_extension fp",
                ".arch_extension simd",
                ".arch_extension lse",
                "mov x9, x0",
                "mov x10, sp",
                "ldp q0, q1, [x9, #64]",
                "ldp x0, x1, [x9]",
                "ldp x2, x3, [x9, #16]",
                "ldp x4, x5, [x9, #32]",
                "ldp x6, x7, [x9, #48]",
                "clrex",
                $name,
                "mov sp, x10",
                "stp x0, x1, [x9]",
                "stp x2, x3, [x9, #16]",
                "stp x4, x5, [x9, #32]",
                "stp x6, x7, [x9, #48]",
                "stp q0, q1, [x9, #64]",
                "ret",
                ".arch_extension nolse",
                ".arch_extension nosimd",
                ".arch_extension nofp",
            )
        }
        Case {
            name: $name,
            of: Of::$of,
            atomic: $atomic,
            run,
        }
    }};
}

/// x1 is the base, and x4 and x5 (or w4 and w5) hold what is there.
fn cases() -> [Case; 55] {
    [
        case!(Priorities, "ldrb w2, [x1], #1"),
        case!(Priorities, "ldrb w2, [x1, #-3]!"),
        case!(Priorities, "ldrsb w2, [x1, #1]!"),
        case!(Priorities, "ldrsb x2, [x1], #-7"),
        case!(Priorities, "strb w2, [x1], #1"),
        case!(Priorities, "strb wzr, [x1, #2]!"),
        case!(Priorities, "ldr w2, [x1], #4"),
        case!(Priorities, "ldr w2, [x1, #-4]!"),
        case!(Priorities, "ldrsw x2, [x1], #255"),
        case!(Priorities, "str w2, [x1], #-256"),
        case!(Priorities, "str w2, [x1, #8]!"),
        case!(Priorities, "ldp w2, w3, [x1]"),
        case!(Priorities, "ldp w2, wzr, [x1, #8]"),
        case!(Priorities, "ldp w2, w3, [x1, #-8]!"),
        case!(Priorities, "ldpsw x2, x3, [x1], #8"),
        case!(Priorities, "ldnp w2, w3, [x1, #4]"),
        case!(Priorities, "stp w2, w3, [x1], #8"),
        case!(Priorities, "stnp w2, wzr, [x1]"),
        case!(Priorities, "ldr s0, [x1], #4"),
        case!(Priorities, "ldr b1, [x1, #5]"),
        case!(Priorities, "str s1, [x1, #-4]!"),
        case!(Priorities, "str b1, [x1], #1"),
        case!(Priorities, "ldp s0, s1, [x1, #-8]"),
        case!(Priorities, "stp s0, s1, [x1]"),
        case!(Priorities, "ldxr w2, [x1]"),
        case!(Priorities, "ldaxrb w2, [x1]"),
        case!(Routes, "ldxp w2, w3, [x1]"),
        case!(atomic Priorities, "ldadd w2, w3, [x1]"),
        case!(atomic Priorities, "ldclralb w2, w3, [x1]"),
        case!(atomic Priorities, "ldeor w2, wzr, [x1]"),
        case!(atomic Priorities, "ldset w2, w3, [x1]"),
        case!(atomic Priorities, "ldsmaxb w2, w3, [x1]"),
        case!(atomic Priorities, "ldumin w2, w3, [x1]"),
        case!(atomic Priorities, "swpl w2, w3, [x1]"),
        case!(atomic Priorities, "cas w4, w3, [x1]"),
        case!(atomic Priorities, "casb w2, w3, [x1]"),
        case!(atomic Routes, "casp x4, x5, x2, x3, [x1]"),
        case!(atomic Routes, "casp w2, w3, w4, w5, [x1]"),
        case!(Routes, "ldr x2, [x1], #8"),
        case!(Routes, "str x2, [x1, #-8]!"),
        case!(Routes, "ldp x2, x3, [x1]"),
        case!(Routes, "ldp x2, x3, [x1], #16"),
        case!(Routes, "stp x2, x3, [x1, #-16]!"),
        case!(Routes, "ldp w2, w3, [x1, #-8]"),
        case!(Routes, "ldr q0, [x1], #16"),
        case!(Routes, "str q0, [x1, #-16]!"),
        case!(Routes, "ldp q0, q1, [x1]"),
        case!(Routes, "stp q0, q1, [x1, #-16]!"),
        case!(Routes, "ldp d0, d1, [x1, #8]"),
        case!(Routes, "ldxp x2, x3, [x1]"),
        case!(Routes, "mov sp, x1; ldp x2, x3, [sp], #16; mov x1, sp"),
        case!(Routes, "mov sp, x1; str d0, [sp, #-16]!; mov x1, sp"),
        case!(Rates, "ldrh w2, [x1, #-16]!"),
        case!(Rates, "strh w2, [x1, #-16]!"),
        case!(Rates, "ldr h0, [x1, #-16]!"),
    ]
}

impl Place {
    fn words(self) -> impl Iterator<Item = (u64, u32)> {
        let masks = [self.mask as u32, (self.mask >> 32) as u32];
        (0..self.words).map(move |n| (self.start + 4 * n as u64, masks[n % 2]))
    }

    fn get(self) -> [u32; WORDS] {
        let mut contents = [0; WORDS];
        for (content, (address, mask)) in contents.iter_mut().zip(self.words()) {
            // SAFETY: a register, or a word of the copy, which is mapped.
            *content = unsafe { (address as *const u32).read_volatile() } & mask;
        }
        contents
    }

    fn set(self, contents: &[u32; WORDS]) {
        for ((address, _), content) in self.words().zip(contents) {
            // SAFETY: a register that nothing else uses, or a word of the copy.
            unsafe { (address as *mut u32).write_volatile(*content) };
        }
    }
}

/// Memory in the place of a place's registers.
#[repr(C, align(64))]
struct Copy([u32; WORDS + 80]);

/// Tries them all; panics after the last if one went wrong.
pub(crate) fn run(machine: &'static Machine<'static>) {
    CPACR_EL1.write(CPACR_EL1::FPEN::TrapNothing);
    barrier::isb(barrier::SY);
    let [distributor, _] = machine
        .interrupt_controller()
        .expect("the device tree has a GICv3");
    let has_atomics = ID_AA64ISAR0_EL1.get() >> 20 & 0xf >= 2;
    let (mut done, mut wrong) = (0, 0);
    for case in cases().iter().filter(|case| has_atomics || !case.atomic) {
        let place = match case.of {
            Of::Priorities => Place {
                start: distributor.start + 0x420,
                words: 8,
                mask: 0xf8f8_f8f8_f8f8_f8f8,
            },
            Of::Routes => Place {
                start: distributor.start + 0x6100,
                words: 16,
                mask: 0xff_00ff_ffff,
            },
            Of::Rates => Place {
                start: machine.uart + 0x24,
                words: 1,
                mask: 0xffff,
            },
        };
        done += 1;
        wrong += u32::from(!case.is_right(place));
    }
    wrong += not_emulated(machine.uart);
    assert!(wrong == 0, "{wrong} accesses went wrong");
    println!("accesses: {done} instructions do to devices what they do to memory");
}

impl Case {
    fn is_right(&self, device: Place) -> bool {
        let mut copy = Copy([0; WORDS + 80]);
        let memory = Place {
            start: copy.0.as_mut_ptr() as u64,
            ..device
        };
        let kept = device.get();
        let mut filled = [0; WORDS];
        for ((n, word), (_, mask)) in filled.iter_mut().enumerate().zip(device.words()) {
            *word = 0x9f8e_7d6c_u32.wrapping_mul(2 * n as u32 + 1) & mask;
        }
        let [on_device, on_memory] = [device, memory].map(|place| {
            place.set(&filled);
            self.execute(place, &filled)
        });
        let [device_holds, memory_holds] = [device.get(), memory.get()];
        device.set(&kept);
        let is_right = on_device == on_memory && device_holds == memory_holds;
        if !is_right {
            println!(
                "accesses: {}: {on_device:x?}, not {on_memory:x?}",
                self.name
            );
            println!("accesses: {device_holds:x?}, not {memory_holds:x?}");
        }
        is_right
    }

    /// What is left in the registers, with the base as far as it has moved.
    fn execute(&self, place: Place, filled: &[u32; WORDS]) -> State {
        let base = place.start + BASE as u64;
        let words = &filled[BASE / 4..];
        let both = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let expected = match self.of {
            Of::Routes => [both(words[0], words[1]), both(words[2], words[3])],
            Of::Priorities | Of::Rates => [words[0].into(), words[1].into()],
        };
        let mut state = State {
            x: [
                0,
                base,
                0x28_3040_1838,
                0x58_d068_7870,
                expected[0],
                expected[1],
                6,
                7,
            ],
            v: [0x1_0203_0405, 0x6_0708_090a, 0xb_0c0d_0e0f, 0x10_1112_1314].map(|half| half * 8),
        };
        // SAFETY: the instruction accesses the place, round its base, and x0 to x7, v0 and v1,
        // which it is given.
        unsafe { (self.run)(&raw mut state) };
        state.x[1] = state.x[1].wrapping_sub(base);
        state
    }
}

/// What is not emulated ends in an abort, and is told once. Returns how many do not.
fn not_emulated(uart: u64) -> u32 {
    let probes: [(&str, probe::Probe, u64); 3] = [
        ("ld1", probe::load_array, 0x24),
        ("ld1, again", probe::load_array, 0x24),
        ("ldp beyond the last register", probe::load_pair, 0xff8),
    ];
    let is_wrong = |&&(name, probe, offset): &&(&str, probe::Probe, u64)| {
        // SAFETY: the probes load.
        let outcome: Outcome = unsafe { probe(uart + offset) };
        let is_wrong = !outcome.is_external_data_abort();
        if is_wrong {
            println!("accesses: {name}: ESR {:#x}", outcome.esr);
        }
        is_wrong
    };
    probes.iter().filter(is_wrong).count() as u32
}
