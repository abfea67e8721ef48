//! The machine a guest sees: QEMU virt's address map, as far as it is there.
//!
//! All addresses are IPAs.

use super::pl011;

/// Where RAM begins.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Where the device tree is put; a guest finds it in x0.
pub const DEVICE_TREE: u64 = RAM_BASE;
/// Room for the device tree.
pub const DEVICE_TREE_ROOM: u64 = IMAGE - DEVICE_TREE;
/// Where a flat image is put.
pub const IMAGE: u64 = RAM_BASE + 0x8_0000;
/// The first register of the PL011.
pub const UART: u64 = 0x0900_0000;
/// The byte behind the PL011's frame.
pub const UART_END: u64 = UART + pl011::FRAME_SIZE;
/// The rate of the UART's clock in Hz.
pub const UART_CLOCK: u32 = 24_000_000;
