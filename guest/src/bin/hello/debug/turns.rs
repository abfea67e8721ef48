//! All vCPUs debug at once, and leave their CPU in between: each finds its own registers again, on
//! whichever CPU it goes on, and nothing of another vCPU's or machine's.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aarch64_cpu::asm;
use guest::{boot, machine::Machine, println, time};
use plural::count;

use super::registers::{
    self, ANYWHERE, BYTES, INSTRUCTION, KDE, LOADS, MDE, Registers, SS, STORES, TDCC,
};
use super::{BREAKPOINT, Code, Level, SLIDE, STEP, STEPPING, UNKNOWN, WATCHPOINT, check};
use crate::lower;

/// Load x0 from the address in x1.
static LOAD: Code<2> = Code([0xf940_0020, 0]);
/// What is watched, a word of it by each.
static WATCHED: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// When all are to end, and the seed.
static END: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
/// How many vCPUs have ended, and the rounds of all.
static DONE: AtomicUsize = AtomicUsize::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);

pub(super) fn run(machine: &'static Machine<'static>, milliseconds: u64, seed: u64) {
    SEED.store(seed, Ordering::Relaxed);
    END.store(
        time::now() + milliseconds * time::frequency() / 1000,
        Ordering::Relaxed,
    );
    let vcpus = machine.mpidrs().len();
    for vcpu in 1..vcpus {
        boot::start_vcpu(machine, vcpu, |vcpu| {
            turns(&Registers::unlock(), vcpu);
        });
    }
    registers::lock(true);
    turns(&Registers::unlock(), 0);
    while DONE.load(Ordering::Acquire) < vcpus {
        spin_loop();
    }
    println!(
        "debug: {}, {} turns, each with its own registers",
        count(vcpus, "vcpu", "vcpus"),
        ROUNDS.load(Ordering::Relaxed)
    );
}

fn turns(registers: &Registers, vcpu: usize) {
    lower::with_tables(|| {
        let mut round = SEED.load(Ordering::Relaxed) * 1000 + 100 * vcpu as u64;
        while time::now() < END.load(Ordering::Relaxed) {
            uses_them(registers, round);
            does_without(registers, round + 1);
            round += 2;
            ROUNDS.fetch_add(1, Ordering::Relaxed);
        }
    });
    DONE.fetch_add(1, Ordering::Release);
}

/// Something of 64 bits that tells rounds apart, and the registers in them.
fn mix(round: u64, register: usize) -> u64 {
    (round << 8 | register as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Gives others the CPU, in one way or another.
fn pause(round: u64) {
    if round & 4 == 0 {
        (0..3).for_each(|_| asm::wfe());
    } else {
        let end = time::now() + time::frequency() / 4000;
        while time::now() < end {
            spin_loop();
        }
    }
}

/// One breakpoint and one watchpoint are on, all others hold something; a pause; they hit, and
/// nothing has changed.
fn uses_them(registers: &Registers, round: u64) {
    let (own, place, word) = (
        (
            round as usize % registers.breakpoints,
            round as usize % registers.watchpoints,
        ),
        1 + mix(round, 1) as usize % 14,
        mix(round, 2) as usize % WATCHED.len(),
    );
    let level = Level::BOTH[(round >> 1 & 1) as usize];
    let watched = |word: usize| level.sees(&raw const WATCHED[word] as u64);
    for n in 0..registers.breakpoints {
        registers::set_breakpoint_value(n, mix(round, n) & !3);
        registers::set_breakpoint(n, mix(round, n) >> 8 & 0xc0_e000);
    }
    for n in 0..registers.watchpoints {
        registers::set_watchpoint_value(n, mix(round, 16 + n) & !7);
        registers::set_watchpoint(n, 0xff << BYTES | LOADS | STORES);
    }
    registers::set_breakpoint_value(own.0, level.sees(SLIDE.at(place)));
    registers::set_breakpoint(own.0, ANYWHERE | INSTRUCTION);
    registers::set_watchpoint_value(own.1, watched(word));
    registers::set_watchpoint(own.1, 0xff << BYTES | LOADS | ANYWHERE);
    registers::set_control(MDE | KDE | TDCC);
    pause(round);
    let caught = level.runs(SLIDE.at(0), 0, 0);
    check(
        format_args!("a breakpoint"),
        level,
        &caught,
        BREAKPOINT,
        SLIDE.at(place),
    );
    let caught = level.runs(LOAD.at(0), watched(word), 0);
    check(
        format_args!("a watchpoint"),
        level,
        &caught,
        WATCHPOINT,
        LOAD.at(0),
    );
    let caught = level.runs(LOAD.at(0), watched((word + 1) % WATCHED.len()), 0);
    check(
        format_args!("another word"),
        level,
        &caught,
        UNKNOWN,
        LOAD.at(1),
    );
    registers::set_control(SS | MDE | KDE | TDCC);
    pause(round + 4);
    let caught = level.runs(SLIDE.at(place - 1), 0, STEPPING);
    check(
        format_args!("a step"),
        level,
        &caught,
        STEP,
        SLIDE.at(place),
    );
    kept(registers, round, own);
}

/// All registers are as they were written.
fn kept(registers: &Registers, round: u64, own: (usize, usize)) {
    let is = |what: &str, n: usize, found: u64, expected: u64| {
        assert!(
            found == expected,
            "debug: {what} {n} is {found:#x}, not {expected:#x}"
        );
    };
    for n in (0..registers.breakpoints).filter(|&n| n != own.0) {
        is(
            "DBGBVR",
            n,
            registers::breakpoint_value(n),
            mix(round, n) & !3,
        );
        is(
            "DBGBCR",
            n,
            registers::breakpoint(n),
            mix(round, n) >> 8 & 0xc0_e000,
        );
    }
    for n in (0..registers.watchpoints).filter(|&n| n != own.1) {
        is(
            "DBGWVR",
            n,
            registers::watchpoint_value(n),
            mix(round, 16 + n) & !7,
        );
        is(
            "DBGWCR",
            n,
            registers::watchpoint(n),
            0xff << BYTES | LOADS | STORES,
        );
    }
    is("MDSCR", 1, registers::control(), SS | MDE | KDE | TDCC);
    assert!(!registers::is_locked(), "debug: the OS lock has closed");
}

/// Nothing is on, whatever others have on meanwhile: nothing hits and nothing is stepped.
fn does_without(registers: &Registers, round: u64) {
    match round & 6 {
        // The breakpoints stay on, behind the lock.
        0 => registers::lock(true),
        2 => registers::set_control(0),
        _ => registers.clear(),
    }
    pause(round);
    for level in Level::BOTH {
        let caught = level.runs(SLIDE.at(0), 0, STEPPING);
        check(
            format_args!("nothing"),
            level,
            &caught,
            UNKNOWN,
            SLIDE.at(15),
        );
        for word in &WATCHED {
            let caught = level.runs(LOAD.at(0), level.sees(word.as_ptr() as u64), STEPPING);
            check(
                format_args!("no watchpoint"),
                level,
                &caught,
                UNKNOWN,
                LOAD.at(1),
            );
        }
    }
    registers::lock(false);
}
