//! EL2's own house: its translation tables, its stacks, and what it recovers from.

pub(crate) mod layout;
mod memcpy;
pub(crate) mod mmu;
pub(crate) mod recover;
pub(crate) mod serror;
pub(crate) mod stacks;
pub(crate) mod tables;
