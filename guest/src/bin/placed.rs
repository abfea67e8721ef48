//! An image that says where it was put: it has the header of Linux's boot protocol, with an odd
//! offset, and runs wherever it is. As an ELF file it has no use for the header and belongs where
//! it was linked.
//!
//! The same in assembly for both, and without the runtime of the other guests, which run in one
//! place only. It prints three numbers: its own address, x0 at its start, and the first word of RAM
//! as it is in memory, which is that of a device tree or nothing. The test that boots it knows what
//! they have to be.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
core::arch::global_asm!(
    r#"
    .section .init.entry, "ax"
    .global entry
entry:
    b       start
    .word   0
    .quad   0xfffc0                 // text_offset: Unikraft's
    .quad   image_end - entry       // image_size
    .quad   0b1010                  // flags: little-endian, pages of 4 KiB, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0

start:
    mov     x19, x0
    mov     x20, #0x09000000        // the UART's data register
    adr     x0, runs_at
    bl      say
    adr     x0, entry
    bl      number
    adr     x0, has_in_x0
    bl      say
    mov     x0, x19
    bl      number
    adr     x0, finds
    bl      say
    mov     x0, #0x40000000         // RAM
    ldr     w0, [x0]
    bl      number
    adr     x0, passed
    bl      say
    mov     w0, #0x0008             // PSCI SYSTEM_OFF
    movk    w0, #0x8400, lsl #16
    hvc     #0

// Prints the characters from x0 on, up to a zero.
say:
    ldrb    w1, [x0], #1
    cbz     w1, 1f
    str     w1, [x20]
    b       say
1:  ret

// Prints x0 as a hexadecimal number.
number:
    mov     x2, #16
2:  ror     x0, x0, #60
    and     w1, w0, #0xf
    cmp     w1, #9
    add     w3, w1, #'0'
    add     w4, w1, #'a' - 10
    csel    w1, w3, w4, ls
    str     w1, [x20]
    subs    x2, x2, #1
    b.ne    2b
    ret

runs_at:    .asciz  "placed: runs at 0x"
has_in_x0:  .asciz  ", x0 0x"
finds:      .asciz  ", start of RAM 0x"
passed:     .asciz  "\nverdict: passed\n"
    .balign 8
image_end:
    "#
);

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("placed is a guest: boot it with `cargo xtask qemu --guest placed`");
}
