//! The smallest hypervisor that embeds `stage2`: one CPU, one guest, 512 pages that become a block.
//!
//! `hypervisor` has all that a hypervisor adds to the crate and its feature `aarch64`; `start` is
//! assembly.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod hypervisor;
#[cfg(target_os = "none")]
mod start;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("embed runs at EL2, not on this machine: cargo test -p tests --test boot -- embed");
    std::process::exit(2);
}
