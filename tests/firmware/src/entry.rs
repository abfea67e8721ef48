//! From reset to EL2, and from there to [`calls`](super::calls).

use core::arch::global_asm;

/// Where the hypervisor's image lies, and the device tree.
const IMAGE: u64 = 0x4020_0000;
const TREE: u64 = 0x5f00_0000;
/// QEMU virt's interrupt controller.
const DISTRIBUTOR: u64 = 0x0800_0000;
const REDISTRIBUTOR: u64 = 0x080a_0000;
/// The rate of QEMU's counter, in Hz.
const COUNTER_RATE: u64 = 62_500_000;

global_asm!(
    r#"
    .section .text.start, "ax"
    .global start
start:
    adr     x0, vectors
    msr     vbar_el3, x0
    ldr     x0, =stack_top
    mov     sp, x0
    mov     x0, #0x531              // SCR_EL3: RW, HCE, NS; the rest is RES1
    movk    x0, #3, lsl #16         // API, APK
    msr     scr_el3, x0
    msr     cptr_el3, xzr
    msr     mdcr_el3, xzr
    ldr     x0, ={rate}
    msr     cntfrq_el0, x0
    mov     x0, #0xf
    msr     s3_6_c12_c12_5, x0      // ICC_SRE_EL3: system registers, for all levels
    isb
    // All interrupts are Non-secure.
    ldr     x1, ={distributor}
    mov     w0, #0x32               // GICD_CTLR: ARE_NS, ARE_S, EnableGrp1NS
    str     w0, [x1]
    mov     w0, #-1
    add     x2, x1, #0x84           // GICD_IGROUPR1
    mov     x3, #9
1:  str     w0, [x2], #4
    subs    x3, x3, #1
    b.ne    1b
    ldr     x1, ={redistributor}
    str     wzr, [x1, #0x14]        // GICR_WAKER
2:  ldr     w2, [x1, #0x14]
    tbnz    w2, #2, 2b
    add     x1, x1, #0x10, lsl #12
    str     w0, [x1, #0x80]         // GICR_IGROUPR0
    mov     x0, #1
    msr     s3_6_c12_c12_7, x0      // ICC_IGRPEN1_EL3: Non-secure
    isb
    mov     x0, #0x3c9              // EL2 with its own stack pointer, everything masked
    msr     spsr_el3, x0
    ldr     x0, ={image}
    msr     elr_el3, x0
    ldr     x0, ={tree}
    mov     x1, xzr
    mov     x2, xzr
    mov     x3, xzr
    eret

    .balign 0x800
vectors:
    .rept   8                       // EL3's own: none is expected
    .balign 0x80
    b       .
    .endr
    .balign 0x80                    // lower EL, AArch64: sync, and nothing else
    b       call
    .rept   7
    .balign 0x80
    b       .
    .endr
    .balign 0x80

// All but x0 to x3 is as it was (DEN 0028, 2.6); those are changed, also by calls that return
// nothing.
call:
    stp     x4, x5, [sp, #-144]!
    stp     x6, x7, [sp, #16]
    stp     x8, x9, [sp, #32]
    stp     x10, x11, [sp, #48]
    stp     x12, x13, [sp, #64]
    stp     x14, x15, [sp, #80]
    stp     x16, x17, [sp, #96]
    stp     x18, x29, [sp, #112]
    str     x30, [sp, #128]
    bl      {answer}
    ldr     x30, [sp, #128]
    ldp     x18, x29, [sp, #112]
    ldp     x16, x17, [sp, #96]
    ldp     x14, x15, [sp, #80]
    ldp     x12, x13, [sp, #64]
    ldp     x10, x11, [sp, #48]
    ldp     x8, x9, [sp, #32]
    ldp     x6, x7, [sp, #16]
    ldp     x4, x5, [sp], #144
    mov     x1, #-1
    mov     x2, #-1
    mov     x3, #-1
    eret
    "#,
    rate = const COUNTER_RATE,
    distributor = const DISTRIBUTOR,
    redistributor = const REDISTRIBUTOR,
    image = const IMAGE,
    tree = const TREE,
    answer = sym super::calls::answer,
);
