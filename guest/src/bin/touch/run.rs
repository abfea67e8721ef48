//! The rows.

use core::arch::asm;

use guest::{
    boot,
    machine::{Conduit, Machine},
    pool::PAGE_SIZE,
    println, psci,
    span::Span,
    time,
};
use smccc::psci::PSCI_VERSION;

const BLOCK_SIZE: u64 = 2 << 20;
/// Iterations of the rows that touch no new memory.
const CALLS: u64 = 10_000;
/// Blocks of 2 MiB for the stores to new pages.
const PAGE_BLOCKS: u64 = 4;
/// Stores at a stride of 2 MiB at most; fewer if memory is small.
const BLOCKS: u64 = 32;
/// Offset of the PL011's interrupt mask register. The mask is all zero from reset on and the guest
/// leaves it so, which makes a store of zero to it the one that changes nothing.
const UARTIMSC: u64 = 0x38;

guest::main!(run);

fn run(machine: &'static Machine<'static>) {
    let free = boot::pool(machine).longest();
    let blocks = Span {
        start: free.start.next_multiple_of(BLOCK_SIZE),
        end: free.end & !(BLOCK_SIZE - 1),
    };
    let for_pages = Span::sized(blocks.start, PAGE_BLOCKS * BLOCK_SIZE);
    let for_blocks = Span {
        start: for_pages.end,
        end: blocks.end.min(for_pages.end + BLOCKS * BLOCK_SIZE),
    };
    assert!(
        for_blocks.end > for_blocks.start,
        "touch needs at least 16 MiB of RAM"
    );
    stores("fault-4k", for_pages, PAGE_SIZE);
    stores("fault-2m", for_blocks, BLOCK_SIZE);
    calls(machine.uart + UARTIMSC);
}

/// One store every `stride` bytes of untouched memory, less the same stores once more.
fn stores(name: &str, memory: Span, stride: u64) {
    let count = memory.size() / stride;
    let first = time_stores(memory.start, stride, count);
    let again = time_stores(memory.start, stride, count);
    row(name, count, first, again);
}

fn time_stores(start: u64, stride: u64, count: u64) -> u64 {
    let begin = time::now();
    // SAFETY: stores `count` times within memory of the pool, of which this guest makes no other use.
    unsafe {
        asm!(
            "2: str xzr, [{at}]",
            "add {at}, {at}, {stride}",
            "subs {count}, {count}, #1",
            "b.ne 2b",
            at = inout(reg) start => _,
            stride = in(reg) stride,
            count = inout(reg) count => _,
            options(nostack),
        );
    }
    time::now() - begin
}

/// Ticks that [`CALLS`] iterations of the given instructions take, with w0 = PSCI_VERSION's number and
/// x20 = `$x20` before each; they may change x0 to x17.
macro_rules! time_calls {
    ($x20:expr, $($instruction:literal),*) => {{
        let begin = time::now();
        // SAFETY: the instructions are those of this file's rows: calls and accesses that change no
        // memory and no registers but the clobbered ones.
        unsafe {
            asm!(
                "2: mov w0, {function:w}",
                $($instruction,)*
                "subs x21, x21, #1",
                "b.ne 2b",
                function = in(reg) PSCI_VERSION,
                inout("x21") CALLS => _,
                in("x20") $x20,
                clobber_abi("C"),
            );
        }
        time::now() - begin
    }};
}

fn calls(uart_mask: u64) {
    let empty = time_calls!(0,);
    match psci::conduit() {
        Conduit::Hvc => row("hvc", CALLS, time_calls!(0, "hvc #0"), empty),
        Conduit::Smc => row("smc", CALLS, time_calls!(0, "smc #0"), empty),
    }
    row(
        "id-register",
        CALLS,
        time_calls!(0, "mrs x1, ID_AA64PFR0_EL1"),
        empty,
    );
    row(
        "pl011-store",
        CALLS,
        time_calls!(uart_mask, "str wzr, [x20]"),
        empty,
    );
    row(
        "pl011-load",
        CALLS,
        time_calls!(uart_mask, "ldr w1, [x20]"),
        empty,
    );
}

/// Prints what `count` iterations that took `ticks` cost, less the `base` of the loop around them.
fn row(name: &str, count: u64, ticks: u64, base: u64) {
    let ticks = ticks.saturating_sub(base);
    let tenths = ticks * 10_000_000_000 / time::frequency() / count;
    println!(
        "touch: {name} {count} iterations, {ticks} ticks, {}.{} instructions per iteration",
        tenths / 10,
        tenths % 10
    );
}
