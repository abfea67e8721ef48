//! The guest that tries the interrupt controller and the timers, register by register.
//!
//! It never takes an interrupt as an exception: it reads the acknowledge register with interrupts
//! masked, so every step is its own. With two vCPUs it tries as well what they do to each other.
//! What it expects is what the architecture says (Arm IHI 0069, GICv3), so it passes on QEMU
//! without a hypervisor, too.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod active;
#[cfg(target_os = "none")]
mod elsewhere;
#[cfg(target_os = "none")]
mod pair;
#[cfg(target_os = "none")]
mod private;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod timers;
#[cfg(target_os = "none")]
mod turns;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("interrupts is a guest: boot it with `cargo xtask qemu --guest interrupts`");
}
