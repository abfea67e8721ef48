//! EL2's exception vectors.
//!
//! Exceptions of guests (lower EL) belong to `exits`, whose symbols the table branches to:
//! `lower_sync`, `lower_irq`, `lower_fiq`, `lower_serror`, with all registers as the guest left them.
//!
//! Exceptions of EL2 itself have no handler to return to: they are reported and the machine is
//! switched off. The registers are saved in the CPU's [`PerCpu`], not on the stack, and the report
//! runs on the CPU's emergency stack, so that an overflowing stack can be reported too. As nothing
//! returns to a guest from there, `TPIDRRO_EL0` serves as the scratch register.

use core::arch::global_asm;
use core::mem::offset_of;

use super::fatal::{FatalFrame, report_exception};
use crate::percpu::PerCpu;

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

    .macro  lower_vector target
    .balign 0x80
    b       \target
    .endm

    .global lower_sync, lower_irq, lower_fiq, lower_serror
    .section .text.vectors, "ax"
    .global el2_vectors
    .balign 0x800
el2_vectors:
    fatal_vector 0                  // current EL with SP_EL0: sync, IRQ, FIQ, SError
    fatal_vector 1
    fatal_vector 2
    fatal_vector 3
    fatal_vector 4                  // current EL with SP_EL2
    fatal_vector 5
    fatal_vector 6
    fatal_vector 7
    lower_vector lower_sync
    lower_vector lower_irq
    lower_vector lower_fiq
    lower_vector lower_serror
    lower_vector lower_sync         // lower EL, AArch32: a guest's EL0
    lower_vector lower_irq
    lower_vector lower_fiq
    lower_vector lower_serror
    .balign 0x80

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
);
