//! One instruction that runs where it may, and what the CPU is like at the vector of the exception
//! that ends it.

use core::arch::global_asm;
use core::mem::offset_of;

/// What was found at the vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Caught {
    /// ESR_EL1, FAR_EL1, ELR_EL1 and SPSR_EL1.
    pub(crate) esr: u64,
    pub(crate) far: u64,
    pub(crate) elr: u64,
    pub(crate) spsr: u64,
    /// The vector, of the table's 16.
    pub(crate) vector: u64,
    /// PSTATE there, as a SPSR has it.
    pub(crate) pstate: u64,
    /// x0.
    pub(crate) x0: u64,
}

/// Goes to `pc` with the state `pstate`, a SPSR's value, zero in x0 and `argument` in x1, until an
/// exception is taken to EL1.
///
/// # Safety
///
/// What runs there changes nothing but x0 and memory that the guest's Rust code does not use, and
/// makes an exception other than SVC soon.
pub(crate) unsafe fn catch(pc: u64, pstate: u64, argument: u64) -> Caught {
    let mut caught = Caught::default();
    // SAFETY: the caller says what runs meanwhile; the registers on which compiled code relies are
    // put back.
    unsafe { catch_exception(&raw mut caught, pc, pstate, argument) };
    caught
}

unsafe extern "C" {
    fn catch_exception(caught: *mut Caught, pc: u64, pstate: u64, argument: u64);
}

// The whole of PSTATE at the vector is what an SVC from there saves: nothing before it changes any
// field.
global_asm!(
    r#"
    .macro  catch_callers instruction
    \instruction x19, x20, [sp, #16]
    \instruction x21, x22, [sp, #32]
    \instruction x23, x24, [sp, #48]
    \instruction x25, x26, [sp, #64]
    \instruction x27, x28, [sp, #80]
    .endm

    .section .text.catch_exception, "ax"
    .global catch_exception
catch_exception:
    stp     x29, x30, [sp, #-112]!
    catch_callers stp
    str     x0, [sp, #96]
    adrp    x4, catch_vectors
    add     x4, x4, :lo12:catch_vectors
    msr     vbar_el1, x4
    msr     elr_el1, x1
    msr     spsr_el1, x2
    mov     x0, xzr
    mov     x1, x3
    isb
    eret

    .macro  catch_vector number
    .balign 128
    stp     x0, x1, [sp, #-16]!
    mrs     x0, esr_el1
    lsr     x0, x0, #26
    sub     x0, x0, #0x15           // SVC
    cbz     x0, catch_second
    mov     x0, #\number
    b       catch_first
    .endm

    .balign 2048
catch_vectors:
    .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    catch_vector \number
    .endr
    .balign 128

catch_first:
    ldr     x1, [sp, #112]
    str     x0, [x1, #{vector}]
    mrs     x0, esr_el1
    str     x0, [x1, #{esr}]
    mrs     x0, far_el1
    str     x0, [x1, #{far}]
    mrs     x0, elr_el1
    str     x0, [x1, #{elr}]
    mrs     x0, spsr_el1
    str     x0, [x1, #{spsr}]
    ldr     x0, [sp], #16
    str     x0, [x1, #{x0}]
    svc     #0

catch_second:
    ldr     x1, [sp, #112]
    mrs     x0, spsr_el1
    str     x0, [x1, #{pstate}]
    add     sp, sp, #16
    adrp    x0, vector_table_el1
    add     x0, x0, :lo12:vector_table_el1
    msr     vbar_el1, x0
    isb
    catch_callers ldp
    ldp     x29, x30, [sp], #112
    ret
    "#,
    esr = const offset_of!(Caught, esr),
    far = const offset_of!(Caught, far),
    elr = const offset_of!(Caught, elr),
    spsr = const offset_of!(Caught, spsr),
    vector = const offset_of!(Caught, vector),
    pstate = const offset_of!(Caught, pstate),
    x0 = const offset_of!(Caught, x0),
);
