//! A firmware at EL3, for one CPU, that offers the workarounds against attacks by speculation.
//!
//! QEMU's own firmware knows none of them. This one starts the hypervisor at EL2 as a boot loader
//! would, answers its questions, and counts how often each workaround is called; at the machine's
//! end it says so. The workarounds do nothing else: what they would do to predictors no emulator
//! shows.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod entry;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("firmware runs at EL3, not on this machine: the boot tests use it");
    std::process::exit(2);
}
