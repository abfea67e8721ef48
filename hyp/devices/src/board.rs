//! The machine a guest sees: QEMU virt's address map, as far as it is there.
//!
//! All addresses are IPAs.

use super::{fw_cfg, pl011, pl031, virtio};
use bootargs::MAX_VCPUS;
use vgic;

/// Where QEMU virt's first flash is, from which firmware runs. It can only be read, and holds a
/// machine's firmware and nothing else.
pub const FIRMWARE: u64 = 0;
/// How long firmware can be, in bytes.
pub const FIRMWARE_ROOM: u64 = FLASH - FIRMWARE;
/// Where QEMU virt's second flash is, in which firmware keeps settings. Only its first
/// [`SIZE`](crate::flash::SIZE) bytes are chips; the rest is erased and stays so.
pub const FLASH: u64 = 0x0400_0000;
/// The byte behind the flash.
pub const FLASH_END: u64 = 0x0800_0000;
/// From here to the RAM there are devices' registers, and nothing that could be mapped.
pub const DEVICES: u64 = FLASH_END;
/// The first register of the interrupt controller's distributor.
pub const DISTRIBUTOR: u64 = 0x0800_0000;
/// Size of the distributor's frame, in bytes.
pub const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// The first register of vCPU 0's redistributor; those of the others follow.
pub const REDISTRIBUTORS: u64 = 0x080a_0000;
/// The first register of the PL011.
pub const UART: u64 = 0x0900_0000;
/// The byte behind the PL011's frame.
pub const UART_END: u64 = UART + pl011::FRAME_SIZE;
/// The rate of the UART's clock in Hz.
pub const UART_CLOCK: u32 = 24_000_000;
/// The UART's interrupt, as an INTID: SPI 1.
pub const UART_INTERRUPT: u32 = vgic::FIRST_SHARED + 1;
/// The first register of the PL031.
pub const CLOCK: u64 = 0x0901_0000;
/// The byte behind the PL031's frame.
pub const CLOCK_END: u64 = CLOCK + pl031::FRAME_SIZE;
/// The first register of `fw_cfg`.
pub const FW_CFG: u64 = 0x0902_0000;
/// The byte behind those of `fw_cfg`.
pub const FW_CFG_END: u64 = FW_CFG + fw_cfg::SIZE;
/// The first register of the first place for a virtio device; the others follow.
pub const VIRTIO: u64 = 0x0a00_0000;
/// The byte behind the places for virtio devices.
pub const VIRTIO_END: u64 = VIRTIO + virtio::PLACES * virtio::PLACE;
/// The interrupt of the first place for a virtio device, as an INTID: SPI 16. The others follow.
pub const VIRTIO_INTERRUPT: u32 = vgic::FIRST_SHARED + 16;
/// Where RAM begins.
pub const RAM_BASE: u64 = 0x4000_0000;

/// A device, by its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The first flash, of which only stores come here, and do nothing: what is there is mapped.
    Firmware,
    /// The second flash.
    Flash,
    /// The PL031.
    Clock,
    /// `fw_cfg`.
    FwCfg,
    /// A place for a virtio device, with the offset into that.
    Virtio,
    /// The PL011.
    Uart,
    /// The interrupt controller.
    Vgic(vgic::Frame),
}

/// The device at an address, and the offset into its registers in bytes; whether the machine has
/// the vCPUs or the firmware that the address needs is left to the caller.
#[inline]
pub fn device_at(ipa: u64) -> Option<(Device, u64)> {
    const REDISTRIBUTORS_END: u64 = REDISTRIBUTORS + MAX_VCPUS as u64 * vgic::REDISTRIBUTOR_SIZE;
    const DISTRIBUTOR_END: u64 = DISTRIBUTOR + DISTRIBUTOR_SIZE;
    // Those that are used most come first.
    match ipa {
        UART..UART_END => Some((Device::Uart, ipa - UART)),
        DISTRIBUTOR..DISTRIBUTOR_END => {
            let frame = vgic::Frame::Distributor;
            Some((Device::Vgic(frame), ipa - DISTRIBUTOR))
        }
        REDISTRIBUTORS..REDISTRIBUTORS_END => {
            let offset = ipa - REDISTRIBUTORS;
            let vcpu = (offset / vgic::REDISTRIBUTOR_SIZE) as usize % MAX_VCPUS;
            let frame = vgic::Frame::Redistributor(vcpu);
            Some((Device::Vgic(frame), offset % vgic::REDISTRIBUTOR_SIZE))
        }
        FIRMWARE..FLASH => Some((Device::Firmware, ipa - FIRMWARE)),
        FLASH..FLASH_END => Some((Device::Flash, ipa - FLASH)),
        CLOCK..CLOCK_END => Some((Device::Clock, ipa - CLOCK)),
        FW_CFG..FW_CFG_END => Some((Device::FwCfg, ipa - FW_CFG)),
        VIRTIO..VIRTIO_END => Some((Device::Virtio, (ipa - VIRTIO) % virtio::PLACE)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_where_qemu_has_them() {
        let frame = |frame, offset| Some((Device::Vgic(frame), offset));
        assert_eq!(device_at(0x0800_0004), frame(vgic::Frame::Distributor, 4));
        assert_eq!(device_at(0x0801_0000), None);
        assert_eq!(device_at(0x07ff_ffff), Some((Device::Flash, 0x03ff_ffff)));
        assert_eq!(
            device_at(0x0200_0000),
            Some((Device::Firmware, 0x0200_0000))
        );
        let third = vgic::Frame::Redistributor(2);
        assert_eq!(device_at(0x080f_0100), frame(third, 0x1_0100));
        assert_eq!(device_at(0x081a_0000), None);
        assert_eq!(device_at(0x0900_0018), Some((Device::Uart, 0x18)));
        assert_eq!(device_at(0x0900_1000), None);
        assert_eq!(device_at(0x0901_0fe0), Some((Device::Clock, 0xfe0)));
        assert_eq!(device_at(0x0902_0008), Some((Device::FwCfg, 8)));
        assert_eq!(device_at(0x0902_0010), None);
        assert_eq!(device_at(0x0a00_0200), Some((Device::Virtio, 0)));
        assert_eq!(device_at(0x0a00_3fff), Some((Device::Virtio, 0x1ff)));
        assert_eq!(device_at(0x0a00_4000), None);
    }
}
