//! The UART a guest sees: an Arm PL011 r1p5 (Arm DDI 0183) on a line that is never busy.
//!
//! What the guest writes is sent at once, so the transmit FIFO is always empty; what is received
//! waits in a queue, the start of which the guest sees as its receive FIFO: the rest is still on
//! the line. Who has something for a guest asks for room first; what there is no room for is an
//! overrun. The registers that only set up the line keep what is written to them, and the UART
//! works whether they are set up or not: simple programs just write to DR.

/// Size of the register frame, in bytes.
pub const FRAME_SIZE: u64 = 0x1000;
/// How many bytes wait for the guest at most.
const QUEUE_LENGTH: usize = 4096;
/// The depth of the receive FIFO, if it is enabled.
const FIFO_DEPTH: usize = 32;

/// The data register: what is stored there is sent.
pub const DR: u64 = 0x00;
/// RSR to who reads, ECR to who writes.
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
const ICR: u64 = 0x44;
const DMACR: u64 = 0x48;
const IDENTIFICATION: u64 = 0xfe0;

/// DR.OE: something that came before this byte is lost.
const DATA_OVERRUN: u32 = 1 << 11;
/// RSR.OE: something is lost.
const STATUS_OVERRUN: u32 = 1 << 3;
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
/// RIS: something is lost.
const OVERRUN: u32 = 1 << 10;
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
    /// DR.OE of the byte that is read next.
    overrun: u32,
    registers: Registers,
}

/// What does not follow from the queue.
#[derive(Debug)]
struct Registers {
    raised: u32,
    rsr: u32,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcr_h: u32,
    cr: u32,
    ifls: u32,
    imsc: u32,
    dmacr: u32,
}

impl Registers {
    const RESET: Self = Self {
        raised: 0,
        rsr: 0,
        ilpr: 0,
        ibrd: 0,
        fbrd: 0,
        lcr_h: 0,
        cr: 0x300,
        ifls: 0x12,
        imsc: 0,
        dmacr: 0,
    };
}

impl Pl011 {
    /// A UART as after reset.
    pub const fn new() -> Self {
        Self {
            queue: [0; QUEUE_LENGTH],
            first: 0,
            length: 0,
            flags: FLAG_TRANSMIT_EMPTY | FLAG_RECEIVE_EMPTY,
            overrun: 0,
            registers: Registers::RESET,
        }
    }

    /// Resets the UART: what is in its FIFO is gone, and what is still on the line comes.
    pub fn reset(&mut self) {
        self.drop_first(self.length.min(self.depth()));
        self.overrun = 0;
        self.registers = Registers::RESET;
        self.update_flags();
        if self.length > 0 {
            self.arrived();
        }
    }

    /// Drops all that waits for the guest, and returns how many bytes that was.
    pub fn drop_input(&mut self) -> usize {
        let dropped = self.length;
        self.drop_first(dropped);
        self.overrun = 0;
        self.registers.raised &= !(RECEIVE | TIMEOUT);
        self.update_flags();
        dropped
    }

    /// The registers that drivers look at all the time.
    #[inline]
    pub const fn shown(&self) -> Shown {
        Shown::new(self.flags, self.registers.raised, self.registers.imsc)
    }

    /// Whether a byte that comes in now is not lost.
    pub const fn has_room(&self) -> bool {
        self.length < QUEUE_LENGTH
    }

    /// Whether so much has been read that it is worth bringing more.
    pub const fn wants_more(&self) -> bool {
        self.length <= QUEUE_LENGTH / 2
    }

    /// A byte comes in. Where there is no room it is lost, and the guest is told.
    pub fn receive(&mut self, byte: u8) {
        if !self.has_room() {
            return self.lose();
        }
        self.queue[(self.first + self.length) % QUEUE_LENGTH] = byte;
        self.length += 1;
        self.update_flags();
        self.arrived();
    }

    /// Something that came in is lost: an overrun error.
    pub fn lose(&mut self) {
        self.overrun = DATA_OVERRUN;
        self.registers.rsr |= STATUS_OVERRUN;
        self.registers.raised |= OVERRUN;
    }

    /// Something has come into the receive FIFO, or was left in it.
    fn arrived(&mut self) {
        // The guest need not wait for what the line will not bring.
        self.registers.raised |= TIMEOUT;
        if self.length >= self.trigger() {
            self.registers.raised |= RECEIVE;
        }
    }

    /// What the guest reads at `offset` bytes into the frame. Registers that are not there are
    /// zero.
    pub fn read(&mut self, offset: u64) -> u32 {
        match offset {
            DR => self.take(),
            ILPR => self.registers.ilpr,
            IBRD => self.registers.ibrd,
            FBRD => self.registers.fbrd,
            LCR_H => self.registers.lcr_h,
            CR => self.registers.cr,
            IFLS => self.registers.ifls,
            DMACR => self.registers.dmacr,
            IDENTIFICATION..FRAME_SIZE if offset.is_multiple_of(4) => {
                IDENTIFIERS[offset as usize / 4 % IDENTIFIERS.len()].into()
            }
            RSR => self.registers.rsr,
            _ => self.shown().read(offset).unwrap_or(0),
        }
    }

