//! The guest that misbehaves on purpose, and lives through it.
//!
//! Every vCPU takes one step after the other. A step is a handful of generated instructions with
//! generated registers, run in a cage (`cage`): whatever exception comes of an instruction, the
//! next one is run. The kinds of steps are listed in `kinds`: devices and places where nothing is,
//! accessed in every way; system registers; hypercalls; fetches from anywhere; stage-1 tables that
//! lead anywhere; and so on. What a step does follows from seed, life, vCPU and number of the step
//! alone, so each can be repeated.
//!
//! The guest lives several times: each life ends with a reset amid the storm. vCPU 0 takes only
//! steps that surely come back. The others may lose themselves for the rest of a life: asleep with
//! no interrupt to come, switched off, or in an endless loop of exceptions. Those that are off are
//! switched on again.
//!
//! Avoided are only steps that would end the run early, each where it is generated: SYSTEM_OFF and
//! SYSTEM_RESET; accesses to the guest's own code and data; and, but for the kind that is meant to
//! be lost, what makes the vectors unreachable.
//!
//! What must hold, else the verdict is `failed`:
//! - an access where nothing is aborts;
//! - registers that the instructions of a step do not name stay as they were;
//! - memory that no step names stays as it was.
//!
//! Boot arguments: `seed=` (1), `lives=` (4), and `seconds=` (4) for all lives together. Each life
//! prints how often each kind was done, by all vCPUs, and a digest of the first steps of vCPU 0,
//! which is the same whenever the seed is.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod cage;
#[cfg(target_os = "none")]
mod canary;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod kinds;
#[cfg(target_os = "none")]
mod places;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod step;
#[cfg(target_os = "none")]
mod tally;
#[cfg(target_os = "none")]
mod words;
#[cfg(target_os = "none")]
mod worker;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("chaos is a guest: boot it with `cargo xtask qemu --guest chaos`");
}
