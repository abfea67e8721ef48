//! The smallest loops that measure: what a fault, a hypercall and a trapped register cost.
//!
//! Each row runs one instruction many times and subtracts the same loop without it (for the faults: the
//! same stores to memory that is mapped by then). Time is the virtual counter's. Under QEMU's
//! `-icount shift=0` an instruction takes exactly 1 ns of it, so that ticks are instructions: of the
//! guest and of the hypervisor together.
//!
//! `touch: <row> <count> iterations, <ticks> ticks, <instructions per iteration>`

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod run;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("touch is a guest: boot it with `cargo xtask qemu --guest touch`");
}
