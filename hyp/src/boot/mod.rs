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
mod features;
mod primary;
mod sabotage;
mod secondary;
mod speculation;
mod work;

pub(crate) use entry::SCTLR_EL2_RES1;
pub(crate) use features::{features, ids_of_this_cpu, machine};
pub(crate) use primary::{board, conduit, gic};
pub(crate) use speculation::answers;

use crate::console;

/// Switches the machine off, when all that was said has been sent.
pub(crate) fn switch_off() -> ! {
    console::line(format_args!("tessera: off"));
    console::flush();
    conduit().system_off()
}
