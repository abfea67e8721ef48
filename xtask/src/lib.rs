//! What `cargo xtask` is made of: set-up, building the images that boot, running them in QEMU and
//! reading their console, and the orchestra of tests. The boot tests use it as a library.
//!
//! Nothing here keeps state between two runs but files under the target directory.

mod about;
pub mod archive;
pub mod bench;
pub mod boot;
pub mod build;
pub mod child;
pub mod cli;
pub mod console;
pub mod debian;
pub mod doc;
pub mod flatten;
pub mod gdb;
pub mod hyp_args;
pub mod interrupt;
pub mod loom;
pub mod qemu;
pub mod rules;
pub mod run;
pub(crate) mod script;
pub mod setup;
pub mod shard;
pub mod shell;
pub mod size;
pub mod symbols;
pub mod terminal;
pub mod test;
pub mod top;
pub mod vms;
pub mod workspace;
