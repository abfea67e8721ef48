//! From reset to the scheduler: the order in which the machine is brought up.
//!
//! 1. [`entry`]: the first instructions on every CPU, with MMU and caches off.
//! 2. [`primary`]: the first CPU reads the device tree, builds EL2's tables, turns the MMU on and
//!    then brings up console, interrupt controller and the other CPUs.
//! 3. [`secondary`]: every other CPU joins.
//! 4. [`work`]: the guests are started, and all CPUs turn to the scheduler.
//!
//! Until the MMU is on memory is Device memory to the CPU: no locks or other exclusives, and one
//! CPU only.

mod entry;
mod fault_injection;
mod primary;
mod secondary;
mod work;
