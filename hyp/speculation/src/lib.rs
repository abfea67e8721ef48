//! What a CPU needs against attacks by speculation, and what the hypervisor does about each.
//!
//! A CPU executes instructions ahead that it may have to take back, and what these have left in
//! caches can be measured. So a guest that has trained the CPU's branch predictors could have EL2,
//! which maps all guests' memory, load what no guest may see. Whether a CPU can be misled like that
//! is said by its ID registers, by its model, and by the firmware, as Arm's documents lay down:
//! *Cache Speculation Side-channels* and *Spectre-BHB: Speculative Target Reuse Attacks* for the
//! models, DEN 0070, *Firmware interfaces for mitigating cache speculation vulnerabilities*, and
//! DEN 0028 for the calls, the Arm ARM for the registers.
//!
//! [`Protection::decide`] makes of these what is done on one CPU; those of a machine may differ.
//! [`Attacks::common`] is what can be said of all, and [`Answers`] is what guests are told.

#![cfg_attr(not(test), no_std)]

mod answers;
mod firmware;
mod identity;
pub mod masked;
mod protection;
mod status;
#[cfg(test)]
mod tests;

pub use answers::Answers;
pub use firmware::{ARCH_WORKAROUND_1, ARCH_WORKAROUND_2, ARCH_WORKAROUND_3, Firmware, Offer};
pub use identity::{Identity, LOOPS};
pub use protection::{Protection, Sequence, taken_branches};
pub use status::{Attacks, Cause, Means, Status};