    /// The guest writes `value` at `offset` bytes into the frame. Returns the byte that it sends by
    /// that, if it does.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<u8> {
        match offset {
            DR => {
                self.registers.raised |= TRANSMIT;
                if self.registers.cr & LOOP_BACK == 0 {
                    return Some(value as u8);
                }
                // It goes past the line, on which more may wait than the FIFO holds.
                if self.length < self.depth() {
                    self.receive(value as u8);
                } else {
                    self.lose();
                }
            }
            RSR => self.registers.rsr = 0,
            ILPR => self.registers.ilpr = value & 0xff,
            IBRD => self.registers.ibrd = value & 0xffff,
            FBRD => self.registers.fbrd = value & 0x3f,
            LCR_H => {
                self.registers.lcr_h = value & 0xff;
                self.update_flags();
            }
            CR => self.registers.cr = value & 0xff87,
            IFLS => self.registers.ifls = value & 0x3f,
            IMSC => self.registers.imsc = value & Shown::INTERRUPTS,
            ICR => self.registers.raised &= !value,
            DMACR => self.registers.dmacr = value & 0x7,
            _ => {}
        }
        None
    }

    /// What DR has: the next byte and what was wrong.
    fn take(&mut self) -> u32 {
        if self.length == 0 {
            return 0;
        }
        let byte = self.queue[self.first];
        self.drop_first(1);
        self.update_flags();
        if self.length < self.trigger() {
            self.registers.raised &= !RECEIVE;
        }
        if self.length == 0 {
            self.registers.raised &= !TIMEOUT;
        } else {
            // The next one moves up, also if the guest has cleared the interrupt before it read.
            self.arrived();
        }
        u32::from(byte) | core::mem::take(&mut self.overrun)
    }

    /// Removes the first `count` bytes, of which there are so many.
    fn drop_first(&mut self, count: usize) {
        self.first = (self.first + count) % QUEUE_LENGTH;
        self.length -= count;
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
        if self.registers.lcr_h & FIFO_ENABLE == 0 {
            1
        } else {
            FIFO_DEPTH
        }
    }

    /// How many bytes in the receive FIFO raise an interrupt (IFLS.RXIFLSEL).
    fn trigger(&self) -> usize {
        if self.registers.lcr_h & FIFO_ENABLE == 0 {
            return 1;
        }
        match self.registers.ifls >> 3 & 7 {
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
    fn what_comes_back_can_be_too_much() {
        let mut uart = Pl011::new();
        uart.write(CR, 0x301 | LOOP_BACK);
        uart.write(LCR_H, FIFO_ENABLE);
        (0..33).for_each(|byte| assert_eq!(uart.write(DR, byte), None));
        assert_eq!(uart.read(RSR), STATUS_OVERRUN);
        assert_eq!(uart.read(DR), DATA_OVERRUN);
        (1..32).for_each(|byte| assert_eq!(uart.read(DR), byte));
        assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
    }

    #[test]
    fn too_much_is_lost_and_the_guest_is_told() {
        let mut uart = Pl011::new();
        uart.write(IMSC, OVERRUN);
        let fill = |uart: &mut Pl011| (0..QUEUE_LENGTH).for_each(|byte| uart.receive(byte as u8));
        fill(&mut uart);
        assert!(!uart.has_room() && !uart.interrupt());
        assert_eq!(uart.read(RSR), 0);
        uart.receive(b'x');
        assert_eq!((uart.read(RSR), uart.interrupt()), (STATUS_OVERRUN, true));
        assert_eq!(uart.read(RIS) & OVERRUN, OVERRUN);
        // The first byte that is read after that says so, and no other.
        assert_eq!(uart.read(DR), DATA_OVERRUN);
        for byte in 1..QUEUE_LENGTH {
            assert_eq!(uart.read(DR), (byte as u8).into());
        }
        assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
        // RSR and the interrupt stay until they are cleared.
        assert_eq!(uart.read(RSR), STATUS_OVERRUN);
        uart.write(RSR, 0);
        assert_eq!((uart.read(RSR), uart.interrupt()), (0, true));
        uart.write(ICR, OVERRUN);
        assert!(!uart.interrupt());
        fill(&mut uart);
        assert_eq!((uart.read(DR), uart.read(RSR)), (0, 0));
    }

    #[test]
    fn what_is_lost_on_the_way_is_told_with_the_next_byte() {
        let mut uart = Pl011::new();
        uart.lose();
        assert_eq!((uart.read(DR), uart.read(RSR)), (0, STATUS_OVERRUN));
        uart.receive(b'a');
        assert_eq!(uart.read(DR), u32::from(b'a') | DATA_OVERRUN);
    }

    #[test]
    fn more_is_wanted_when_half_is_read() {
        let mut uart = Pl011::new();
        assert!(uart.has_room() && uart.wants_more());
        (0..QUEUE_LENGTH).for_each(|_| uart.receive(0));
        let read = (1..).find(|_| {
            uart.read(DR);
            uart.wants_more()
        });
        assert_eq!(read, Some(QUEUE_LENGTH / 2));
    }

    #[test]
    fn a_reset_takes_what_is_in_the_fifo() {
        let mut uart = Pl011::new();
        uart.write(LCR_H, FIFO_ENABLE);
        uart.write(IMSC, RECEIVE);
        (0..100).for_each(|byte| uart.receive(byte));
        uart.lose();
        uart.reset();
        assert_eq!(
            (uart.read(IMSC), uart.read(LCR_H), uart.read(RSR)),
            (0, 0, 0)
        );
        assert_eq!(uart.read(RIS), RECEIVE | TIMEOUT);
        assert_eq!(uart.read(DR), FIFO_DEPTH as u32);
        assert_eq!(uart.drop_input(), 100 - FIFO_DEPTH - 1);
        assert_eq!((uart.read(RIS), uart.drop_input()), (0, 0));
        assert_ne!(uart.read(FR) & FLAG_RECEIVE_EMPTY, 0);
    }
}
