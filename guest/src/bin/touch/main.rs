//! The smallest loops that measure: what a fault, a hypercall and a trapped register cost.
//!
//! Each row runs one instruction many times and subtracts the same loop without it (for the faults:
//! the same accesses to memory that is mapped by then). Time is the virtual counter's. Under QEMU's
//! `-icount shift=0` an instruction takes exactly 1 ns of it, so that ticks are instructions: of
//! the guest and of the hypervisor together.
//!
//! `touch: <row> <count> iterations, <ticks> ticks, <instructions> instructions per iteration`
//!
//! - `calls`: hypercalls, registers, devices;
//! - `memory`: memory that is touched for the first time, and given back;
//! - `fresh`: memory that nobody has touched;
//! - `fetch`: instructions fetched from memory that was never touched;
//! - `own_tables`, `turns`: what is done to this guest's tables, where the hypervisor lets it ask;
//! - `nap`: leaving the CPU idle for a while;
//! - `late`: interrupts while the hypervisor works;
//! - `row`: the loops, and the lines.
//!
//! `cargo xtask bench` boots it and makes a table of the lines.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod fetch;
#[cfg(target_os = "none")]
mod fresh;
#[cfg(target_os = "none")]
mod late;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod nap;
#[cfg(target_os = "none")]
mod own_tables;
#[cfg(target_os = "none")]
mod row;
#[cfg(target_os = "none")]
mod turns;

#[cfg(target_os = "none")]
guest::main!(run);

#[cfg(target_os = "none")]
fn run(machine: &'static guest::machine::Machine<'static>) {
    memory::measure(machine);
    calls::measure(machine);
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("touch is a guest: boot it with `cargo xtask qemu --guest touch`");
}
