//! Software step: whether the CPU or the hypervisor carries the instruction out, a step is over
//! behind it.

use core::sync::atomic::{AtomicUsize, Ordering};

use guest::{boot, gic, machine::Machine};

use super::registers::{self, KDE, Registers, SS, TDCC};
use super::{ABORT, Code, Level, MASKED, SLIDE, STEP, STEPPING, UNKNOWN, check};
use crate::catch::Caught;
use crate::lower::{self, Target};

/// `UARTPCellID1` within the first GiB, which stores do not change, and its value.
const CELL_1: u64 = 0x0900_0ff4;
const CELL_1_VALUE: u64 = 0xf0;
/// What a call answers that is none.
const NOT_SUPPORTED: u64 = u64::MAX;
/// Where nothing is.
const NOWHERE: u64 = 0x70_0000_0000;

/// Status codes: a translation fault of the guest's own at level 1, and what comes from the
/// hypervisor.
const TRANSLATION_1: u64 = 0x05;
const EXTERNAL: u64 = 0x10;

/// An MRS of `MDCCSR_EL0` into x0 that is trapped: its class, and Op0 2, Op1 3, CRn 0, CRm 1,
/// Op2 0.
const TRAPPED_CHANNEL: u64 = 0x18 << 26 | 1 << 25 | 2 << 20 | 3 << 14 | 1 << 1 | 1;

/// The argument of an instruction, in x1.
#[derive(Clone, Copy)]
enum Argument {
    Nothing,
    /// A device's register.
    Device,
    /// A page that nobody has touched.
    FreshPage,
    /// Where the slide begins.
    Slide,
}

/// One instruction.
struct Instruction {
    name: &'static str,
    code: Code<2>,
    argument: Argument,
    /// What x0 must be behind it, where that is certain.
    result: Option<u64>,
}

const fn instruction(name: &'static str, code: u32, argument: Argument) -> Instruction {
    Instruction {
        name,
        code: Code([code, 0]),
        argument,
        result: None,
    }
}

impl Instruction {
    const fn gives(self, result: u64) -> Self {
        Self {
            result: Some(result),
            ..self
        }
    }
}

/// What both levels can do.
static ANY_LEVEL: [Instruction; 4] = [
    instruction("nop", 0xd503_201f, Argument::Nothing),
    instruction("load of a fresh page", 0xf940_0020, Argument::FreshPage).gives(0),
    instruction("store to a fresh page", 0xf900_0020, Argument::FreshPage),
    instruction("mrs x0, mdccsr_el0", 0xd533_0100, Argument::Nothing).gives(0),
];

/// What EL1 alone can do.
static EL1_ONLY: [Instruction; 10] = [
    instruction("hvc", 0xd400_0002, Argument::Nothing).gives(NOT_SUPPORTED),
    instruction("smc", 0xd400_0003, Argument::Nothing).gives(NOT_SUPPORTED),
    instruction("mrs x0, id_aa64dfr1_el1", 0xd538_0520, Argument::Nothing).gives(0),
    instruction("mrs x0, mdscr_el1", 0xd530_0240, Argument::Nothing).gives(SS | KDE),
    instruction("msr dbgbvr0_el1, x1", 0xd510_0081, Argument::Slide),
    instruction("wfe", 0xd503_205f, Argument::Nothing),
    instruction("wfi", 0xd503_207f, Argument::Nothing),
    instruction("load of a device", 0xb940_0020, Argument::Device).gives(CELL_1_VALUE),
    instruction("store to a device", 0xb900_0020, Argument::Device),
    instruction("dc civac of a device", 0xd50b_7e21, Argument::Device),
];

/// Branch to x1.
static BRANCH: Code<2> = Code([0xd61f_0020, 0]);
/// Instructions that cannot be carried out: one that nobody knows, and one that the hypervisor
/// traps and knows nothing of (mrs x0, pmcr_el0), unless EL1 traps it from EL0.
static UNKNOWN_TO_ALL: Code<2> = Code([0, 0]);
static UNKNOWN_TO_EL2: Code<2> = Code([0xd53b_9c00, 0]);
/// Load from x1.
static LOAD: Code<2> = Code([0xb940_0020, 0]);
/// mrs x0, mdccsr_el0
static CHANNEL: Code<2> = Code([0xd533_0100, 0]);

pub(super) fn run(machine: &'static Machine<'static>, registers: &Registers) {
    await_nothing(machine);
    registers::set_control(SS | KDE);
    for level in Level::BOTH {
        for instruction in &ANY_LEVEL {
            steps_over(machine, level, instruction);
        }
        lower::lead(Target::Block(0), level == Level::El0);
        emulated_load(level);
        branch(level);
        cannot_step(level);
    }
    for instruction in &EL1_ONLY {
        steps_over(machine, Level::El1, instruction);
    }
    pending(Level::El0);
    masked();
    trapped_channel();
    registers.clear();
}

/// Has an interrupt be pending from now on that this vCPU does not take, so that a WFI is over at
/// once.
fn await_nothing(machine: &'static Machine<'static>) {
    let gic = gic::Gic::of(machine, 0);
    gic.init_distributor();
    gic.init_vcpu();
    gic::interface::send(gic::sgi_to(machine.mpidrs()[0], 1));
}

