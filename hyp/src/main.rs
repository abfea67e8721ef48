//! The hypervisor's image: from the loader's jump at EL2 to the last power-off.
//!
//! What needs no EL2 lives in the library beside this file, where it is tested on the host. Here are
//! the parts that touch registers, translation tables and devices.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod compactor;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod el2;
#[cfg(target_os = "none")]
mod exits;
#[cfg(target_os = "none")]
mod logging;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod operator;
#[cfg(target_os = "none")]
mod percpu;
#[cfg(target_os = "none")]
mod sched;
#[cfg(target_os = "none")]
mod vcpu;
#[cfg(target_os = "none")]
mod vm;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("tessera runs at EL2, not on this machine; boot it with: cargo xtask qemu");
    std::process::exit(2);
}
