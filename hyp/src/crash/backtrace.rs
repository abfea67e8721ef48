//! Prints who called whom on one of EL2's stacks.

use core::arch::asm;
use core::fmt::{self, Write};
use core::ops::Range;

use arch::backtrace::{Start, trace};
use plural::count;

use crate::el2::{layout, stacks};

/// At most so many lines; a recursion is one.
const LIMIT: usize = 32;

/// The start of a trace of the function that calls this.
#[inline(always)]
pub(super) fn here() -> Start {
    let fp: u64;
    // SAFETY: Reads the frame pointer only.
    unsafe { asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    Start {
        pc: None,
        lr: 0,
        fp,
    }
}

/// Prints one line a frame, innermost first: the address of what failed, then of calls.
pub(super) fn print(out: &mut dyn Write, start: Start) -> fmt::Result {
    let stack = stacks::bounds(start.fp as usize).unwrap_or(0..0);
    let read = |record: u64| {
        // SAFETY: The record lies in one of EL2's stacks, which is mapped, and is aligned for u64.
        unsafe { (record as *const [u64; 2]).read() }
    };
    let mut calls = trace(start, widen(layout::text()), widen(stack), read).peekable();
    for _ in 0..LIMIT {
        let Some(address) = calls.next() else {
            break;
        };
        writeln!(out, "  backtrace: {address:#x}")?;
        let mut again = 0_u64;
        while calls.next_if_eq(&address).is_some() {
            again += 1;
        }
        if again > 0 {
            writeln!(out, "      and {} more", count(again, "time", "times"))?;
        }
    }
    Ok(())
}

fn widen(range: Range<usize>) -> Range<u64> {
    range.start as u64..range.end as u64
}
