//! From a guest to EL2 and back: the general-purpose registers.
//!
//! When a guest runs, its thread's SP is just above the [`Frame`]'s place; an exception stores x0
//! to x30 there and calls the handler on that very stack. The last word of the frame names the
//! vCPU. It is written once, before the guest is first entered, and never touched by the code here.
//! The guest's PC and PSTATE stay in `ELR_EL2` and `SPSR_EL2` (a thread switch keeps them).
//!
//! The vectors choose, by the CPU's kind, where this code is entered (`super::vectors`): behind,
//! within or before a chain of branches that overwrites what the CPU remembers of the guest's.
//! Arm's loop against Spectre-BHB takes two branches each time it goes round. The chain takes as
//! many, and does nothing else. Like the loop's they are two in each 16 bytes, since predictors
//! know of only so many branches in one place. Each skips an instruction, so that one that was not
//! predicted is noticed. No branch is conditional, so none can leave early; the barrier lets
//! nothing be fetched before all have been executed.

use core::arch::global_asm;

use speculation::{LOOPS, taken_branches};

use crate::vcpu::Frame;

/// The branches of the longest chain. The vector's, which goes there, is one of those that Arm's
/// loop takes.
const CHAIN: usize = taken_branches(LOOPS[LOOPS.len() - 1]) - 1;

global_asm!(
    r#"
    .macro  guest_exit name, handler
    .balign 16
    .rept   {branches}
    b       . + 8
    udf     #0
    .endr
    .global \name\()_barrier, \name, \name\()_rest
\name\()_barrier:
    dsb     nsh
    isb
\name:
    sub     sp, sp, #{size}
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
\name\()_rest:
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    str     x30, [sp, #240]
    mov     x29, xzr                // back traces end here
    mov     x0, sp
    bl      \handler
    b       guest_return
    .endm

    .section .text.guest_exit, "ax"
    guest_exit lower_sync, {sync}

// void guest_enter(Frame *frame): the frame is on the current stack, which is given up from there
// on.
    .global guest_enter
guest_enter:
    mov     sp, x0
guest_return:
    ldp     x0, x1, [sp]
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    add     sp, sp, #{size}
    eret
    // Nothing behind an eret is executed, not even speculatively.
    dsb     nsh
    isb

    guest_exit lower_interrupt, {interrupt}
    guest_exit lower_serror, {serror}
    "#,
    size = const size_of::<Frame>(),
    branches = const CHAIN,
    sync = sym super::synchronous,
    interrupt = sym super::interrupt,
    serror = sym super::system_error,
);
