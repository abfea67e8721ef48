//! The guest that moves its own memory to another place while it is written to, as a live migration
//! does, and looks whether anything was left behind.
//!
//! One vCPU switches dirty logging on, copies all of the area, then again and again what it is told
//! was written, and at last, with everybody at rest, what was written since; then area and copy
//! must be alike. The other vCPUs store to pages of their own in the area, zeros too, and give
//! pages back to the hypervisor, which it takes only while nothing is logged. All in an order that
//! the seed decides, until the time is up.
//!
//! Needs the hypervisor's boot argument `table-calls=on`. Boot arguments: `seconds=` (2) and
//! `seed=` (1).
//!
//! - `area`: the area, and its copy;
//! - `writer`: those who store, and how they rest;
//! - `run`: the migrations.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod area;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod writer;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "dirty is a guest: boot it with `cargo xtask qemu --guest dirty --hyp-args table-calls=on`"
    );
}
