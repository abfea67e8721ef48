//! Breakpoints and watchpoints: what they hit, and what they leave alone.

use core::sync::atomic::AtomicU64;

use super::registers::{
    self, ANYWHERE, BYTES, CONTEXT, ENABLE, FOR_EL0, FOR_EL1, INSTRUCTION, KDE, LINK, LINKED,
    LOADS, MDE, Registers, STORES, WATCHPOINT_LINKED,
};
use super::{BREAKPOINT, Code, Level, MASKED, SLIDE, UNKNOWN, WATCHPOINT, check};

/// Everything on.
const ON: u64 = MDE | KDE;
/// Where breakpoints are put in the slide, and where that ends.
const PLACE: usize = 5;
const END: usize = 15;

/// Load x0 from the address in x1; store a byte there.
static LOAD: Code<2> = Code([0xf940_0020, 0]);
static STORE_BYTE: Code<2> = Code([0x3900_0020, 0]);

/// What is watched.
static WATCHED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// `ESR_EL1.WnR`.
const WRITE: u64 = 1 << 6;

/// A context, and one that differs from it.
const THIS: u64 = 0x1234_5678;
const OTHER: u64 = 0x1234_5679;

pub(super) fn run(registers: &Registers) {
    for level in Level::BOTH {
        each_breakpoint(registers, level);
        unless(registers, level);
        contexts(registers, level);
        each_watchpoint(registers, level);
    }
    masked(registers);
}

/// Runs the slide from its begin, and says what is wrong if it does not end like this.
fn slides(what: &str, level: Level, pstate: u64, class: u64, place: usize) {
    let caught = level.runs(SLIDE.at(0), 0, pstate);
    check(
        format_args!("{what}"),
        level,
        &caught,
        class,
        SLIDE.at(place),
    );
}

/// Each of them stops the slide where it is set, alone.
fn each_breakpoint(registers: &Registers, level: Level) {
    registers::set_control(ON);
    slides("no breakpoint", level, 0, UNKNOWN, END);
    for n in 0..registers.breakpoints {
        registers::set_breakpoint_value(n, level.sees(SLIDE.at(PLACE + n)));
        registers::set_breakpoint(n, ANYWHERE | INSTRUCTION);
        slides("a breakpoint", level, 0, BREAKPOINT, PLACE + n);
        registers::set_breakpoint(n, 0);
        slides("a breakpoint that was removed", level, 0, UNKNOWN, END);
    }
    registers.clear();
}

/// What keeps a breakpoint from hitting.
fn unless(registers: &Registers, level: Level) {
    let (own, others) = match level {
        Level::El0 => (FOR_EL0, FOR_EL1),
        Level::El1 => (FOR_EL1, FOR_EL0),
    };
    registers::set_breakpoint_value(0, level.sees(SLIDE.at(PLACE)));
    registers::set_breakpoint(0, ENABLE | own | INSTRUCTION);
    slides("a breakpoint while all are off", level, 0, UNKNOWN, END);
    registers::set_control(ON);
    slides("a breakpoint of this level", level, 0, BREAKPOINT, PLACE);
    registers::lock(true);
    slides("a breakpoint behind the OS lock", level, 0, UNKNOWN, END);
    registers::lock(false);
    slides("a breakpoint without the lock", level, 0, BREAKPOINT, PLACE);
    registers::set_breakpoint(0, ENABLE | others | INSTRUCTION);
    slides("a breakpoint of the other level", level, 0, UNKNOWN, END);
    registers::set_breakpoint(0, own | INSTRUCTION);
    slides("a breakpoint that is disabled", level, 0, UNKNOWN, END);
    registers.clear();
}

