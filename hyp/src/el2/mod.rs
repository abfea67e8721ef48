//! EL2's own house: its translation tables, stacks, vectors, and what happens when it goes wrong.

mod backtrace;
pub(crate) mod fatal;
pub(crate) mod layout;
mod memcpy;
pub(crate) mod mmu;
pub(crate) mod recover;
pub(crate) mod serror;
pub(crate) mod stacks;
mod syndrome;
pub(crate) mod tables;
pub(crate) mod vectors;
