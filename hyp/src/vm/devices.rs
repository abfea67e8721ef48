//! The devices of a virtual machine, of which there is one: the UART.

use hyp::vm::machine::UART;

use super::Vm;
use crate::console;

impl Vm {
    /// What the guest loads from `ipa`, where there is a device.
    pub(crate) fn device_read(&self, ipa: u64) -> u64 {
        self.uart.lock().read(ipa - UART).into()
    }

    /// The guest stores `value` to `ipa`, where there is a device.
    pub(crate) fn device_write(&self, ipa: u64, value: u64) {
        self.uart
            .lock()
            .write(ipa - UART, value as u32, |line| self.print(line));
    }

    /// Resets the UART; a line that was not ended is printed first.
    pub(super) fn reset_devices(&self) {
        let mut uart = self.uart.lock();
        uart.flush(|line| self.print(line));
        *uart = hyp::vm::pl011::Pl011::new();
    }

    fn print(&self, line: &[u8]) {
        console::guest_line(self.index, line);
    }
}