/// Within EL1 nothing hits that is masked, nor without KDE; EL0 does not care.
fn masked(registers: &Registers) {
    registers::set_breakpoint(0, ANYWHERE | INSTRUCTION);
    for (control, pstate, hits) in [(ON, MASKED, false), (MDE, 0, false), (ON, 0, true)] {
        registers::set_control(control);
        registers::set_breakpoint_value(0, Level::El1.sees(SLIDE.at(PLACE)));
        let (class, place) = if hits {
            (BREAKPOINT, PLACE)
        } else {
            (UNKNOWN, END)
        };
        slides("a masked breakpoint", Level::El1, pstate, class, place);
        registers::set_breakpoint_value(0, Level::El0.sees(SLIDE.at(PLACE)));
        slides("a masked breakpoint", Level::El0, pstate, BREAKPOINT, PLACE);
    }
    registers.clear();
}

/// Breakpoints and watchpoints that are linked to a context hit in that only.
fn contexts(registers: &Registers, level: Level) {
    let first = registers.breakpoints - registers.context_aware;
    for context in first..registers.breakpoints {
        registers::set_breakpoint_value(context, THIS);
        registers::set_breakpoint(context, CONTEXT | ANYWHERE | INSTRUCTION);
        let link = (context as u64) << LINK;
        registers::set_control(ON);
        if context != 0 {
            registers::set_breakpoint_value(0, level.sees(SLIDE.at(PLACE)));
            registers::set_breakpoint(0, LINKED | link | ANYWHERE | INSTRUCTION);
            registers::set_context(THIS);
            slides("a breakpoint in its context", level, 0, BREAKPOINT, PLACE);
            registers::set_context(OTHER);
            slides("a breakpoint in another context", level, 0, UNKNOWN, END);
        }
        registers::set_watchpoint_value(0, level.sees(watched(0)));
        let all = 0xff << BYTES | LOADS;
        registers::set_watchpoint(0, WATCHPOINT_LINKED | link | all | ANYWHERE);
        accesses("a watchpoint in another context", level, &LOAD, 0, None);
        registers::set_context(THIS);
        accesses("a watchpoint in its context", level, &LOAD, 0, Some(0));
        registers.clear();
    }
    registers::set_context(0);
}

/// Each of them stops what it watches for, and nothing beside it.
fn each_watchpoint(registers: &Registers, level: Level) {
    registers::set_control(ON);
    for n in 0..registers.watchpoints {
        registers::set_watchpoint_value(n, level.sees(watched(0)));
        registers::set_watchpoint(n, 0xff << BYTES | LOADS | ANYWHERE);
        accesses("a load", level, &LOAD, 0, Some(0));
        accesses("a load beside it", level, &LOAD, 8, None);
        accesses("a store", level, &STORE_BYTE, 0, None);
        registers::set_watchpoint(n, 1 << 3 << BYTES | STORES | ANYWHERE);
        accesses("a store of the byte", level, &STORE_BYTE, 3, Some(WRITE));
        accesses("a store of the next byte", level, &STORE_BYTE, 4, None);
        accesses("a load, not a store", level, &LOAD, 0, None);
        registers::set_watchpoint(n, 0);
        accesses("a store that is not watched", level, &STORE_BYTE, 3, None);
    }
    registers.clear();
}

fn watched(offset: u64) -> u64 {
    &raw const WATCHED as u64 + offset
}

/// Runs the access with the address of what is watched, or so many bytes behind it; it must hit,
/// with this bit in the syndrome, or not.
fn accesses(what: &str, level: Level, code: &Code<2>, offset: u64, hit: Option<u64>) {
    let address = level.sees(watched(offset));
    let caught = level.runs(code.at(0), address, 0);
    let (class, at) = match hit {
        Some(_) => (WATCHPOINT, code.at(0)),
        None => (UNKNOWN, code.at(1)),
    };
    check(format_args!("{what}"), level, &caught, class, at);
    if let Some(write) = hit {
        assert!(
            caught.far == address && caught.esr & WRITE == write,
            "debug: {what} at {level:?}: {caught:x?}, not at {address:#x}"
        );
    }
}
