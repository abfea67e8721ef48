//! The UART a guest sees: an Arm PL011 r1p5 (Arm DDI 0183) on a line that is never busy.
//!
//! What the guest writes is sent at once, so the transmit FIFO is always empty; what is received waits
//! in a queue, the start of which the guest sees as its receive FIFO. The registers that only set up
//! the line keep what is written to them, and the UART works whether they are set up or not: simple
//! programs just write to DR.

/// Size of the register frame, in bytes.
pub const FRAME_SIZE: u64 = 0x1000;
/// How many bytes wait for the guest before more are lost.
const QUEUE_LENGTH: usize = 1024;
/// The depth of the receive FIFO, if it is enabled.
const FIFO_DEPTH: usize = 32;

/// The data register: what is stored there is sent.
pub const DR: u64 = 0x00;
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
const ICR: u64 = 0x44;
const DMACR: u64 = 0x48;
const IDENTIFICATION: u64 = 0xfe0;

/// FR: the transmit FIFO is empty.
const FLAG_TRANSMIT_EMPTY: u32 = 1 << 7;
/// FR: the receive FIFO is full.
const FLAG_RECEIVE_FULL: u32 = 1 << 6;
/// FR: the receive FIFO is empty.
const FLAG_RECEIVE_EMPTY: u32 = 1 << 4;
/// CR.LBE: what is sent comes back and goes nowhere else.
const LOOP_BACK: u32 = 1 << 7;
/// LCR_H.FEN: the FIFOs are enabled.
const FIFO_ENABLE: u32 = 1 << 4;
/// RIS: the receive FIFO has reached its trigger level.
const RECEIVE: u32 = 1 << 4;
/// RIS: the transmit FIFO has fallen to its trigger level.
const TRANSMIT: u32 = 1 << 5;
/// RIS: something has been in the receive FIFO for a while.
const TIMEOUT: u32 = 1 << 6;
/// UARTPeriphID0 to 3 and UARTPCellID0 to 3 of a PL011 r1p5.
const IDENTIFIERS: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The registers that drivers look at all the time, as they are at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(u32);

impl Shown {
    /// Where the fields begin that [`Self::new`] packs: FR is 9 bits wide, RIS and IMSC are 11.
    const RIS: u32 = 9;
    const IMSC: u32 = Self::RIS + 11;
    /// The bits of RIS and of IMSC.
    const INTERRUPTS: u32 = 0x7ff;

    const fn new(flags: u32, raised: u32, imsc: u32) -> Self {
        Self(flags | raised << Self::RIS | imsc << Self::IMSC)
    }

    /// From what [`Self::bits`] gave.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// As a word, for whoever keeps it in an atomic.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What the guest reads at `offset` bytes into the frame, if it is one of these registers.
    #[inline]
    pub const fn read(self, offset: u64) -> Option<u32> {
        Some(match offset {
            FR => self.0 & ((1 << Self::RIS) - 1),
            RIS => self.raised(),
            IMSC => self.imsc(),
            MIS => self.raised() & self.imsc(),
            _ => return None,
        })
    }

    /// The level of the interrupt line.
    pub const fn interrupt(self) -> bool {
        self.raised() & self.imsc() != 0
    }

    const fn raised(self) -> u32 {
        self.0 >> Self::RIS & Self::INTERRUPTS
    }

    const fn imsc(self) -> u32 {
        self.0 >> Self::IMSC & Self::INTERRUPTS
    }
}

