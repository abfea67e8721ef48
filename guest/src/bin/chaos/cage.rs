//! The cage: a few instructions run in it with registers, exception level and masks of their own,
//! and whatever exception ends it, its caller goes on as after a call.
//!
//! The vectors make no assumption but that they are fetched where they lie: with the MMU off, or
//! through the runtime's tables. First they switch the MMU off, with `SCTLR_EL1` as it should be,
//! so that data has the usual byte order; then they have the runtime's own code switch it on again.
//! Till then they store nothing, since what is stored past the caches would be lost in them:
//! registers are kept in `TPIDR_EL1` and in SIMD registers, which steps do not rely on.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::mem::offset_of;

use guest::machine::MAX_VCPUS;

use crate::step::Step;

/// A vCPU's registers in the cage, and what it was left for.
#[derive(Clone, Copy)]
#[repr(C, align(512))]
pub(crate) struct Caged {
    pub(crate) x: [u64; 31],
    pub(crate) sp: u64,
    pub(crate) pc: u64,
    pub(crate) pstate: u64,
    pub(crate) esr: u64,
    /// The vector that was taken, of the table's 16.
    pub(crate) vector: u64,
    caller_sp: u64,
}

const _: () = assert!(size_of::<Caged>() == 512);

impl Caged {
    /// These registers, with the stack pointer as random as x0, the next instruction, and the
    /// state.
    pub(crate) const fn new(x: [u64; 31], pc: u64, pstate: u64) -> Self {
        Self {
            x,
            sp: x[0],
            pc,
            pstate,
            esr: 0,
            vector: 0,
            caller_sp: 0,
        }
    }
}

/// The place of one vCPU, touched by that vCPU alone.
#[repr(transparent)]
struct Place<T>(UnsafeCell<T>);

// SAFETY: as the type says.
unsafe impl<T> Sync for Place<T> {}

#[repr(C, align(128))]
struct Code([u32; 32]);

static CAGED: [Place<Caged>; MAX_VCPUS] =
    [const { Place(UnsafeCell::new(Caged::new([0; 31], 0, 0))) }; MAX_VCPUS];
static CODE: [Place<Code>; MAX_VCPUS] =
    [const { Place(UnsafeCell::new(Code([0; 32]))) }; MAX_VCPUS];

/// Writes a step's instructions to where vCPU `vcpu`, which calls, will run them. Returns the
/// address.
pub(crate) fn write(vcpu: usize, step: &Step) -> u64 {
    let code = CODE[vcpu].0.get();
    // SAFETY: the place is the caller's alone; no reference to it is alive.
    let words = unsafe { &mut (*code).0 };
    words[..step.words().len()].copy_from_slice(step.words());
    let start = code as u64;
    // No line of a cache is shorter than 16 bytes.
    for line in (start..start + size_of::<Code>() as u64).step_by(16) {
        // SAFETY: the line is mapped; its contents stay.
        unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for line in (start..start + size_of::<Code>() as u64).step_by(16) {
        // SAFETY: as above.
        unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
    start
}

/// Runs vCPU `vcpu`, which calls, with these registers until an exception comes, and returns its
/// registers then.
pub(crate) fn run(vcpu: usize, caged: &Caged) -> Caged {
    let place = CAGED[vcpu].0.get();
    // SAFETY: the place is the caller's alone. What runs in the cage may do to the machine what it
    // likes, but to this program's memory only what `places` allows; the vectors put the registers
    // back on which compiled code relies.
    unsafe {
        *place = *caged;
        cage_enter(place);
        *place
    }
}

unsafe extern "C" {
    fn cage_enter(caged: *mut Caged);
}

global_asm!(
    r#"
    .arch_extension fp

    .macro  cage_registers instruction
    \instruction x0, x1, [x30]
    \instruction x2, x3, [x30, #16]
    \instruction x4, x5, [x30, #32]
    \instruction x6, x7, [x30, #48]
    \instruction x8, x9, [x30, #64]
    \instruction x10, x11, [x30, #80]
    \instruction x12, x13, [x30, #96]
    \instruction x14, x15, [x30, #112]
    \instruction x16, x17, [x30, #128]
    \instruction x18, x19, [x30, #144]
    \instruction x20, x21, [x30, #160]
    \instruction x22, x23, [x30, #176]
    \instruction x24, x25, [x30, #192]
    \instruction x26, x27, [x30, #208]
    \instruction x28, x29, [x30, #224]
    .endm

    .macro  cage_callers instruction
    \instruction x19, x20, [sp, #16]
    \instruction x21, x22, [sp, #32]
    \instruction x23, x24, [sp, #48]
    \instruction x25, x26, [sp, #64]
    \instruction x27, x28, [sp, #80]
    .endm

    .section .text.cage, "ax"
    .global cage_enter
cage_enter:
    stp     x29, x30, [sp, #-96]!
    cage_callers stp
    mov     x30, x0
    mov     x1, sp
    adrp    x2, cage_vectors
    add     x2, x2, :lo12:cage_vectors
    ldp     x3, x4, [x30, #{pc}]
    ldr     x5, [x30, #{sp}]
    str     x1, [x30, #{caller_sp}]
    msr     vbar_el1, x2
    msr     elr_el1, x3
    msr     spsr_el1, x4
    isb
    mov     sp, x5
    cage_registers ldp
    ldr     x30, [x30, #240]
    eret

    .macro  cage_vector number
    .balign 128
    msr     tpidr_el1, x30
    movz    x30, #0x30d0, lsl #16   // SCTLR_EL1: all off but what is RES1
    movk    x30, #0x0800
    msr     sctlr_el1, x30
    mov     x30, #3 << 20           // CPACR_EL1.FPEN
    msr     cpacr_el1, x30
    isb
    fmov    d16, x8
    mov     x8, #\number
    b       cage_left
    .endm

    .balign 2048
cage_vectors:
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    cage_vector \number
    .endr
    .balign 128

cage_left:
    fmov    d17, x8
    fmov    d18, x9
    fmov    d19, x10
    fmov    d20, x11
    bl      enable_mmu
    mrs     x30, mpidr_el1
    and     x30, x30, #7
    adrp    x8, {caged}
    add     x8, x8, :lo12:{caged}
    add     x30, x8, x30, lsl #9
    fmov    x8, d17
    str     x8, [x30, #{vector}]
    fmov    x8, d16
    fmov    x9, d18
    fmov    x10, d19
    fmov    x11, d20
    cage_registers stp
    mrs     x0, tpidr_el1
    mov     x1, sp
    stp     x0, x1, [x30, #240]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x0, x1, [x30, #{pc}]
    mrs     x0, esr_el1
    str     x0, [x30, #{esr}]
    adrp    x0, vector_table_el1
    add     x0, x0, :lo12:vector_table_el1
    msr     vbar_el1, x0
    isb
    ldr     x0, [x30, #{caller_sp}]
    mov     sp, x0
    cage_callers ldp
    ldp     x29, x30, [sp], #96
    ret

    .arch_extension nofp
    "#,
    sp = const offset_of!(Caged, sp),
    pc = const offset_of!(Caged, pc),
    esr = const offset_of!(Caged, esr),
    vector = const offset_of!(Caged, vector),
    caller_sp = const offset_of!(Caged, caller_sp),
    caged = sym CAGED,
);

const _: () =
    assert!(offset_of!(Caged, sp) == 248 && offset_of!(Caged, pstate) == offset_of!(Caged, pc) + 8);
const _: () = assert!(MAX_VCPUS == 8);
