//! What the hardware has of a guest's debug registers, which `debug::registers` keeps.
//!
//! `MDSCR_EL1` is zero unless a vCPU is on the CPU that has software step, breakpoints or
//! watchpoints on, and so are all breakpoints and watchpoints unless it has these on. They would
//! not hit, but an implementation may look at them at each access: a vCPU that has left must not
//! slow down others. The OS lock of the hardware is never locked: a guest's own lock is answered
//! for by keeping all of them zero.

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64DFR0_EL1, MDSCR_EL1, Readable, Writeable};
use arch::id::{Ids, index};
use debug::registers::{Change, Counts, DebugRegisters, MAX_PAIRS, Pair};

use crate::cpu::id_registers;

/// `ID_AA64DFR0_EL1`, by its place in the space of ID registers.
const DFR0: usize = index(5, 0);

/// Takes away from this CPU, which has `ids`, the breakpoints and watchpoints that firmware may
/// have left there. What else there is of debugging the contract gives its value.
pub(super) fn init_cpu(ids: &Ids) {
    clear(Counts::decode(ids.get(DFR0)));
}

/// Switches off the breakpoints and watchpoints of this CPU, which has so many.
fn clear(has: Counts) {
    (0..has.breakpoints.into()).for_each(|n| write_breakpoint(n, Pair::default()));
    (0..has.watchpoints.into()).for_each(|n| write_watchpoint(n, Pair::default()));
}

/// How many breakpoints and watchpoints guests are shown.
pub(super) fn shown() -> Counts {
    Counts::decode(id_registers().guest.get(DFR0))
}

/// Switches off what `registers` have on.
pub(super) fn quiet(registers: &DebugRegisters) {
    MDSCR_EL1.set(0);
    if registers.uses_pairs() {
        clear(has());
    }
}

/// How many breakpoints and watchpoints this CPU has.
fn has() -> Counts {
    Counts::decode(ID_AA64DFR0_EL1.get())
}

/// Gives this CPU what of `registers` has an effect, given that it is quiet.
#[inline]
pub(super) fn load(registers: &DebugRegisters) {
    if registers.is_active() {
        load_active(registers);
    }
}

#[cold]
#[inline(never)]
fn load_active(registers: &DebugRegisters) {
    follow(
        registers,
        if registers.uses_pairs() {
            Change::Everything
        } else {
            Change::Control
        },
    );
}

/// Has this CPU follow a change of `registers`, whose vCPU is on it.
pub(super) fn follow(registers: &DebugRegisters, change: Change) {
    let (shown, has) = (shown(), has());
    let breakpoint = |n| {
        let (n, pair) = registers.breakpoint(n, shown, has);
        write_breakpoint(n, pair);
    };
    let watchpoint = |n| {
        let (n, pair) = registers.watchpoint(n, shown, has);
        write_watchpoint(n, pair);
    };
    match change {
        Change::Nothing => {}
        Change::Control => MDSCR_EL1.set(registers.control()),
        Change::Everything if !registers.uses_pairs() => {
            clear(has);
            MDSCR_EL1.set(registers.control());
        }
        Change::Everything => {
            (0..shown.breakpoints.into()).for_each(breakpoint);
            (0..shown.watchpoints.into()).for_each(watchpoint);
            MDSCR_EL1.set(registers.control());
        }
        Change::Breakpoint(n) => breakpoint(n),
        Change::Watchpoint(n) => watchpoint(n),
    }
}

/// Defines a function that writes one of up to [`MAX_PAIRS`] pairs of registers.
macro_rules! write_pair {
    ($(#[$meta:meta])* $function:ident, $value:literal, $control:literal) => {
        write_pair!(
            $(#[$meta])* $function, $value, $control,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        );
    };
    ($(#[$meta:meta])* $function:ident, $value:literal, $control:literal, $($number:literal)*) => {
        $(#[$meta])*
        fn $function(number: usize, pair: Pair) {
            debug_assert!(number < MAX_PAIRS);
            match number {
                $(
                    // SAFETY: The caller says that the CPU has the registers. They have no effect
                    // at EL2, from which no debug exception is generated.
                    $number => unsafe {
                        asm!(
                            concat!("msr ", $value, $number, "_el1, {value}"),
                            concat!("msr ", $control, $number, "_el1, {control}"),
                            value = in(reg) pair.value,
                            control = in(reg) pair.control,
                            options(nomem, nostack, preserves_flags),
                        );
                    },
                )*
                _ => {}
            }
        }
    };
}

write_pair!(
    /// Writes breakpoint `number`, which this CPU has.
    write_breakpoint, "dbgbvr", "dbgbcr"
);
write_pair!(
    /// Writes watchpoint `number`, which this CPU has.
    write_watchpoint, "dbgwvr", "dbgwcr"
);
