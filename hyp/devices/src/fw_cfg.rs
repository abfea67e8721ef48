//! What QEMU tells its guests through `fw_cfg`, as far as it is there: that it is there, and how
//! many vCPUs the machine has. The directory of files is empty.
//!
//! QEMU, "QEMU Firmware Configuration (fw_cfg) Device". Firmware and Linux look for it by the
//! device tree: EDK2 takes it for granted. A guest selects an item and then loads its bytes, one
//! after the other. There is no DMA, by which a guest has bytes copied to its memory, and which the
//! items' first bytes and the device tree then do not offer.

use bootargs::MAX_VCPUS;
use speculation::masked::Masked;

/// Size of the registers, in bytes, as the device tree has it without DMA.
pub const SIZE: u64 = 0x10;

/// The register that gives the selected item's bytes, 1 to 8 at a time.
const DATA: u64 = 0;
/// The register that selects an item: two bytes, big-endian.
const SELECTOR: u64 = 8;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const VCPUS: u16 = 0x05;

/// What the item ID says: items are selected and loaded as here.
const TRADITIONAL: u8 = 1 << 0;
/// Bytes that an item has at most.
const LONGEST: usize = 4;

/// The device's state.
#[derive(Debug)]
pub struct FwCfg {
    selected: u16,
    /// How many bytes of that have been loaded.
    loaded: usize,
}

impl FwCfg {
    /// As after reset.
    pub const fn new() -> Self {
        Self {
            selected: SIGNATURE,
            loaded: 0,
        }
    }

    /// What a guest with so many vCPUs loads at `offset`, `size` bytes; `None` if that is no
    /// register. Behind an item's end there are zeros.
    pub fn read(&mut self, offset: u64, size: u32, vcpus: usize) -> Option<u64> {
        if offset != DATA {
            return None;
        }
        let item = self.item(vcpus);
        let mut bytes = [0; 8];
        // The first byte comes to the lowest address.
        for byte in bytes.iter_mut().take(size as usize) {
            *byte = item.get_masked(self.loaded).copied().unwrap_or(0);
            self.loaded = LONGEST.min(self.loaded + 1);
        }
        Some(u64::from_le_bytes(bytes))
    }

    /// The guest stores `value` at `offset`, `size` bytes; `None` if that is no register. Items
    /// cannot be changed.
    pub fn write(&mut self, offset: u64, size: u32, value: u64) -> Option<()> {
        match (offset, size) {
            (SELECTOR, 2) => {
                *self = Self {
                    selected: (value as u16).swap_bytes(),
                    loaded: 0,
                }
            }
            (DATA, _) => {}
            _ => return None,
        }
        Some(())
    }

    fn item(&self, vcpus: usize) -> [u8; LONGEST] {
        const _: () = assert!(MAX_VCPUS <= u8::MAX as usize);
        match self.selected {
            SIGNATURE => *b"QEMU",
            ID => [TRADITIONAL, 0, 0, 0],
            VCPUS => [vcpus as u8, 0, 0, 0],
            // Others, and the number of files.
            _ => [0; LONGEST],
        }
    }
}

impl Default for FwCfg {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(device: &mut FwCfg, item: u16) {
        device
            .write(SELECTOR, 2, item.swap_bytes().into())
            .expect("a register");
    }

    /// The values are those of QEMU 7.2, but for the files, and DMA in the item ID.
    #[test]
    fn items_are_loaded_byte_by_byte() {
        let mut device = FwCfg::new();
        assert_eq!(
            device.read(DATA, 1, 2),
            Some(b'Q'.into()),
            "selected at reset"
        );
        assert_eq!(
            device.read(DATA, 2, 2),
            Some(u64::from_le_bytes(*b"EM\0\0\0\0\0\0"))
        );
        assert_eq!(device.read(DATA, 4, 2), Some(b'U'.into()));
        assert_eq!(device.read(DATA, 8, 2), Some(0));
        for (item, value) in [
            (0, 0x554d_4551),
            (1, 1),
            (5, 2),
            (0x19, 0),
            (0x8000, 0),
            (0xffff, 0),
        ] {
            select(&mut device, item);
            assert_eq!(device.read(DATA, 8, 2), Some(value), "item {item:#x}");
            assert_eq!(device.read(DATA, 8, 2), Some(0), "behind item {item:#x}");
        }
    }

    #[test]
    fn only_registers_answer() {
        let mut device = FwCfg::new();
        for (offset, size) in [(1, 1), (4, 4), (8, 2), (8, 8), (0x10, 8)] {
            assert_eq!(device.read(offset, size, 1), None, "{offset:#x}, {size}");
        }
        for (offset, size) in [(8, 1), (8, 4), (8, 8), (9, 1), (0x10, 8)] {
            assert_eq!(device.write(offset, size, 1), None, "{offset:#x}, {size}");
        }
        select(&mut device, 0);
        assert_eq!(device.write(DATA, 4, 1), Some(()));
        assert_eq!(
            device.read(DATA, 4, 1),
            Some(0x554d_4551),
            "nothing was stored"
        );
    }
}
