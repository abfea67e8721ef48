//! The devices of the board that guests see, as models that need no hardware.
//!
//! Each model owns the state of its registers. The image passes on the guest's loads and stores
//! (`vm/mmio`) and keeps the models behind locks, but for [`chips`], which has its own.
//!
//! Read [`board`] first, then [`pl031`], the smallest model with registers.
//!
//! - [`board`]: the address map of QEMU's `virt`, as far as it is modelled;
//! - [`pl011`], [`pl031`]: the UART and the real-time clock;
//! - [`flash`], [`chips`]: the commands of flash, and the chips with their contents in guest
//!   memory;
//! - [`fw_cfg`]: QEMU's firmware configuration;
//! - [`virtio`]: the places for virtio devices, which are empty.
//!
//! A new device gets a file with its registers, a place in [`board`], a node in
//! `loader::device_tree`, and its calls in the image's `vm/mmio`.

#![cfg_attr(not(test), no_std)]

pub mod board;
pub mod chips;
pub mod flash;
pub mod fw_cfg;
pub mod pl011;
pub mod pl031;
pub mod virtio;
