//! The hypervisor's image: from the loader's jump at EL2 to the last power-off.
//!
//! Here is what runs at EL2 only: what touches registers, translation tables and devices. What can
//! be tested on any machine is in the crates beside this folder.
//!
//! The modules are floors. From the lowest to the highest:
//!
//! | floor | what it is |
//! |---|---|
//! | `el2` | EL2's own translation tables, stacks, and recovery from exceptions |
//! | `percpu` | what belongs to one CPU |
//! | `board` | the board: its description, interrupt controller, clock, messages between CPUs |
//! | `cpu` | what the CPUs have, and need against speculation |
//! | `console` | the way to the UART |
//! | `crash` | reports of EL2's own failures |
//! | `tracing` | events, and the rings that keep them |
//! | `logging` | log lines |
//! | `tlb` | TLBs and caches |
//! | `sched` | threads |
//! | `mm` | guests' memory |
//! | `vcpu`, `vm` | virtual CPUs and machines: one floor, since a VM owns its vCPUs and each knows its VM |
//! | `exits` | from a guest to EL2 and back |
//! | `services` | the hypervisor's own threads |
//! | `boot` | bringing it all up |
//!
//! Each floor uses those above it in this list. It calls those below it through what they have
//! handed it when they were started. A test reads the source and holds this
//! (`xtask/tests/imports`).

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod crash;
#[cfg(target_os = "none")]
mod el2;
#[cfg(target_os = "none")]
mod exits;
#[cfg(target_os = "none")]
mod logging;
#[cfg(target_os = "none")]
mod mm;
#[cfg(target_os = "none")]
mod percpu;
#[cfg(target_os = "none")]
mod sched;
#[cfg(target_os = "none")]
mod services;
#[cfg(target_os = "none")]
mod tlb;
#[cfg(target_os = "none")]
mod tracing;
#[cfg(target_os = "none")]
mod vcpu;
#[cfg(target_os = "none")]
mod vm;

// Locks serve waiters in the order in which they came: a guest that has one acquired again and
// again keeps no other CPU waiting for longer than those before it take. The other kind that `spin`
// has is smaller.
#[cfg(target_os = "none")]
const _: () = assert!(size_of::<spin::Mutex<()>>() == size_of::<spin::mutex::TicketMutex<()>>());

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("tessera runs at EL2, not on this machine; boot it with: cargo xtask qemu");
    std::process::exit(2);
}
