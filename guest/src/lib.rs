//! A small runtime for guests at EL1 on QEMU `virt`, alone or under Tessera.
//!
//! A guest is a binary that says `guest::main!(run)`; this crate owns everything before and after
//! `run`: the entry code, the stage-1 tables, the vectors, the console, the other vCPUs, and the
//! verdict. Returning from `run` prints `verdict: passed`; a panic anywhere prints `verdict:
//! failed: <message>`; both power the machine off.
//!
//! The modules without hardware in them also build and are tested on the host.

#![cfg_attr(not(test), no_std)]

pub mod areas;
pub mod args;
pub mod catalogue;
pub mod machine;
pub mod pool;
pub mod random;
pub mod span;
pub mod stamp;

#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod exceptions;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod hypervisor;
#[cfg(target_os = "none")]
pub mod probe;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod tables;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod verdict;

/// Names the function that the runtime calls on vCPU 0 once the machine is up: `fn(&'static
/// Machine)`.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[unsafe(export_name = "guest_run")]
        fn guest_run(machine: &'static $crate::machine::Machine<'static>) {
            $run(machine)
        }
    };
}