/// The state of one virtual PL011.
#[derive(Debug)]
pub struct Pl011 {
    queue: [u8; QUEUE_LENGTH],
    first: usize,
    length: usize,
    /// FR, which follows from the queue's length and LCR_H.
    flags: u32,
    raised: u32,
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
    /// A UART as after reset.
    pub const fn new() -> Self {
        Self {
            queue: [0; QUEUE_LENGTH],
            first: 0,
            length: 0,
            flags: FLAG_TRANSMIT_EMPTY | FLAG_RECEIVE_EMPTY,
            raised: 0,
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

    /// The registers that drivers look at all the time.
    #[inline]
    pub const fn shown(&self) -> Shown {
        Shown::new(self.flags, self.raised, self.imsc)
    }

    /// A byte comes in. It is lost if the guest has too many to read already.
    pub fn receive(&mut self, byte: u8) {
        if self.length < QUEUE_LENGTH {
            self.queue[(self.first + self.length) % QUEUE_LENGTH] = byte;
            self.length += 1;
        }
        self.update_flags();
        self.arrived();
    }

    /// Something has come into the receive FIFO, or was left in it.
    fn arrived(&mut self) {
        // The guest need not wait for what the line will not bring.
        self.raised |= TIMEOUT;
        if self.length >= self.trigger() {
            self.raised |= RECEIVE;
        }
    }

    /// What the guest reads at `offset` bytes into the frame. Registers that are not there are zero.
    pub fn read(&mut self, offset: u64) -> u32 {
        match offset {
            DR => self.take().into(),
            ILPR => self.ilpr,
            IBRD => self.ibrd,
            FBRD => self.fbrd,
            LCR_H => self.lcr_h,
            CR => self.cr,
            IFLS => self.ifls,
            DMACR => self.dmacr,
            IDENTIFICATION..FRAME_SIZE if offset.is_multiple_of(4) => {
                IDENTIFIERS[offset as usize / 4 % IDENTIFIERS.len()].into()
            }
            // RSR is zero, too: whatever was received had no error.
            _ => self.shown().read(offset).unwrap_or(0),
        }
    }

    /// The guest writes `value` at `offset` bytes into the frame. Returns the byte that it sends by that,
    /// if it does.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<u8> {
        match offset {
            DR => {
                self.raised |= TRANSMIT;
                if self.cr & LOOP_BACK == 0 {
                    return Some(value as u8);
                }
                self.receive(value as u8);
            }
            ILPR => self.ilpr = value & 0xff,
            IBRD => self.ibrd = value & 0xffff,
            FBRD => self.fbrd = value & 0x3f,
            LCR_H => {
                self.lcr_h = value & 0xff;
                self.update_flags();
            }
            CR => self.cr = value & 0xff87,
            IFLS => self.ifls = value & 0x3f,
            IMSC => self.imsc = value & Shown::INTERRUPTS,
            ICR => self.raised &= !value,
            DMACR => self.dmacr = value & 0x7,
            _ => {}
        }
        None
    }

    fn take(&mut self) -> u8 {
        if self.length == 0 {
            return 0;
        }
        let byte = self.queue[self.first];
        self.first = (self.first + 1) % QUEUE_LENGTH;
        self.length -= 1;
        self.update_flags();
        if self.length < self.trigger() {
            self.raised &= !RECEIVE;
        }
        if self.length == 0 {
            self.raised &= !TIMEOUT;
        } else {
            // The next one moves up, also if the guest has cleared the interrupt before it read.
            self.arrived();
        }
        byte
    }

    fn update_flags(&mut self) {
        let receive = match self.length {
            0 => FLAG_RECEIVE_EMPTY,
            length if length >= self.depth() => FLAG_RECEIVE_FULL,
            _ => 0,
        };
        self.flags = FLAG_TRANSMIT_EMPTY | receive;
    }

    fn depth(&self) -> usize {
        if self.lcr_h & FIFO_ENABLE == 0 {
            1
        } else {
            FIFO_DEPTH
        }
    }

    /// How many bytes in the receive FIFO raise an interrupt (IFLS.RXIFLSEL).
    fn trigger(&self) -> usize {
        if self.lcr_h & FIFO_ENABLE == 0 {
            return 1;
        }
        match self.ifls >> 3 & 7 {
            0 => FIFO_DEPTH / 8,
            1 => FIFO_DEPTH / 4,
            2 => FIFO_DEPTH / 2,
            3 => FIFO_DEPTH * 3 / 4,
            _ => FIFO_DEPTH * 7 / 8,
        }
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

    impl Pl011 {
        fn interrupt(&self) -> bool {
            self.shown().interrupt()
        }
    }

    #[test]
    fn what_is_shown_is_what_is_read() {
        let mut uart = Pl011::new();
        uart.write(IMSC, !0);
        uart.write(DR, 0);
        for lcr_h in [0, FIFO_ENABLE] {
            uart.write(LCR_H, lcr_h);
            uart.receive(0);
            let shown = Shown::from_bits(uart.shown().bits());
            for offset in (0..FRAME_SIZE).filter(|&offset| offset != DR) {
                if let Some(value) = shown.read(offset) {
                    assert_eq!(value, uart.read(offset), "{offset:#x}");
                }
            }
            assert_eq!(shown.read(RIS), Some(TRANSMIT | RECEIVE | TIMEOUT));
            assert_eq!(shown.read(IMSC), Some(0x7ff));
            assert_eq!(shown.read(MIS), shown.read(RIS));
            assert_eq!(shown.read(DR), None);
            uart.write(IMSC, 0);
            assert_eq!(uart.shown().read(MIS), Some(0));
            uart.write(IMSC, !0);
        }
        assert_eq!(uart.shown().read(FR), Some(FLAG_TRANSMIT_EMPTY));
    }

    #[test]
    fn what_is_written_is_sent() {
        let mut uart = Pl011::new();
        assert_eq!(uart.write(DR, 0x141), Some(b'A'));
        assert_eq!(uart.write(CR, 0x301), None);
        assert_eq!(uart.read(FR), 0x90);
    }

    #[test]
    fn it_is_a_pl011() {
        let mut uart = Pl011::new();
        let id: Vec<u32> = (0xfe0..0x1000).step_by(4).map(|at| uart.read(at)).collect();
        assert_eq!(id, [0x11, 0x10, 0x34, 0, 0x0d, 0xf0, 0x05, 0xb1]);
        assert_eq!(uart.read(0xfe1), 0);
        uart.write(IBRD, 0x1_0001);
        assert_eq!(uart.read(IBRD), 1);
        assert_eq!(uart.read(0x80), 0);
    }

    #[test]
    fn registers_of_the_line_keep_the_bits_that_they_have() {
        let mut uart = Pl011::new();
        for (register, reset, bits) in [
            (ILPR, 0, 0xff),
            (IBRD, 0, 0xffff),
            (FBRD, 0, 0x3f),
            (LCR_H, 0, 0xff),
            (CR, 0x300, 0xff87),
            (IFLS, 0x12, 0x3f),
            (IMSC, 0, 0x7ff),
            (DMACR, 0, 0x7),
        ] {
            assert_eq!(uart.read(register), reset, "{register:#x}");
            uart.write(register, !0);
            assert_eq!(uart.read(register), bits, "{register:#x}");
            uart.write(register, 0);
            assert_eq!(uart.read(register), 0, "{register:#x}");
        }
    }

    #[test]
    fn sending_raises_the_transmit_interrupt_until_it_is_cleared() {
        let mut uart = Pl011::new();
        uart.write(IMSC, TRANSMIT);
        assert!(!uart.interrupt());
        uart.write(DR, 0);
        assert_eq!((uart.read(RIS), uart.interrupt()), (TRANSMIT, true));
        uart.write(ICR, RECEIVE | TIMEOUT);
        assert!(uart.interrupt());
        uart.write(IMSC, RECEIVE);
        assert!(!uart.interrupt());
        uart.write(IMSC, TRANSMIT);
        uart.write(ICR, TRANSMIT);
        assert!(!uart.interrupt());
    }

    #[test]
    fn what_is_received_is_read_in_turn() {
        let mut uart = Pl011::new();
        uart.write(IMSC, TIMEOUT);
        uart.receive(b'a');
        uart.receive(b'b');
        assert!(uart.interrupt());
        assert_eq!(uart.read(FR), FLAG_TRANSMIT_EMPTY | FLAG_RECEIVE_FULL);
        uart.write(LCR_H, FIFO_ENABLE);
        assert_eq!(uart.read(FR), FLAG_TRANSMIT_EMPTY);
        assert_eq!([uart.read(DR), uart.read(DR)], [b'a'.into(), b'b'.into()]);
        assert!(!uart.interrupt());
        assert_eq!(uart.read(FR), FLAG_TRANSMIT_EMPTY | FLAG_RECEIVE_EMPTY);
        assert_eq!(uart.read(DR), 0);
    }

    #[test]
    fn the_receive_interrupt_comes_at_its_level() {
        for (select, level) in [(0, 4), (1, 8), (2, 16), (3, 24), (4, 28)] {
            let mut uart = Pl011::new();
            uart.write(LCR_H, FIFO_ENABLE);
            uart.write(IFLS, select << 3);
            for _ in 1..level {
                uart.receive(0);
            }
            assert_eq!(uart.read(RIS), TIMEOUT, "before {level}");
            uart.receive(0);
            assert_eq!(uart.read(RIS), TIMEOUT | RECEIVE, "at {level}");
            uart.read(DR);
            assert_eq!(uart.read(RIS), TIMEOUT, "below {level}");
        }
    }

    #[test]
    fn the_receive_fifo_is_full_at_its_depth() {
        for (control, depth) in [(0, 1), (FIFO_ENABLE, 32)] {
            let mut uart = Pl011::new();
            uart.write(LCR_H, control);
            let is_full = |uart: &mut Pl011| uart.read(FR) & FLAG_RECEIVE_FULL != 0;
            (1..depth).for_each(|_| uart.receive(0));
            assert!(!is_full(&mut uart));
            uart.receive(0);
            assert!(is_full(&mut uart));
        }
    }

    #[test]
    fn who_reads_one_byte_at_each_interrupt_gets_them_all() {
        for control in [0, FIFO_ENABLE] {
            let mut uart = Pl011::new();
            uart.write(LCR_H, control);
            uart.write(IMSC, RECEIVE | TIMEOUT);
            (0..100).for_each(|byte| uart.receive(byte));
            for byte in 0..100 {
                assert!(uart.interrupt(), "before byte {byte}");
                uart.write(ICR, RECEIVE | TIMEOUT);
                assert!(!uart.interrupt());
                assert_eq!(uart.read(DR), byte);
            }
            assert!(!uart.interrupt());
        }
    }

    #[test]
    fn what_is_sent_comes_back_in_loop_back() {
        let mut uart = Pl011::new();
        uart.write(CR, 0x301 | LOOP_BACK);
        assert_eq!(uart.write(DR, b'x'.into()), None);
        assert_eq!(uart.read(RIS) & (TRANSMIT | RECEIVE), TRANSMIT | RECEIVE);
        assert_eq!(uart.read(DR), b'x'.into());
        uart.write(CR, 0x301);
        assert_eq!(uart.write(DR, b'y'.into()), Some(b'y'));
        assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
    }

    #[test]
    fn too_much_is_lost_and_no_more() {
        let mut uart = Pl011::new();
        for byte in 0..2 * QUEUE_LENGTH {
            uart.receive(byte as u8);
        }
        for byte in 0..QUEUE_LENGTH {
            assert_eq!(uart.read(DR), (byte as u8).into());
        }
        assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
    }
}
