//! Exceptions that the hypervisor makes up, out of every state a guest can be in: each must be as
//! one that the CPU takes there by itself, for stage 1's sake or for an instruction that nobody
//! knows.

use aarch64_cpu::{
    asm::barrier,
    registers::{CPACR_EL1, ID_AA64DFR0_EL1, ID_AA64PFR0_EL1, Readable, SCTLR_EL1, Writeable},
};
use guest::{machine::Machine, println};

use crate::catch::{Caught, catch};
use crate::lower::{self, ANYWHERE, Target, USER};

/// Where nothing is.
const NOWHERE: u64 = 0x70_0000_0000;
/// `UARTPCellID1` within the first GiB, and its value.
const CELL_1: u64 = 0x0900_0ff4;
const CELL_1_VALUE: u64 = 0xf0;
const RAM: u64 = 0x4000_0000;

/// `SCTLR_EL1.SPAN` and `DSSBS`, and `ITD`, which makes most IT blocks undefined.
const SPAN: u64 = 1 << 23;
const DSSBS: u64 = 1 << 44;
const ITD: u64 = 1 << 7;
/// `CPACR_EL1.ZEN`: it is not EL1 that traps SVE.
const ZEN: u64 = 0b11 << 16;

/// `ID_AA64PFR0_EL1.EL0`: there is AArch32.
const EL0_AARCH32: u64 = 2;

/// Status codes: a translation fault of the guest's own at level 1, and what comes from the
/// hypervisor.
const TRANSLATION_1: u64 = 0x05;
const EXTERNAL: u64 = 0x10;
const EXTERNAL_ON_WALK: u64 = 0x14;

/// Instructions in one state's encoding. Each is followed by [`Self::unknown`].
#[repr(C, align(8))]
struct Code {
    /// Load w0 or r0 from the address in register 1, and store it there.
    load: [u32; 2],
    store: [u32; 2],
    /// One that the hypervisor traps and knows nothing of.
    trapped: [u32; 2],
    /// AArch32: reads DBGDIDR, which there is at EL0, too.
    debug: [u32; 2],
    /// Loads w0 and a word more, of which no syndrome says anything; with AArch32 that is not
    /// known.
    pair: [u32; 2],
    /// One that is permanently undefined.
    unknown: u32,
}

const UDF: u32 = 0;
static A64: Code = Code {
    load: [0xb940_0020, UDF],
    store: [0xb900_0020, UDF],
    // mrs x0, pmcr_el0
    trapped: [0xd53b_9c00, UDF],
    debug: [UDF, UDF],
    // ldp w0, wzr, [x1]
    pair: [0x2940_7c20, UDF],
    unknown: UDF,
};
static A64_USER: Code = Code {
    // rdvl x0, #1
    trapped: [0x04bf_5020, UDF],
    ..A64
};
const UDF_A32: u32 = 0xe7f0_00f0;
static A32: Code = Code {
    load: [0xe591_0000, UDF_A32],
    store: [0xe581_0000, UDF_A32],
    // mrc p15, 0, r0, c9, c14, 0: PMUSERENR
    trapped: [0xee19_0f1e, UDF_A32],
    debug: [0xee10_0e10, UDF_A32],
    // ldm r1, {r0, r2}
    pair: [0xe891_0005, UDF_A32],
    unknown: UDF_A32,
};
/// Two instructions of 16 bits each, or one of 32 whose first half is the lower one.
const UDF_T32: u32 = 0xde00_de00;
static T32: Code = Code {
    load: [0xde00_6808, UDF_T32],
    store: [0xde00_6008, UDF_T32],
    trapped: [0x0f1e_ee19, UDF_T32],
    debug: [0x0e10_ee10, UDF_T32],
    pair: [0x0005_e891, UDF_T32],
    unknown: UDF_T32,
};
static T32_WIDE: Code = Code {
    load: [0x0000_f8d1, UDF_T32],
    store: [0x0000_f8c1, UDF_T32],
    ..T32
};

/// A state of the CPU from which exceptions are taken.
struct Origin {
    name: &'static str,
    /// A SPSR's value.
    pstate: u64,
    code: &'static Code,
    el0: bool,
    /// The vector for synchronous exceptions from there.
    vector: u64,
}

const N_AND_C: u64 = 0b1010 << 28;
/// BTYPE, SSBS, PAN, UAO and DIT, which CPUs without them ignore.
const FEATURES: u64 = 1 << 10 | 1 << 12 | 1 << 22 | 1 << 23 | DIT;
const DIT: u64 = 1 << 24;
/// N, Z, C, V and DIT.
const FLAGS: u64 = 0xf << 28 | DIT;
/// The same of AArch32: PAN, SSBS and DIT.
const AARCH32_FEATURES: u64 = 1 << 22 | 1 << 23 | DIT;
/// Z, and ITT EQ: this instruction and the next are executed if Z is set.
const IN_IT_BLOCK: u64 = 1 << 30 | 1 << 10;
/// D, A, I and F, of which AArch32 has no D.
const MASKS: u64 = 0xf << 6;
const AARCH32_MASKS: u64 = 7 << 6;
const THUMB: u64 = 1 << 5;
const USER_32: u64 = 0x10;

