//! The switch from one thread's stack to another's.
//!
//! A thread that is off its CPU has its callee-saved registers (AAPCS64), `ELR_EL2` and `SPSR_EL2`
//! on top of its stack, and its SP in the thread table. The others need no saving: to the compiler
//! the switch is a function call. ELR and SPSR belong to the guest that the thread may be about to
//! return to; EL2 takes no exception of its own from which it returns, so nothing else uses them.

use core::arch::global_asm;

/// Bytes that a thread off its CPU has on its stack, at its SP.
const SAVED_SIZE: usize = 14 * 8;

/// What a switch restores, in memory order.
#[repr(C)]
struct Saved {
    /// x19 to x28.
    callee_saved: [u64; 10],
    x29: u64,
    x30: u64,
    elr: u64,
    spsr: u64,
}

const _: () = assert!(size_of::<Saved>() == SAVED_SIZE && SAVED_SIZE.is_multiple_of(16));

global_asm!(
    r#"
    .section .text.thread_switch, "ax"
    .global thread_switch
thread_switch:
    sub     sp, sp, #{size}
    stp     x19, x20, [sp]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    mrs     x9, elr_el2
    mrs     x10, spsr_el2
    stp     x9, x10, [sp, #96]
    mov     x9, sp
    str     x9, [x0]
    mov     sp, x1
    ldp     x19, x20, [sp]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     x9, x10, [sp, #96]
    msr     elr_el2, x9
    msr     spsr_el2, x10
    add     sp, sp, #{size}
    ret                             // nothing behind it is executed ahead
    dsb     nsh
    isb

// A new thread begins here, as if it came back from a switch: x19 is its function, x20 the
// argument.
thread_begin:
    bl      {finish}
    mov     x0, x20
    blr     x19
    bl      {exit}
    "#,
    size = const SAVED_SIZE,
    finish = sym super::finish_switch,
    exit = sym super::exit,
);

unsafe extern "C" {
    /// Saves the caller at `*save_sp` and continues the thread whose SP is `next_sp`.
    pub(super) fn thread_switch(save_sp: *mut usize, next_sp: usize);
    fn thread_begin();
}

/// Prepares an unused stack so that a switch to it calls `function(argument)` on it.
///
/// Returns the thread's SP.
///
/// # Safety
///
/// The memory below `stack_top`, which is 16-byte aligned, must be a stack that nobody uses.
pub(super) unsafe fn prepare_stack(
    stack_top: usize,
    function: extern "C" fn(usize),
    argument: usize,
) -> usize {
    let mut callee_saved = [0; 10];
    callee_saved[0] = function as *const () as u64;
    callee_saved[1] = argument as u64;
    let saved = Saved {
        callee_saved,
        x29: 0,
        x30: thread_begin as *const () as u64,
        elr: 0,
        spsr: 0,
    };
    let sp = stack_top - SAVED_SIZE;
    // SAFETY: The caller hands us this memory; it is aligned and larger than what is written.
    unsafe { (sp as *mut Saved).write(saved) };
    sp
}
