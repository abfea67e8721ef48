//! The contents of a virtual machine's memory before it starts.
//!
//! Owns the formats and the choice of addresses: the archive of guests, their manifests, the
//! images, and the device tree. The image does the stores (`vm/load`).
//!
//! Read [`setup`] first, then [`layout`].
//!
//! - [`setup`]: the virtual machines of an initial RAM disk, from its [`archive`] and their
//!   [`manifest`]s;
//! - [`image`], [`elf`]: the file formats that a guest can start from;
//! - [`layout`]: the addresses of image, initial RAM disk and device tree;
//! - [`device_tree`]: the description of the board for the guest.

#![cfg_attr(not(test), no_std)]

pub mod archive;
pub mod device_tree;
pub mod elf;
pub mod image;
pub mod layout;
pub mod manifest;
pub mod setup;