const fn origin(name: &'static str, pstate: u64, code: &'static Code) -> Origin {
    let (el0, vector) = match pstate & 0x1f {
        0x05 => (false, 4),
        0x04 => (false, 0),
        0x00 => (true, 8),
        _ => (true, 12),
    };
    Origin {
        name,
        pstate,
        code,
        el0,
        vector,
    }
}

static ORIGINS: [Origin; 10] = [
    origin("EL1h", 0x5 | MASKS | N_AND_C, &A64),
    origin("EL1h with all there is", 0x5 | FEATURES, &A64),
    origin("EL1t", 0x4 | MASKS, &A64),
    origin("EL1t with all there is", 0x4 | N_AND_C | FEATURES, &A64),
    origin("EL0", N_AND_C, &A64_USER),
    origin("EL0 with all there is", MASKS | FEATURES, &A64_USER),
    origin("A32", USER_32 | N_AND_C, &A32),
    origin("T32", USER_32 | THUMB | AARCH32_FEATURES, &T32),
    origin("T32, in an IT block", USER_32 | THUMB | IN_IT_BLOCK, &T32),
    origin(
        "T32, wide",
        USER_32 | THUMB | N_AND_C | AARCH32_MASKS,
        &T32_WIDE,
    ),
];

/// What is done there.
#[derive(Clone, Copy, Debug)]
enum Act {
    Load,
    Store,
    Fetch,
}

/// Counts what was compared, and what differed.
#[derive(Default)]
struct Tally {
    compared: u32,
    wrong: u32,
}

/// Tries everything from everywhere; panics after the last if something went wrong.
pub(crate) fn run(machine: &'static Machine<'static>) {
    assert!(
        machine.uart == CELL_1 & !0xfff && machine.memory.start == RAM,
        "no board like virt"
    );
    let has_aarch32 = ID_AA64PFR0_EL1.get() & 0xf == EL0_AARCH32;
    let kept = (SCTLR_EL1.get(), CPACR_EL1.get());
    CPACR_EL1.set(kept.1 | ZEN);
    let mut tally = Tally::default();
    lower::with_tables(|| {
        for control in [0, SPAN, DSSBS, SPAN | DSSBS] {
            SCTLR_EL1.set(kept.0 & !(SPAN | DSSBS | ITD) | control);
            barrier::isb(barrier::SY);
            let there = |origin: &&Origin| has_aarch32 || !origin.is_aarch32();
            for origin in ORIGINS.iter().filter(there) {
                tally.aborts(origin);
                tally.others(origin);
                tally.pairs(origin);
            }
        }
    });
    SCTLR_EL1.set(kept.0);
    CPACR_EL1.set(kept.1);
    barrier::isb(barrier::SY);
    let Tally { compared, wrong } = tally;
    assert!(wrong == 0, "{wrong} exceptions are not as the CPU's own");
    let states = if has_aarch32 {
        "AArch64 and AArch32"
    } else {
        "AArch64"
    };
    println!("origins: {compared} exceptions from {states} are as the CPU's own");
}

impl Tally {
    /// Aborts: external ones against translation faults.
    fn aborts(&mut self, origin: &Origin) {
        let targets = [
            (Target::Block(NOWHERE), EXTERNAL),
            (Target::Table2(NOWHERE), EXTERNAL_ON_WALK + 2),
            (Target::Table3(NOWHERE), EXTERNAL_ON_WALK + 3),
        ];
        for act in [Act::Load, Act::Store, Act::Fetch] {
            lower::lead(Target::Invalid, origin.el0);
            let own = origin.does(act, ANYWHERE);
            let is_own = own.vector == origin.vector && own.esr & 0x3f == TRANSLATION_1;
            assert!(
                is_own,
                "{}: {act:?}: {own:x?} is no translation fault",
                origin.name
            );
            for (target, status) in targets {
                lower::lead(target, origin.el0);
                let expected = Caught {
                    esr: own.esr & !0x3f | status,
                    // QEMU clears these flags when it takes an exception by itself; they ought to
                    // stay.
                    pstate: own.pstate | own.spsr & FLAGS,
                    ..own
                };
                let found = origin.does(act, ANYWHERE);
                self.compare(
                    origin,
                    format_args!("{act:?} of {target:x?}"),
                    found,
                    expected,
                );
            }
        }
    }

