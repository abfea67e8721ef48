//! The hypervisor's image: from the loader's jump at EL2 to the last power-off.
//!
//! Here is what runs at EL2 only: what touches registers, translation tables and devices. What can be tested on any
//! machine is in the crates beside this folder.

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

// Locks serve waiters in the order in which they came: a guest that has one acquired again and again keeps no other CPU
// waiting for longer than those before it take. The other kind that `spin` has is smaller.
#[cfg(target_os = "none")]
const _: () = assert!(size_of::<spin::Mutex<()>>() == size_of::<spin::mutex::TicketMutex<()>>());

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("tessera runs at EL2, not on this machine; boot it with: cargo xtask qemu");
    std::process::exit(2);
}
