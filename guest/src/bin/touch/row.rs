//! The loops that are timed, and the lines that tell of them.

use core::arch::asm;

use guest::{println, span::Span, time};

/// What is done to memory at a stride.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Load,
    Store,
}

/// The loop round one instruction.
macro_rules! time_loop {
    ($instruction:literal, $memory:expr, $stride:expr) => {{
        let begin = time::now();
        // SAFETY: one access every stride within memory of the pool, of which this guest makes no
        // other use.
        unsafe {
            asm!(
                concat!("2: ", $instruction),
                "add {at}, {at}, {stride}",
                "cmp {at}, {end}",
                "b.lo 2b",
                at = inout(reg) $memory.start => _,
                stride = in(reg) $stride,
                end = in(reg) $memory.end,
                options(nostack),
            );
        }
        time::now() - begin
    }};
}

/// Ticks that one access every `stride` bytes of `memory` takes.
pub(crate) fn time_accesses(access: Access, memory: Span, stride: u64) -> u64 {
    match access {
        Access::Load => time_loop!("ldr xzr, [{at}]", memory, stride),
        Access::Store => time_loop!("str xzr, [{at}]", memory, stride),
    }
}

/// Prints what `count` iterations cost that took `ticks`, calls and all.
pub(crate) fn print_whole(name: &str, count: u64, ticks: u64) {
    print(name, count, ticks, 0);
}

/// Ticks that `act` takes.
pub(crate) fn time(act: impl FnOnce()) -> u64 {
    let begin = time::now();
    act();
    time::now() - begin
}

/// Prints what `count` iterations that took `ticks` cost, less the `base` of the loop around them.
pub(crate) fn print(name: &str, count: u64, ticks: u64, base: u64) {
    let ticks = ticks.saturating_sub(base);
    let tenths = ticks * 10_000_000_000 / time::frequency() / count.max(1);
    println!(
        "touch: {name} {count} iterations, {ticks} ticks, {}.{} instructions per iteration",
        tenths / 10,
        tenths % 10
    );
}
