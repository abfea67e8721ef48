//! EL2's exception vectors.
//!
//! Exceptions of guests (lower EL) are those of `super::switch`, whose symbols the tables branch
//! to: `lower_sync`, `lower_interrupt`, `lower_serror`, with all registers as the guest left them.
//!
//! There is a table for each [`Sequence`] that a CPU may need when a guest is left, so a CPU that
//! needs none pays nothing. Until a CPU knows its own, which is before it has run a guest, it uses
//! the one without.
//!
//! Exceptions of EL2 itself have no handler to return to, but for a few that the table of
//! `crate::el2::recover` has go on elsewhere: they are reported and the machine is switched off.
//! The registers are saved in the CPU's [`PerCpu`], not on the stack, and the report runs on the
//! CPU's emergency stack, so that an overflowing stack can be reported too. As nothing returns to a
//! guest from there, `TPIDRRO_EL0` serves as the scratch register.

use core::arch::global_asm;
use core::mem::offset_of;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{VBAR_EL2, Writeable};
use speculation::{ARCH_WORKAROUND_1, ARCH_WORKAROUND_3, LOOPS, Sequence};

use crate::crash::report_exception;
use crate::percpu::{FatalFrame, PerCpu};
use crate::vcpu::Frame;

const FATAL: usize = offset_of!(PerCpu, fatal);

