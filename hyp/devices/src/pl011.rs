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

    /// As a word, to be kept in an atomic.
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
mod tests;
