//! The image's header and the first instructions on every CPU.
//!
//! The loader enters the first CPU at `image_header` as Linux's arm64 boot protocol says: EL2, MMU
//! off, caches clean for the image, x0 = physical address of the device tree. PSCI `CPU_ON` enters
//! the others at `secondary_entry`: EL2, MMU off, x0 = address of their [`PerCpu`]. Both put
//! EL2's registers into a known state before anything else, so that nothing of the firmware shows
//! later.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::el2::mmu::{BOOT_REGISTERS, SCTLR_EL2_RES1};
use crate::el2::stacks::STACK_SLOT;
use crate::percpu::{PER_CPU, PerCpu};

/// `HCR_EL2` outside guests: EL1 is AArch64, E2H clear, nothing trapped.
const HCR_EL2: u64 = 1 << 31;
/// The number of `HCR_EL2.E2H`.
const E2H: u32 = 34;
/// `SCTLR_EL2` until the MMU is on. Alignment is checked: memory is Device memory then, where
/// accesses must be aligned on real hardware whatever an emulator lets pass.
const SCTLR_EL2_MMU_OFF: u64 = SCTLR_EL2_RES1 | 1 << 1;
/// `CPTR_EL2`: SVE and SME trapped, FP/SIMD not; the other set bits are RES1.
const CPTR_EL2: u64 = 0x33ff;

global_asm!(
    r#"
    .section .head, "ax"
    .global image_header
image_header:
    b       primary_entry
    .long   0
    .quad   0                       // text_offset
    .quad   image_size
    .quad   0b0010                  // flags: little-endian, 4 KiB pages
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

    .section .text.boot, "ax"
primary_entry:
    mov     x19, x0
    msr     spsel, #1
    adrp    x1, stacks_start
    add     x1, x1, {stack_slot}
    mov     sp, x1
    mrs     x0, currentel
    lsr     x0, x0, #2
    cmp     x0, #2
    b.eq    1f
    mov     x1, x19
    b       {wrong_level}
1:  bl      el2_known_state
    tbz     x1, #{e2h}, 1f
    mov     x0, x19
    b       {wrong_kind}
1:  adrp    x1, bss_start
    add     x1, x1, :lo12:bss_start
    adrp    x2, bss_end
    add     x2, x2, :lo12:bss_end
1:  cmp     x1, x2
    b.hs    2f
    stp     xzr, xzr, [x1], #16
    b       1b
2:  adrp    x0, {per_cpu}
    add     x0, x0, :lo12:{per_cpu}
    msr     tpidr_el2, x0
    mov     x29, xzr
    mov     x0, x19
    bl      {describe}
    bl      el2_mmu_on
    mov     x30, xzr                // back traces end here
    adr     x0, secondary_entry
    b       {primary}

secondary_entry:
    mov     x19, x0
    bl      el2_known_state
1:  tbnz    x1, #{e2h}, 1b          // the first CPU says that this one does not come up
    msr     tpidr_el2, x19
    bl      el2_mmu_on
    ldr     x1, [x19, {boot_stack_top}]
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    b       {secondary}

// Masks interrupts and gives EL2's registers their values. Returns what HCR_EL2 is then in x1: on
// CPUs without FEAT_E2H0 its bit E2H stays set.
el2_known_state:
    msr     daifset, #0xf
    msr     spsel, #1
    ldr     x1, ={hcr}
    msr     hcr_el2, x1
    isb                             // E2H decides how the next registers are read
    ldr     x1, ={sctlr}
    msr     sctlr_el2, x1
    mov     x1, {cptr}
    msr     cptr_el2, x1
    adrp    x1, el2_vectors
    add     x1, x1, :lo12:el2_vectors
    msr     vbar_el2, x1
    msr     vttbr_el2, xzr          // VMID 0 is no guest's
    isb
    mrs     x1, hcr_el2
    ret

// Turns on EL2's MMU and caches with the values in BOOT_REGISTERS. Changes x1 to x5.
//
// BOOT_REGISTERS and the tables were written with the caches off, so memory has them whatever a
// cache held; lines of the image that the first CPU's cache may hold from before are dropped here.
el2_mmu_on:
    adrp    x1, image_start
    adrp    x2, image_end
    add     x2, x2, :lo12:image_end
    mrs     x3, tpidr_el2
    adrp    x4, {per_cpu}
    add     x4, x4, :lo12:{per_cpu}
    cmp     x3, x4
    b.ne    2f                      // not the first CPU: others use the image already
    mrs     x3, ctr_el0
    ubfx    x3, x3, #16, #4         // DminLine: log2 of words in the smallest line
    mov     x4, #4
    lsl     x3, x4, x3
1:  dc      ivac, x1
    add     x1, x1, x3
    cmp     x1, x2
    b.lo    1b
2:  dsb     sy
    adrp    x1, {registers}
    add     x1, x1, :lo12:{registers}
    ldp     x2, x3, [x1]
    ldp     x4, x5, [x1, #16]
    msr     mair_el2, x2
    msr     tcr_el2, x3
    msr     ttbr0_el2, x4
    isb
    tlbi    alle2
    tlbi    alle1                   // at reset TLBs hold anything, under guests' VMIDs
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x5
    isb
    ret
    "#,
    per_cpu = sym PER_CPU,
    stack_slot = const STACK_SLOT,
    describe = sym super::primary::before_mmu,
    primary = sym super::primary::with_mmu,
    wrong_level = sym super::primary::wrong_level,
    wrong_kind = sym super::primary::wrong_kind,
    e2h = const E2H,
    secondary = sym super::secondary::with_mmu,
    boot_stack_top = const offset_of!(PerCpu, boot_stack_top),
    hcr = const HCR_EL2,
    sctlr = const SCTLR_EL2_MMU_OFF,
    cptr = const CPTR_EL2,
    registers = sym BOOT_REGISTERS,
);
