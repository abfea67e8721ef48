//! The places for virtio devices (virtio 1.2, 4.2, "Virtio Over MMIO"), all empty.
//!
//! QEMU's board has 32 of them, which answer whether there is a device or not, and programs that
//! know the board look at all. Like QEMU's they have the layout from before virtio 1.0, unless told
//! otherwise.

/// How many places there are.
pub const PLACES: u64 = 32;
/// Size of the registers of a place, in bytes.
pub const PLACE: u64 = 0x200;

const MAGIC: u64 = 0x000;
const VERSION: u64 = 0x004;
const VENDOR: u64 = 0x00c;

/// What a guest loads, at `offset` bytes into a place, from the register there of four bytes. That
/// of the device's kind is zero, so there is no device.
pub const fn read(offset: u64) -> u32 {
    match offset {
        MAGIC => u32::from_le_bytes(*b"virt"),
        VERSION => 1,
        VENDOR => u32::from_le_bytes(*b"QEMU"),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_there_and_empty() {
        let registers: Vec<u32> = (0..PLACE).step_by(4).map(read).collect();
        assert_eq!(registers[..4], [0x7472_6976, 1, 0, 0x554d_4551]);
        assert!(registers[4..].iter().all(|&register| register == 0));
    }
}
