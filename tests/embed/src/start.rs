//! The way from reset to [`main`](super::hypervisor::main), and from the guest to
//! [`exit`](super::hypervisor::exit) and back.
//!
//! EL2 has one table of 1 GiB blocks, each at its own address: devices, then RAM. The guest starts
//! with its MMU off.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.start, "ax"
    .global start
start:
    adr     x0, el2_vectors
    msr     vbar_el2, x0
    mov     x0, #0xff04             // MAIR_EL2: 0 write-back, 1 Device-nGnRE
    movk    x0, #0x04ff
    msr     mair_el2, x0
    ldr     x0, =0x80823519         // TCR_EL2: 39 bits, 4 KiB, shareable write-back, 40-bit PA
    msr     tcr_el2, x0
    adrp    x0, el2_table
    msr     ttbr0_el2, x0
    isb
    tlbi    alle2
    tlbi    alle1                   // at reset TLBs hold anything, under the guest's VMID
    ic      iallu
    dsb     nsh
    isb
    ldr     x0, =0x30c51835         // SCTLR_EL2: RES1, I, C, M
    msr     sctlr_el2, x0
    isb
    ldr     x0, =stack_top
    mov     sp, x0
    b       {main}

    .global enter
enter:                              // enter(pc): a guest's first instruction, with its MMU off
    msr     elr_el2, x0
    mov     x0, #0x3c5              // SPSR_EL2: EL1 with its own stack pointer, everything masked
    msr     spsr_el2, x0
    ldr     x0, =0x30d00800         // SCTLR_EL1: RES1
    msr     sctlr_el1, x0
    eret

from_guest:
    stp     x0, x1, [sp, #-256]!
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x30, [sp, #144]    // x19 to x29 are kept by what is called
    mov     x0, sp
    bl      {exit}
    ldp     x18, x30, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp], #256
    eret

    .balign 2048
el2_vectors:
    .rept   8                       // exceptions of EL2 itself
    .balign 128
    b       .
    .endr
    .balign 128
    b       from_guest
    .balign 2048

    .balign 4096
    .global guest_code
guest_code:                         // stores 0 to 511 to 512 pages, calls, adds them up, calls
    mov     x9, #0x40200000
    mov     x1, #0
1:  add     x2, x9, x1, lsl #12
    str     x1, [x2]
    add     x1, x1, #1
    cmp     x1, #512
    b.ne    1b
    hvc     #1
    mov     x0, #0
    mov     x1, #0
2:  add     x2, x9, x1, lsl #12
    ldr     x3, [x2]
    add     x0, x0, x3
    add     x1, x1, #1
    cmp     x1, #512
    b.ne    2b
    hvc     #2
    b       .
    .balign 4096
el2_table:
    .quad   0x0000000000000405 | 1 << 54    // 0: devices, execute-never
    .quad   0x0000000040000701              // 1 GiB: RAM, inner shareable
    .fill   510, 8, 0
    "#,
    main = sym super::hypervisor::main,
    exit = sym super::hypervisor::exit,
);