    /// An undefined instruction, and a load that is emulated before one. Some of these exceptions
    /// are the CPU's own for either.
    fn others(&mut self, origin: &Origin) {
        let same = |found: Caught| Caught {
            pstate: found.pstate & !FLAGS,
            far: 0,
            ..found
        };
        let unknown = origin.runs(&raw const origin.code.unknown, 0);
        let expected = Caught {
            elr: origin.address(&raw const origin.code.trapped as u64),
            ..unknown
        };
        let found = origin.runs(&raw const origin.code.trapped[0], 0);
        self.compare(origin, format_args!("trapped"), same(found), same(expected));

        lower::lead(Target::Block(RAM), origin.el0);
        let own = origin.does(Act::Load, ANYWHERE);
        if origin.is_aarch32() {
            self.debug_register(origin, same(own));
        }
        lower::lead(Target::Block(0), origin.el0);
        let found = origin.does(Act::Load, ANYWHERE + CELL_1);
        let expected = Caught {
            x0: CELL_1_VALUE,
            ..own
        };
        self.compare(
            origin,
            format_args!("emulated load"),
            same(found),
            same(expected),
        );
    }

    /// A debug register that programs may read; `own` is the exception behind another instruction.
    fn debug_register(&mut self, origin: &Origin, own: Caught) {
        let [there, behind] = [0, 1].map(|n| &raw const origin.code.debug[n] as u64);
        let found = origin.runs(there as *const u32, 0);
        if found.elr == origin.address(there) {
            // It comes to no hypervisor: QEMU 7.2 has CPUs without, where Arm has none.
            println!("origins: {}: there is no DBGDIDR", origin.name);
            return;
        }
        let found = Caught {
            pstate: found.pstate & !FLAGS,
            far: 0,
            ..found
        };
        let expected = Caught {
            elr: origin.address(behind),
            x0: debug_identification(),
            ..own
        };
        self.compare(origin, format_args!("DBGDIDR"), found, expected);
    }

    /// A load of which no syndrome says anything, of a device that is emulated: by the instruction,
    /// or not at all.
    fn pairs(&mut self, origin: &Origin) {
        lower::lead(Target::Block(RAM), origin.el0);
        let own = origin.runs(&raw const origin.code.pair[0], ANYWHERE);
        lower::lead(Target::Invalid, origin.el0);
        let fault = origin.runs(&raw const origin.code.pair[0], ANYWHERE + CELL_1);
        lower::lead(Target::Block(0), origin.el0);
        let found = origin.runs(&raw const origin.code.pair[0], ANYWHERE + CELL_1);
        let expected = match origin.is_aarch32() {
            false => Caught {
                x0: CELL_1_VALUE,
                ..own
            },
            true => Caught {
                esr: fault.esr & !0x3f | EXTERNAL,
                ..fault
            },
        };
        // What is not known is an abort, which has an address.
        let far = if origin.is_aarch32() { u64::MAX } else { 0 };
        let same = |caught: Caught| Caught {
            pstate: caught.pstate & !FLAGS,
            far: caught.far & far,
            ..caught
        };
        self.compare(origin, format_args!("pair"), same(found), same(expected));
    }

    fn compare(
        &mut self,
        origin: &Origin,
        what: core::fmt::Arguments<'_>,
        found: Caught,
        expected: Caught,
    ) {
        self.compared += 1;
        if found != expected {
            self.wrong += 1;
            println!(
                "origins: {}: {what}: {found:x?}, not {expected:x?}",
                origin.name
            );
        }
    }
}

/// `DBGDIDR`, as it follows from `ID_AA64DFR0_EL1`.
fn debug_identification() -> u64 {
    let dfr0 = ID_AA64DFR0_EL1.get();
    let field = |low: u32, to: u32| (dfr0 >> low & 0xf) << to;
    field(20, 28) | field(12, 24) | field(28, 20) | 0x6_8000
}

impl Origin {
    fn is_aarch32(&self) -> bool {
        self.vector == 12
    }

    /// Where code is executed from here that lies at `address`.
    fn address(&self, address: u64) -> u64 {
        if self.el0 { address + USER } else { address }
    }

    fn runs(&self, code: *const u32, argument: u64) -> Caught {
        self.starts(self.address(code as u64), argument)
    }

    fn does(&self, act: Act, address: u64) -> Caught {
        match act {
            Act::Load => self.runs(&raw const self.code.load[0], address),
            Act::Store => self.runs(&raw const self.code.store[0], address),
            Act::Fetch => self.starts(address, 0),
        }
    }

    fn starts(&self, pc: u64, argument: u64) -> Caught {
        // SAFETY: one of the instructions above, which do no more than they say there, with an
        // undefined one behind it; or none.
        unsafe { catch(pc, self.pstate, argument) }
    }
}