fn value_of(machine: &'static Machine<'static>, argument: Argument, level: Level) -> u64 {
    static FRESH: AtomicUsize = AtomicUsize::new(0);
    match argument {
        Argument::Nothing => 0,
        Argument::Device => CELL_1,
        Argument::FreshPage => {
            let page = FRESH.fetch_add(1, Ordering::Relaxed);
            // Far from what is mapped with its neighbours.
            level.sees(boot::pool(machine).ipa(1024 + page))
        }
        Argument::Slide => SLIDE.at(0),
    }
}

fn steps_over(machine: &'static Machine<'static>, level: Level, instruction: &Instruction) {
    let argument = value_of(machine, instruction.argument, level);
    let caught = level.runs(instruction.code.at(0), argument, STEPPING);
    let name = instruction.name;
    check(
        format_args!("a step over {name}"),
        level,
        &caught,
        STEP,
        instruction.code.at(1),
    );
    is_over(name, level, &caught);
    if let Some(result) = instruction.result {
        assert!(
            caught.x0 == result,
            "debug: {name} at {level:?} gives {:#x}, not {result:#x}",
            caught.x0
        );
    }
}

/// The state is as it was, but that the step is over.
fn is_over(name: &str, level: Level, caught: &Caught) {
    let expected = level.pstate();
    assert!(
        caught.spsr & (STEPPING | 0x3df) == expected,
        "debug: behind a step over {name} at {level:?}: {caught:x?}, not PSTATE {expected:#x}"
    );
}

/// A load that the hypervisor carries out, through the GiB that leads to the devices.
fn emulated_load(level: Level) {
    let caught = level.runs(LOAD.at(0), lower::ANYWHERE + CELL_1, STEPPING);
    check(
        format_args!("a step over an emulated load"),
        level,
        &caught,
        STEP,
        LOAD.at(1),
    );
    is_over("an emulated load", level, &caught);
    assert!(
        caught.x0 == CELL_1_VALUE,
        "debug: an emulated load at {level:?} gives {:#x}",
        caught.x0
    );
}

/// A step over a branch ends where that leads.
fn branch(level: Level) {
    let to = SLIDE.at(7);
    let caught = level.runs(BRANCH.at(0), level.sees(to), STEPPING);
    check(
        format_args!("a step over a branch"),
        level,
        &caught,
        STEP,
        to,
    );
}

/// An instruction that cannot be carried out has not been stepped over, whether the CPU or the
/// hypervisor says so.
fn cannot_step(level: Level) {
    let not_stepped = |what: &str, caught: &Caught, class: u64, at: u64| {
        check(format_args!("{what}"), level, caught, class, at);
        assert!(
            caught.spsr & STEPPING != 0,
            "debug: {what} at {level:?} counts as a step: {caught:x?}"
        );
    };
    let undefined = match level {
        Level::El0 => &[&UNKNOWN_TO_ALL][..],
        Level::El1 => &[&UNKNOWN_TO_ALL, &UNKNOWN_TO_EL2],
    };
    for code in undefined {
        let caught = level.runs(code.at(0), 0, STEPPING);
        not_stepped("an undefined instruction", &caught, UNKNOWN, code.at(0));
    }
    for (target, status) in [
        (Target::Invalid, TRANSLATION_1),
        (Target::Block(NOWHERE), EXTERNAL),
    ] {
        lower::lead(target, level == Level::El0);
        let caught = level.runs(LOAD.at(0), lower::ANYWHERE, STEPPING);
        not_stepped("an abort", &caught, ABORT, LOAD.at(0));
        assert!(
            caught.esr & 0x3f == status,
            "debug: an abort at {level:?}: {caught:x?}"
        );
    }
}

/// With the step over already nothing is executed.
fn pending(level: Level) {
    let caught = level.runs(SLIDE.at(3), 0, 0);
    check(
        format_args!("a step that is over"),
        level,
        &caught,
        STEP,
        SLIDE.at(3),
    );
}

/// EL1 is not stepped while it masks debug exceptions, or the OS lock is locked, or without KDE.
fn masked() {
    let not_stepped = |what: &str, level: Level, pstate: u64| {
        let caught = level.runs(SLIDE.at(0), 0, pstate | STEPPING);
        check(
            format_args!("{what}"),
            level,
            &caught,
            UNKNOWN,
            SLIDE.at(15),
        );
    };
    not_stepped("a masked step", Level::El1, MASKED);
    registers::set_control(SS);
    not_stepped("a step without KDE", Level::El1, 0);
    registers::lock(true);
    not_stepped("a step behind the OS lock", Level::El0, 0);
    registers::lock(false);
}

/// What EL1 traps of EL0 is trapped to EL1.
fn trapped_channel() {
    registers::set_control(TDCC);
    let caught = Level::El0.runs(CHANNEL.at(0), 0, 0);
    assert!(
        caught.esr == TRAPPED_CHANNEL && caught.elr == Level::El0.sees(CHANNEL.at(0)),
        "debug: MDCCSR_EL0 from EL0: {caught:x?}, not ESR {TRAPPED_CHANNEL:#x}"
    );
}
