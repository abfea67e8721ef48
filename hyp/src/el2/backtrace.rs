//! Follows frame pointers, as the procedure call standard lays them out: at x29 the caller's x29, and
//! above it the return address.

use core::arch::asm;
use core::fmt::{self, Write};

use super::{layout, stacks};

/// At most so many lines: enough for any sound stack, and an end for a damaged one.
const LIMIT: usize = 32;

/// Where a trace starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// The instruction that failed; zero if unknown.
    pub(super) pc: u64,
    /// The link register: the caller, if the function at `pc` keeps no frame of its own.
    pub(super) lr: u64,
    /// The frame pointer.
    pub(super) fp: u64,
}

/// A trace of the function that calls this.
#[inline(always)]
pub(super) fn here() -> Start {
    let fp: u64;
    // SAFETY: Reads the frame pointer only.
    unsafe { asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    Start { pc: 0, lr: 0, fp }
}

/// Prints one line a frame, innermost first: the address of the call, or of what failed.
///
/// Nothing outside the stack that the trace starts on is read, and a frame must lie above the one
/// before it.
pub(super) fn print(out: &mut dyn Write, start: Start) -> fmt::Result {
    if layout::text().contains(&(start.pc as usize)) {
        line(out, start.pc)?;
    } else if start.pc != 0 {
        // A jump into nowhere: the link register says from where.
        line(out, start.lr.wrapping_sub(4))?;
    }
    let mut fp = start.fp as usize;
    let Some(stack) = stacks::bounds(fp) else {
        return Ok(());
    };
    for _ in 0..LIMIT {
        if !fp.is_multiple_of(8) || fp < stack.start || fp > stack.end - 16 {
            break;
        }
        // SAFETY: The frame's two words lie within one stack, which is mapped.
        let [caller, return_address] = unsafe { (fp as *const [u64; 2]).read() };
        if !layout::text().contains(&(return_address as usize)) {
            break;
        }
        line(out, return_address - 4)?;
        if caller as usize <= fp {
            break;
        }
        fp = caller as usize;
    }
    Ok(())
}

fn line(out: &mut dyn Write, address: u64) -> fmt::Result {
    writeln!(out, "  backtrace: {address:#x}")
}