global_asm!(
    r#"
    .macro  fatal_vector number
    .balign 0x80
    msr     tpidrro_el0, x0
    mrs     x0, tpidr_el2
    stp     x1, x2, [x0, {x} + 8]
    mov     x1, #\number
    b       save_and_report
    .endm

    // As above, for what may be in the table of `crate::el2::recover`.
    .macro  recoverable_vector number
    .balign 0x80
    msr     tpidrro_el0, x0
    mrs     x0, tpidr_el2
    stp     x1, x2, [x0, {x} + 8]
    str     x3, [x0, {x} + 24]
    mov     x1, #\number
    str     x1, [x0, {vector}]
    b       recover_or_report
    .endm

    // Each kind of table: what it does before it goes to `exits`. A guest's registers are its own
    // still.
    .macro  lower_plain target, _
    b       \target
    .endm

    .macro  lower_branches target, loops
    b       \target\()_barrier - 8 * (2 * \loops - 2)
    .endm

    .macro  lower_clear target, _
    hint    #22                     // CLRBHB
    isb
    b       \target
    .endm

    // The call changes x0 to x3 (DEN 0028, 2.6), which are therefore saved first, as `exits::frame`
    // would.
    .macro  lower_firmware target, function
    sub     sp, sp, #{frame_size}
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    mov     w0, #\function
    smc     #0
    b       \target\()_rest
    .endm

    .macro  vectors table, kind, argument=0
    .section .text.vectors, "ax"
    .global \table
    .balign 0x800
\table:
    fatal_vector 0                  // current EL with SP_EL0: sync, IRQ, FIQ, SError
    fatal_vector 1
    fatal_vector 2
    fatal_vector 3
    recoverable_vector 4            // current EL with SP_EL2
    fatal_vector 5
    fatal_vector 6
    recoverable_vector 7
    .rept   2                       // lower EL, AArch64 and AArch32 (a guest's EL0)
    .balign 0x80
    lower_\kind lower_sync, \argument
    .balign 0x80
    lower_\kind lower_interrupt, \argument
    .balign 0x80
    lower_\kind lower_interrupt, \argument
    .balign 0x80
    lower_\kind lower_serror, \argument
    .endr
    .balign 0x80
    .endm

    vectors el2_vectors, plain
    vectors el2_vectors_8, branches, 8
    vectors el2_vectors_11, branches, 11
    vectors el2_vectors_24, branches, 24
    vectors el2_vectors_32, branches, 32
    vectors el2_vectors_38, branches, 38
    vectors el2_vectors_132, branches, 132
    vectors el2_vectors_clear, clear
    vectors el2_vectors_workaround_1, firmware, {workaround_1}
    vectors el2_vectors_workaround_3, firmware, {workaround_3}

// x1 to x3 and the vector's number are in this CPU's PerCpu; TPIDRRO_EL0: the interrupted x0.
recover_or_report:
    mrs     x1, elr_el2
    adrp    x2, fixups
    add     x2, x2, :lo12:fixups
1:  ldp     x0, x3, [x2], #24
    cbz     x0, 2f
    cmp     x1, x0
    b.lo    1b
    cmp     x1, x3
    b.hs    1b
    ldr     x0, [x2, #-8]
    msr     elr_el2, x0
    mrs     x0, tpidr_el2
    ldp     x1, x2, [x0, {x} + 8]
    ldr     x3, [x0, {x} + 24]
    mrs     x0, tpidrro_el0
    eret
    dsb     nsh
    isb
2:  mrs     x0, tpidr_el2
    ldr     x1, [x0, {vector}]
    ldr     x3, [x0, {x} + 24]

// x0: this CPU's PerCpu; x1: the vector's number; TPIDRRO_EL0: the interrupted x0.
save_and_report:
    str     x1, [x0, {vector}]
    mrs     x1, tpidrro_el0
    str     x1, [x0, {x}]
    str     x3, [x0, {x} + 24]
    stp     x4, x5, [x0, {x} + 32]
    stp     x6, x7, [x0, {x} + 48]
    stp     x8, x9, [x0, {x} + 64]
    stp     x10, x11, [x0, {x} + 80]
    stp     x12, x13, [x0, {x} + 96]
    stp     x14, x15, [x0, {x} + 112]
    stp     x16, x17, [x0, {x} + 128]
    stp     x18, x19, [x0, {x} + 144]
    stp     x20, x21, [x0, {x} + 160]
    stp     x22, x23, [x0, {x} + 176]
    stp     x24, x25, [x0, {x} + 192]
    stp     x26, x27, [x0, {x} + 208]
    stp     x28, x29, [x0, {x} + 224]
    str     x30, [x0, {x} + 240]
    mov     x1, sp
    str     x1, [x0, {sp}]
    ldr     x1, [x0, {emergency}]
    msr     spsel, #1
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    add     x0, x0, {frame}
    b       {report}
    "#,
    x = const FATAL + offset_of!(FatalFrame, x),
    sp = const FATAL + offset_of!(FatalFrame, sp),
    vector = const FATAL + offset_of!(FatalFrame, vector),
    frame = const FATAL,
    emergency = const offset_of!(PerCpu, emergency_stack_top),
    report = sym report_exception,
    frame_size = const size_of::<Frame>(),
    workaround_1 = const ARCH_WORKAROUND_1,
    workaround_3 = const ARCH_WORKAROUND_3,
);

unsafe extern "C" {
    static el2_vectors: u8;
    static el2_vectors_8: u8;
    static el2_vectors_11: u8;
    static el2_vectors_24: u8;
    static el2_vectors_32: u8;
    static el2_vectors_38: u8;
    static el2_vectors_132: u8;
    static el2_vectors_clear: u8;
    static el2_vectors_workaround_1: u8;
    static el2_vectors_workaround_3: u8;
}

/// Has this CPU execute `sequence` whenever it leaves a guest from now on.
pub(crate) fn use_sequence(sequence: Sequence) {
    let table = match sequence {
        Sequence::None => &raw const el2_vectors,
        Sequence::Branches(loops) => table_of_branches(loops),
        Sequence::ClearHistory => &raw const el2_vectors_clear,
        Sequence::Workaround1 => &raw const el2_vectors_workaround_1,
        Sequence::Workaround3 => &raw const el2_vectors_workaround_3,
    };
    VBAR_EL2.set(table as u64);
    // An exception finds the new table from here on.
    barrier::isb(barrier::SY);
}

/// The table with the branches of Arm's loop that goes round so often, or the next more.
fn table_of_branches(loops: u8) -> *const u8 {
    let tables = [
        &raw const el2_vectors_8,
        &raw const el2_vectors_11,
        &raw const el2_vectors_24,
        &raw const el2_vectors_32,
        &raw const el2_vectors_38,
        &raw const el2_vectors_132,
    ];
    let enough = LOOPS.iter().position(|&has| has >= loops);
    tables[enough.unwrap_or(LOOPS.len() - 1)]
}
