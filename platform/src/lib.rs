//! The board: what QEMU's `virt` machine has and how to reach it.
//!
//! [`Board::from_device_tree`] reads the device tree that the firmware passed and says where
//! everything is; nothing about the machine is a constant of the program. The drivers take their
//! addresses from there. A second board with the same kinds of devices needs no change; one with
//! other devices brings its drivers as files beside these.
//!
//! The device tree is read on any machine, so that it can be tested there. The drivers exist only
//! in the image that runs at EL2.

#![cfg_attr(not(test), no_std)]

pub mod board;
mod device_tree;
mod error;
#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod psci;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod uart;

pub use board::{Board, Region};
pub use device_tree::device_tree_at;
pub use error::{BoardError, InterruptKind};
