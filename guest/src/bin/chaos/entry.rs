//! Where a vCPU starts that another one switches on, whatever that gives it in x0:
//! there is no other way to tell which it is than by its affinity.

use core::arch::global_asm;

use aarch64_rt::Stack;
use guest::machine::MAX_VCPUS;

use crate::worker;

const STACK_PAGES: usize = 4;

/// A vCPU's, whenever it starts: it was off.
static mut STACKS: [Stack<STACK_PAGES>; MAX_VCPUS] = [const { Stack::new() }; MAX_VCPUS];

/// The IPA of the first instruction.
pub(crate) fn address() -> u64 {
    unsafe extern "C" {
        fn chaos_entry();
    }
    chaos_entry as *const () as u64
}

global_asm!(
    r#"
    .section .text.chaos_entry, "ax"
    .global chaos_entry
chaos_entry:
    bl      enable_mmu
    mov     x0, #3 << 20            // CPACR_EL1.FPEN
    msr     cpacr_el1, x0
    adrp    x0, vector_table_el1
    add     x0, x0, :lo12:vector_table_el1
    msr     vbar_el1, x0
    isb
    mrs     x0, mpidr_el1
    and     x0, x0, #7
    adrp    x1, {stacks}
    add     x1, x1, :lo12:{stacks}
    mov     x2, #{stack_size}
    madd    x1, x0, x2, x1
    add     sp, x1, x2
    b       {work}
    "#,
    stacks = sym STACKS,
    stack_size = const size_of::<Stack<STACK_PAGES>>(),
    work = sym worker::work,
);
