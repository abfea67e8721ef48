//! A CPU's protection against attacks by speculation.
//!
//! A CPU executes instructions ahead that it may have to take back, and the traces that these leave
//! in caches can be measured. So a guest that has trained the CPU's branch predictors could have
//! EL2, which maps all guests' memory, load what no guest may see. Whether a CPU can be misled like
//! that follows from its ID registers, its model, and its firmware, as Arm's documents lay down:
//! *Cache Speculation Side-channels* and *Spectre-BHB: Speculative Target Reuse Attacks* for the
//! models, DEN 0070, *Firmware interfaces for mitigating cache speculation vulnerabilities*, and
//! DEN 0028 for the calls, the Arm ARM for the registers.
//!
//! Owns the decision; the image carries it out (`cpu/speculation`, `exits/vectors`). Read
//! `protection` first.
//!
//! - `identity`, `firmware`: a CPU's model and abilities, and its firmware's workarounds;
//! - `protection`: [`Protection::decide`], for one CPU; the CPUs of a machine may differ;
//! - `status`: a CPU's state with regard to each attack, and a machine's ([`Attacks::common`]);
//! - `answers`: the [`Answers`] to guests that ask for workarounds;
//! - [`masked`]: look-ups in tables by indexes that a guest chooses.

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
