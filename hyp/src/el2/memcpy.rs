//! `memcpy`, which the compiler calls: loading a guest's image and copying pages are little else,
//! and the one that comes with the compiler takes four instructions for each eight bytes.
//!
//! With the MMU off all memory is Device memory, where accesses must be aligned (Arm ARM, "Device
//! memory"); with it on, what is copied is Normal memory and `SCTLR_EL2.A` is clear, so they need
//! not be.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.memcpy, "ax"
    .balign 64
    .global memcpy
// void *memcpy(void *to, const void *from, size_t bytes)
memcpy:
    mov     x3, x0
    orr     x4, x0, x1
    tst     x4, #7
    b.eq    1f
    mrs     x4, sctlr_el2
    tbz     x4, #0, 8f              // SCTLR_EL2.M
1:  subs    x2, x2, #256
    b.lo    3f
2:  ldp     x4, x5, [x1], #256
    ldp     x6, x7, [x1, #-240]
    ldp     x8, x9, [x1, #-224]
    ldp     x10, x11, [x1, #-208]
    stp     x4, x5, [x3], #256
    stp     x6, x7, [x3, #-240]
    stp     x8, x9, [x3, #-224]
    stp     x10, x11, [x3, #-208]
    ldp     x4, x5, [x1, #-192]
    ldp     x6, x7, [x1, #-176]
    ldp     x8, x9, [x1, #-160]
    ldp     x10, x11, [x1, #-144]
    stp     x4, x5, [x3, #-192]
    stp     x6, x7, [x3, #-176]
    stp     x8, x9, [x3, #-160]
    stp     x10, x11, [x3, #-144]
    ldp     x4, x5, [x1, #-128]
    ldp     x6, x7, [x1, #-112]
    ldp     x8, x9, [x1, #-96]
    ldp     x10, x11, [x1, #-80]
    stp     x4, x5, [x3, #-128]
    stp     x6, x7, [x3, #-112]
    stp     x8, x9, [x3, #-96]
    stp     x10, x11, [x3, #-80]
    ldp     x4, x5, [x1, #-64]
    ldp     x6, x7, [x1, #-48]
    ldp     x8, x9, [x1, #-32]
    ldp     x10, x11, [x1, #-16]
    stp     x4, x5, [x3, #-64]
    stp     x6, x7, [x3, #-48]
    stp     x8, x9, [x3, #-32]
    stp     x10, x11, [x3, #-16]
    subs    x2, x2, #256
    b.hs    2b
3:  adds    x2, x2, #256 - 32
    b.mi    5f
4:  ldp     x4, x5, [x1], #32
    ldp     x6, x7, [x1, #-16]
    stp     x4, x5, [x3], #32
    stp     x6, x7, [x3, #-16]
    subs    x2, x2, #32
    b.pl    4b
5:  adds    x2, x2, #32 - 8
    b.mi    7f
6:  ldr     x4, [x1], #8
    str     x4, [x3], #8
    subs    x2, x2, #8
    b.pl    6b
7:  add     x2, x2, #8
8:  cbz     x2, .Lcopied
9:  ldrb    w4, [x1], #1
    strb    w4, [x3], #1
    subs    x2, x2, #1
    b.ne    9b
.Lcopied:
    ret                             // nothing behind it is executed ahead
    dsb     nsh
    isb
    "#
);
