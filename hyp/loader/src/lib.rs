//! What a virtual machine is made of, and what is put where in its memory before it starts.
//!
//! - [`setup`]: the virtual machines of an initial RAM disk, from its [`archive`] and their [`manifest`]s;
//! - [`image`] and [`elf`]: what a guest starts from;
//! - [`layout`]: where image, initial RAM disk and device tree go;
//! - [`device_tree`]: what the guest is told of its board.

#![cfg_attr(not(test), no_std)]

pub mod archive;
pub mod device_tree;
pub mod elf;
pub mod image;
pub mod layout;
pub mod manifest;
pub mod setup;
