//! The UART a guest sees: an Arm PL011 (Arm DDI 0183) that only sends, and is always ready.
//!
//! Characters are gathered into lines, so that those of several guests and of the hypervisor do not
//! mix on the console. There is nothing to receive and no interrupt; registers that only set up the
//! line keep what is written to them.

/// Size of the register frame, in bytes.
pub const FRAME_SIZE: u64 = 0x1000;
/// Longer lines are broken.
const LINE_LENGTH: usize = 256;

const DR: u64 = 0x00;
const RSR: u64 = 0x04;
const FR: u64 = 0x18;
const ILPR: u64 = 0x20;
const IBRD: u64 = 0x24;
const FBRD: u64 = 0x28;
const LCR_H: u64 = 0x2c;
const CR: u64 = 0x30;
const IFLS: u64 = 0x34;
const IMSC: u64 = 0x38;
const RIS: u64 = 0x3c;
const MIS: u64 = 0x40;
const DMACR: u64 = 0x48;
const IDENTIFICATION: u64 = 0xfe0;

/// FR: the transmit FIFO is empty, the receive FIFO is empty, not busy.
const FR_READY: u32 = 1 << 7 | 1 << 4;
/// RIS: a transmit interrupt is raised, since the FIFO is always below its trigger level.
const INTERRUPT_TRANSMIT: u32 = 1 << 5;
/// UARTPeriphID0 to 3 and UARTPCellID0 to 3 of a PL011 r1p5.
const IDENTIFIERS: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The state of one virtual PL011.
#[derive(Debug)]
pub struct Pl011 {
    line: [u8; LINE_LENGTH],
    length: usize,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcr_h: u32,
    cr: u32,
    ifls: u32,
    imsc: u32,
    dmacr: u32,
}

impl Pl011 {
    /// A UART as after reset, with an empty line.
    pub const fn new() -> Self {
        Self {
            line: [0; LINE_LENGTH],
            length: 0,
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcr_h: 0,
            cr: 0x300,
            ifls: 0x12,
            imsc: 0,
            dmacr: 0,
        }
    }

    /// What the guest reads at `offset` bytes into the frame. Registers that are not there are zero.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            FR => FR_READY,
            ILPR => self.ilpr,
            IBRD => self.ibrd,
            FBRD => self.fbrd,
            LCR_H => self.lcr_h,
            CR => self.cr,
            IFLS => self.ifls,
            IMSC => self.imsc,
            RIS => INTERRUPT_TRANSMIT,
            MIS => INTERRUPT_TRANSMIT & self.imsc,
            DMACR => self.dmacr,
            IDENTIFICATION..FRAME_SIZE => {
                let index = (offset - IDENTIFICATION) as usize / 4;
                IDENTIFIERS.get(index).copied().unwrap_or(0).into()
            }
            // DR and RSR among them: nothing was received, and without an error.
            _ => 0,
        }
    }

    /// The guest writes `value` at `offset` bytes into the frame. A line that is complete by that
    /// is handed to `print`, without its end.
    pub fn write(&mut self, offset: u64, value: u32, print: impl FnOnce(&[u8])) {
        match offset {
            DR => self.send(value as u8, print),
            RSR => {}
            ILPR => self.ilpr = value & 0xff,
            IBRD => self.ibrd = value & 0xffff,
            FBRD => self.fbrd = value & 0x3f,
            LCR_H => self.lcr_h = value & 0xff,
            CR => self.cr = value & 0xff87,
            IFLS => self.ifls = value & 0x3f,
            IMSC => self.imsc = value & 0x7ff,
            DMACR => self.dmacr = value & 0x7,
            _ => {}
        }
    }

    /// Hands out what is left of a line that was not ended.
    pub fn flush(&mut self, print: impl FnOnce(&[u8])) {
        if self.length > 0 {
            self.end_line(print);
        }
    }

    fn send(&mut self, byte: u8, print: impl FnOnce(&[u8])) {
        match byte {
            b'\n' => return self.end_line(print),
            b'\r' => return,
            _ => {}
        }
        if let Some(slot) = self.line.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
        if self.length == LINE_LENGTH {
            self.end_line(print);
        }
    }

    fn end_line(&mut self, print: impl FnOnce(&[u8])) {
        print(&self.line[..self.length]);
        self.length = 0;
    }
}

impl Default for Pl011 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> (Vec<String>, Pl011) {
        let mut uart = Pl011::new();
        let mut lines = Vec::new();
        for &byte in text {
            uart.write(DR, byte.into(), |line| {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            });
        }
        (lines, uart)
    }

    #[test]
    fn characters_become_lines() {
        let (lines, mut uart) = lines(b"hello\r\n\nworld\nrest");
        assert_eq!(lines, ["hello", "", "world"]);
        let mut rest = Vec::new();
        uart.flush(|line| rest = line.to_vec());
        assert_eq!(rest, b"rest");
        uart.flush(|_| panic!("nothing is left"));
    }

    #[test]
    fn a_line_without_end_is_broken() {
        let (lines, _) = lines(&[b'x'; 2 * LINE_LENGTH + 1]);
        assert_eq!(lines, ["x".repeat(LINE_LENGTH), "x".repeat(LINE_LENGTH)]);
    }

    #[test]
    fn it_is_a_pl011_that_is_always_ready() {
        let mut uart = Pl011::new();
        assert_eq!(uart.read(FR), 0x90);
        let id: Vec<u32> = (0xfe0..0x1000).step_by(4).map(|at| uart.read(at)).collect();
        assert_eq!(id, [0x11, 0x10, 0x34, 0, 0x0d, 0xf0, 0x05, 0xb1]);
        uart.write(IMSC, 0xffff_ffff, |_| ());
        assert_eq!(uart.read(MIS), INTERRUPT_TRANSMIT);
        uart.write(IBRD, 0x1_0001, |_| ());
        assert_eq!(uart.read(IBRD), 1);
        assert_eq!(uart.read(0x80), 0);
    }
}
