//! Instructions fetched from memory that was never touched.
//!
//! It reads as zeros, which is no instruction (UDF): each call into it ends in an exception of this
//! guest's own, from which a vector of this file returns to the caller. The second time round the
//! same happens on memory that is mapped, and is subtracted.

use core::arch::{asm, global_asm};

use aarch64_cpu::{
    asm::barrier,
    registers::{Readable, VBAR_EL1, Writeable},
};
use guest::{pool::PAGE_SIZE, span::Span, time};

use crate::row;

// A table of vectors (Arm ARM, "Exception vectors") of which one is of use: a synchronous exception
// of this level.
global_asm!(
    ".pushsection .text.touch_vectors, \"ax\"",
    ".balign 2048",
    "touch_vectors:",
    ".space 0x200",
    "msr elr_el1, x30",
    "eret",
    ".balign 2048",
    ".popsection",
);

unsafe extern "C" {
    static touch_vectors: u8;
}

/// Prints the row: a fetch from each page of `memory`, less the same once more.
pub(crate) fn measure(memory: Span) {
    let kept = VBAR_EL1.get();
    VBAR_EL1.set(&raw const touch_vectors as u64);
    barrier::isb(barrier::SY);
    let (first, again) = (call_each_page(memory), call_each_page(memory));
    VBAR_EL1.set(kept);
    barrier::isb(barrier::SY);
    row::print("fetch_4k", memory.size() / PAGE_SIZE, first, again);
}

/// Ticks that a call to the start of each page takes.
fn call_each_page(memory: Span) -> u64 {
    let begin = time::now();
    // SAFETY: the memory is zeros, stage 1 lets it be executed, and the vectors above are in place:
    // each call raises an exception at once and comes back as if it had returned. No register but
    // those named is changed, and no memory.
    unsafe {
        asm!(
            "2: blr {at}",
            "add {at}, {at}, {page}",
            "cmp {at}, {end}",
            "b.lo 2b",
            at = inout(reg) memory.start => _,
            page = in(reg) PAGE_SIZE,
            end = in(reg) memory.end,
            out("x30") _,
            options(nostack),
        );
    }
    time::now() - begin
}
