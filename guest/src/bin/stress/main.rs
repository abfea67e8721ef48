//! The guest that uses its memory as hard as it can, and notices every word that is not what it
//! must be.
//!
//! Every vCPU of the device tree (up to 8) works until the time is up, in an order that its seed
//! decides:
//! - private pages: most of RAM. First found zero, then stamped anew, and found as they were left,
//!   each time that vCPU comes by;
//! - shared counters, added to with exclusives, compare-and-swap and, where the CPU has them, LSE
//!   atomics, and summed up at the end;
//! - pages handed over: one vCPU stamps a free one, another checks and frees it;
//! - code, written into pages, made visible to instruction fetch, and run;
//! - registers that only a hypervisor can change behind the guest's back.
//!
//! Boot arguments: `seconds=` (2), by the virtual counter, and `seed=` (1).
//! Each mismatch is counted; the first ones are printed with IPA, expected and found word. At the
//! end there is a line for each vCPU, the total, and the verdict.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod code;
#[cfg(target_os = "none")]
mod counters;
#[cfg(target_os = "none")]
mod handover;
#[cfg(target_os = "none")]
mod plan;
#[cfg(target_os = "none")]
mod private;
#[cfg(target_os = "none")]
mod progress;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod worker;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("stress is a guest: boot it with `cargo xtask qemu --guest stress`");
}
