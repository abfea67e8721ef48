//! The guest that says hello, and that behaves badly on request.
//!
//! The boot argument `mode=` chooses what it does:
//! - `hello` (default): prints what it finds of CPU, memory and PSCI, starts every other vCPU, and
//!   passes.
//! - `accesses`: loads and stores that a syndrome does not describe; of devices' registers each
//!   must do what it does to memory.
//! - `clock`: leaves values in the machine's clock, of which a machine made anew must find none,
//!   and turns the machine off.
//! - `debug`: breakpoints, watchpoints and software step; then all vCPUs use them for `ms=`
//!   milliseconds, with values that depend on `seed=`.
//! - `devices`: accesses of every kind to devices' registers, and other instructions that trap.
//! - `error`: has the hypervisor find an asynchronous error with the syndrome `syndrome=`, and
//!   looks whether it comes; with `syndrome=0`, or `comes=0`, none may.
//! - `outside`: loads, stores, fetches and walks outside RAM and devices; every one must end in a
//!   synchronous external abort at the very instruction, and everything else must go on.
//! - `origins`: exceptions that the hypervisor makes up, out of every state a guest can be in;
//!   every one must be as one that the CPU takes by itself.
//! - `hold`: takes every page, or every `step=`-th, keeps them until something is typed (with
//!   `wait=0` not so long), and looks whether they are as they were.
//! - `poweroff`: turns the machine off without a verdict.
//! - `read`: reads `bytes=` digits that are typed, with pauses of `every=` milliseconds; none may
//!   be lost.
//! - `reset`: resets the machine once; the second boot must find its memory fresh.
//! - `say`: prints `lines=` lines, one every `every=` milliseconds, none of which may hold it up
//!   for more than `most=` microseconds.
//! - `share`: measures how much of a CPU it gets, which must be `least=` percent.
//! - `split`: says a long line, and that it has failed, each in two parts with `ms=` milliseconds
//!   between them.
//! - `storm`: does what `kind=` names as often as it can for `ms=` milliseconds; `kind=reset`
//!   resets the machine `times=` times.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod accesses;
#[cfg(target_os = "none")]
mod catch;
#[cfg(target_os = "none")]
mod clock;
#[cfg(target_os = "none")]
mod debug;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod error;
#[cfg(target_os = "none")]
mod facts;
#[cfg(target_os = "none")]
mod halt;
#[cfg(target_os = "none")]
mod hold;
#[cfg(target_os = "none")]
mod lower;
#[cfg(target_os = "none")]
mod origins;
#[cfg(target_os = "none")]
mod outside;
#[cfg(target_os = "none")]
mod read;
#[cfg(target_os = "none")]
mod reset;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod say;
#[cfg(target_os = "none")]
mod share;
#[cfg(target_os = "none")]
mod sizes;
#[cfg(target_os = "none")]
mod split;
#[cfg(target_os = "none")]
mod storm;
#[cfg(target_os = "none")]
mod walks;
#[cfg(target_os = "none")]
mod window;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("hello is a guest: boot it with `cargo xtask qemu --guest hello`");
}
