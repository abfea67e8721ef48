//! The devices of a VM, as its vCPUs reach them: by loads and stores.

use core::sync::atomic::Ordering;

use devices::board::{Device, device_at};
use devices::fw_cfg::FwCfg;
use devices::virtio;
use memory::Outcome;
use vgic::{self, Frame};

use super::Vm;
use crate::board::clock;
use crate::vcpu::{self, Vcpu};

impl Vm {
    /// The device at `ipa` and the offset into its frame in bytes; `None` if there is no device.
    // Always inline, as its callers: which device it is is then found out once.
    #[inline(always)]
    fn device(&self, ipa: u64) -> Option<(Device, u64)> {
        device_at(ipa).filter(|&(device, offset)| match device {
            Device::Vgic(Frame::Distributor) => true,
            Device::Vgic(Frame::Redistributor(vcpu)) => {
                vcpu < self.vcpu_count.load(Ordering::Relaxed)
            }
            Device::Firmware => self.has_firmware_at(offset),
            Device::Flash | Device::Clock | Device::FwCfg | Device::Virtio | Device::Uart => true,
        })
    }

    /// Whether a device is at `ipa`.
    pub(crate) fn has_device(&self, ipa: u64) -> bool {
        self.device(ipa).is_some()
    }

    /// What the guest loads from the register at `ipa`, of `size` bytes; `None` if there is no
    /// device. `vcpu` is the caller's own. May switch threads.
    #[inline(always)]
    pub(crate) fn device_read(&self, vcpu: &Vcpu, ipa: u64, size: u32) -> Option<u64> {
        let (device, offset) = self.device(ipa)?;
        Some(match device {
            // Loads do not come here: all of it is mapped.
            Device::Firmware => 0,
            Device::Flash => by_words(offset, size, |offset| self.chips.read(offset)),
            Device::Clock => by_words(offset, size, |offset| {
                self.clock.lock().read(offset, clock::seconds())
            }),
            Device::FwCfg => {
                let vcpus = self.vcpu_count.load(Ordering::Relaxed);
                self.fw_cfg.lock().read(offset, size, vcpus)?
            }
            Device::Virtio => by_words(offset, size, virtio::read),
            // As in QEMU, each of its registers is at all of its four bytes.
            Device::Uart => by_words(offset & !3, size, |offset| {
                self.terminal.read(self, vcpu, offset)
            }),
            Device::Vgic(frame) => match vgic::constant(frame, offset, size) {
                Some(value) => value,
                None => self.vgic_read(vcpu, frame, offset, size),
            },
        })
    }

    /// What the guest loads from a register of its interrupt controller.
    #[inline(never)]
    fn vgic_read(&self, vcpu: &Vcpu, frame: Frame, offset: u64, size: u32) -> u64 {
        let shown = {
            let vgic = self.vgic.lock();
            let shown = vgic.shown_by(frame, offset, size);
            if shown.is_empty() {
                return vgic.read(frame, offset, size);
            }
            shown
        };
        vcpu.show_interrupts();
        vcpu.await_interrupts_of(shown);
        self.vgic.lock().read(frame, offset, size)
    }

    /// The guest stores `value` to a register of its interrupt controller.
    #[inline(never)]
    fn vgic_write(&self, vcpu: &Vcpu, frame: Frame, offset: u64, size: u32, value: u64) {
        let concerned = self.vgic.lock().write(frame, offset, size, value);
        vcpu::notify(self, concerned, Some(vcpu));
    }

    /// The guest stores `value` to the register at `ipa`, of `size` bytes; `None` if there is no
    /// device. `vcpu` is the caller's own.
    #[inline(always)]
    pub(crate) fn device_write(&self, vcpu: &Vcpu, ipa: u64, size: u32, value: u64) -> Option<()> {
        let (device, offset) = self.device(ipa)?;
        match device {
            // Programs that run from flash store to their variables, and do not mind.
            Device::Firmware => {}
            Device::Flash => store_words(offset, size, value, |offset, size, value| {
                self.chips.write(self.memory(), offset, size, value);
            }),
            Device::Clock => store_words(offset, size, value, |offset, _, value| {
                self.clock.lock().write(offset, value, clock::seconds());
            }),
            Device::FwCfg => self.fw_cfg.lock().write(offset, size, value)?,
            // There is no device that could be told anything.
            Device::Virtio => {}
            Device::Uart => store_words(offset & !3, size, value, |offset, _, value| {
                self.terminal.write(self, vcpu, offset, value);
            }),
            Device::Vgic(frame) => self.vgic_write(vcpu, frame, offset, size, value),
        }
        Some(())
    }

    /// Maps the flash at `ipa`, if it is there and shows its contents. For the same callers as
    /// [`Self::memory`].
    pub(crate) fn show_flash(&self, ipa: u64) -> Option<Outcome> {
        self.chips.show(self.memory(), ipa)
    }

    /// Resets all devices but the clock, which goes on. Called when no vCPU is on.
    pub(super) fn reset_devices(&self) {
        self.terminal.reset(self);
        self.chips.reset();
        *self.fw_cfg.lock() = FwCfg::new();
        let mut vgic = self.vgic.lock();
        *vgic = vgic.after_reset();
    }
}

/// Loads up to eight bytes from a device that is four bytes wide: more are two accesses, the lower
/// address first.
#[inline(always)]
fn by_words(offset: u64, size: u32, mut load: impl FnMut(u64) -> u32) -> u64 {
    let low = load(offset).into();
    if size <= 4 {
        return low;
    }
    low | u64::from(load(offset + 4)) << 32
}

/// Stores up to eight bytes to a device that is four bytes wide, likewise.
#[inline(always)]
fn store_words(offset: u64, size: u32, value: u64, mut store: impl FnMut(u64, u32, u32)) {
    store(offset, size.min(4), value as u32);
    if size > 4 {
        store(offset + 4, 4, (value >> 32) as u32);
    }
}
