//! The PL011 as a console: bytes out, and bytes in.
//!
//! The firmware or QEMU has set the line's speed, which is therefore left alone.

use core::fmt;
use core::ptr::NonNull;

use arm_pl011_uart::{Interrupts, PL011Registers, Uart, UniqueMmioPointer};

/// A PL011 that is written to and read from.
pub struct Console {
    uart: Uart<'static>,
}

impl Console {
    /// Takes the UART whose registers are at physical address `registers`; `None` if that is zero.
    ///
    /// # Safety
    ///
    /// `registers` must be zero or a PL011, mapped as device memory at its physical address (or the
    /// MMU be off), and stay so. If another `Console` for it is used at the same time, their output
    /// mixes.
    pub unsafe fn new(registers: u64) -> Option<Self> {
        let registers = NonNull::new(registers as *mut PL011Registers)?;
        // SAFETY: The caller vouches for the mapping. Two users can only mix bytes up: each access
        // is one volatile load or store of a register.
        let registers = unsafe { UniqueMmioPointer::new(registers) };
        Some(Self {
            uart: Uart::new(registers),
        })
    }

    /// Writes one byte, waiting while the transmit FIFO is full.
    pub fn write_byte(&mut self, byte: u8) {
        while !self.try_write_byte(byte) {
            core::hint::spin_loop();
        }
    }

    /// Writes one byte, unless the transmit FIFO is full; says whether it did.
    pub fn try_write_byte(&mut self, byte: u8) -> bool {
        let room = !self.uart.is_tx_fifo_full();
        if room {
            self.uart.write_word(byte);
        }
        room
    }

    /// Waits until all that was written has been sent.
    pub fn drain(&self) {
        while self.uart.is_busy() {
            core::hint::spin_loop();
        }
    }

    /// Lets the UART raise its interrupt as long as there are bytes to read, or does not. Bytes
    /// that are not read wait on the line, if what sends them heeds that the FIFO is full.
    pub fn listen(&mut self, listens: bool) {
        let masks = match listens {
            true => Interrupts::RXI | Interrupts::RTI,
            false => Interrupts::empty(),
        };
        self.uart.set_interrupt_masks(masks);
    }

    /// What was received next, if anything.
    pub fn read(&mut self) -> Option<Received> {
        let read = self.uart.read_word().transpose()?;
        Some(read.map_or(Received::Lost, Received::Byte))
    }
}

/// What came over the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A byte.
    Byte(u8),
    /// Something that is lost: it came damaged, or faster than it was read.
    Lost,
}

impl fmt::Write for Console {
    /// Writes the text with line ends as terminals want them; never fails.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.write_byte(b'\r');
            }
            self.write_byte(byte);
        }
        Ok(())
    }
}
