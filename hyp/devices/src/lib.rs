//! The devices of the board that guests see, as models that need no hardware.
//!
//! - [`board`]: QEMU virt's address map, as far as it is there;
//! - [`pl011`], [`pl031`]: the UART and the real-time clock;
//! - [`flash`] and [`chips`]: the flash's commands, and these with what it holds in a guest's memory;
//! - [`fw_cfg`]: QEMU's firmware configuration, and [`virtio`]: the places for virtio devices, which are empty.
//!
//! A new device gets a file with its registers, a place in [`board`], a node in
//! `loader::device_tree`, and its calls in the image (`vm/devices`).

#![cfg_attr(not(test), no_std)]

pub mod board;
pub mod chips;
pub mod flash;
pub mod fw_cfg;
pub mod pl011;
pub mod pl031;
pub mod virtio;
