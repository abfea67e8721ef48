//! The flash chips a guest sees in QEMU virt's second bank, in which firmware keeps settings.
//!
//! Two x16 chips side by side make a bank of 32 bits, which obeys Intel's basic command set (0001h)
//! and describes itself by CFI (JEDEC JESD68 and JEP137). Like QEMU's, it takes its command from
//! the low byte of a store, whatever the width, and answers for both chips.
//!
//! Only commands and answers are here. While the bank shows its contents
//! ([`Flash::shows_contents`]) the guest reads them from memory; what is to become of them is said
//! by [`Change`]. Programming is done word by word as the words come, also of a buffered program
//! that is not confirmed, which chips leave open.

use speculation::masked::Masked;

/// Size of the bank in bytes.
pub const SIZE: u64 = 2 << 20;
/// Size of a block, which is what is erased at once, in bytes.
pub const BLOCK: u64 = 256 << 10;
/// Chips in the bank.
const CHIPS: u64 = 2;
/// log2 of the bytes that one buffered program takes of one chip.
const BUFFER_BITS: u8 = 6;
/// Words of 32 bits that one buffered program takes.
const BUFFER_WORDS: u32 = (1 << BUFFER_BITS) * CHIPS as u32 / 4;

/// The status register: ready.
const READY: u16 = 1 << 7;
/// The status register: erasing and programming failed, which together mean a wrong sequence.
const WRONG_SEQUENCE: u16 = 1 << 5 | PROGRAM_FAILED;
/// The status register: programming failed.
const PROGRAM_FAILED: u16 = 1 << 4;

/// Manufacturer and device: Intel, 28F160.
const IDENTIFIERS: [u16; 2] = [0x89, 0x18];

const READ_ARRAY: u8 = 0xff;
const READ_ARRAY_OTHERS: u8 = 0xf0;
const READ_STATUS: u8 = 0x70;
const READ_IDENTIFIERS: u8 = 0x90;
const READ_QUERY: u8 = 0x98;
const CLEAR_STATUS: u8 = 0x50;
const PROGRAM: [u8; 2] = [0x40, 0x10];
const PROGRAM_BUFFER: u8 = 0xe8;
const ERASE: u8 = 0x20;
const CHANGE_LOCK: u8 = 0x60;
const CONFIRM: u8 = 0xd0;
const LOCK: u8 = 0x01;

/// What a store does to the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The bits that are clear in `value` become clear in the `size` bytes from `offset` on.
    Program {
        /// Bytes from the start of the bank; a multiple of `size`.
        offset: u64,
        /// 1, 2 or 4.
        size: u32,
        /// The bytes, the first one lowest.
        value: u32,
    },
    /// All bits of a block become set.
    Erase {
        /// Bytes from the start of the bank to the block.
        offset: u64,
    },
}

/// What loads find, and what the next store means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Contents,
    Status,
    Identifiers,
    Query,
    /// The next store is a word to be programmed.
    Word,
    /// The next store confirms that its block be erased.
    Erasing,
    /// The next store says whether its block is locked.
    Locking,
    /// The next store is the number of words in the buffer, less one.
    Count,
    /// So many words are to come, and then a confirmation.
    Buffer(u32),
}

/// The chips.
#[derive(Debug)]
pub struct Flash {
    mode: Mode,
    status: u16,
}

impl Flash {
    /// As after reset: it shows its contents.
    pub const fn new() -> Self {
        Self {
            mode: Mode::Contents,
            status: READY,
        }
    }

    /// Whether loads find the contents; otherwise an answer.
    pub fn shows_contents(&self) -> bool {
        self.mode == Mode::Contents
    }

    /// What a load at `offset` bytes into the bank finds, up to 4 bytes; `None` if that is the
    /// contents. As in QEMU both chips' answer begins at the load's first byte, wherever that is.
    pub fn read(&self, offset: u64) -> Option<u32> {
        let index = (offset / (2 * CHIPS)) as usize;
        let answer = match self.mode {
            Mode::Contents => return None,
            Mode::Query => query(index).into(),
            Mode::Identifiers => IDENTIFIERS.get_masked(index % 0x100).copied().unwrap_or(0),
            _ => self.status,
        };
        Some(u32::from(answer) | u32::from(answer) << 16)
    }

    /// The guest stores `value`, of 1, 2 or 4 bytes, at `offset` bytes into the bank.
    pub fn write(&mut self, offset: u64, size: u32, value: u32) -> Change {
        let command = value as u8;
        match self.mode {
            Mode::Contents | Mode::Status | Mode::Identifiers | Mode::Query => {
                self.command(command);
            }
            Mode::Word => {
                self.mode = Mode::Status;
                return program(offset, size, value);
            }
            Mode::Erasing if command == CONFIRM => {
                self.mode = Mode::Status;
                let offset = offset / BLOCK * BLOCK;
                return Change::Erase { offset };
            }
            // No block is ever locked.
            Mode::Locking if [CONFIRM, LOCK].contains(&command) => self.mode = Mode::Status,
            Mode::Count => {
                let count = u32::from(value as u16) + 1;
                if count > BUFFER_WORDS {
                    self.reject(command);
                } else {
                    self.mode = Mode::Buffer(count);
                }
            }
            Mode::Buffer(0) if command == CONFIRM => self.mode = Mode::Status,
            Mode::Buffer(left) if left > 0 => {
                self.mode = Mode::Buffer(left - 1);
                return program(offset, size, value);
            }
            Mode::Erasing | Mode::Locking | Mode::Buffer(_) => self.reject(command),
        }
        Change::None
    }

    /// What was last programmed could not be kept.
    pub fn fail(&mut self) {
        self.status |= PROGRAM_FAILED;
    }

    fn command(&mut self, command: u8) {
        self.mode = match command {
            READ_STATUS => Mode::Status,
            READ_IDENTIFIERS => Mode::Identifiers,
            READ_QUERY => Mode::Query,
            ERASE => Mode::Erasing,
            CHANGE_LOCK => Mode::Locking,
            PROGRAM_BUFFER => Mode::Count,
            _ if PROGRAM.contains(&command) => Mode::Word,
            CLEAR_STATUS => {
                self.status = READY;
                self.mode
            }
            // Others, those that reset chips of other makers among them.
            _ => Mode::Contents,
        };
    }

    /// The second half of a command does not fit the first.
    fn reject(&mut self, command: u8) {
        if [READ_ARRAY, READ_ARRAY_OTHERS].contains(&command) {
            self.mode = Mode::Contents;
        } else {
            self.status |= WRONG_SEQUENCE;
            self.mode = Mode::Status;
        }
    }
}

impl Default for Flash {
    fn default() -> Self {
        Self::new()
    }
}

fn program(offset: u64, size: u32, value: u32) -> Change {
    // A store across words would be to two places of the bank; its end is lost, as in QEMU.
    if size == 0 || !offset.is_multiple_of(size.into()) {
        return Change::None;
    }
    Change::Program {
        offset,
        size,
        value,
    }
}

/// Byte `index` of the description of one chip (JEDEC JESD68, tables 1 to 5).
fn query(index: usize) -> u8 {
    const CHIP: u64 = SIZE / CHIPS;
    const CHIP_BLOCK: u64 = BLOCK / CHIPS;
    const LAST_BLOCK: u64 = CHIP / CHIP_BLOCK - 1;
    match index {
        0x10 => b'Q',
        0x11 | 0x32 => b'R',
        0x12 => b'Y',
        0x31 => b'P',
        0x33 => b'I',
        // Intel's standard command set, and where more is said of it.
        0x13 => 0x01,
        0x15 => 0x31,
        // 2.7 to 3.6 V; programming and erasing take 2^n us, us, ms, and at most 2^m times as long.
        0x1b => 0x27,
        0x1c => 0x36,
        0x1f | 0x20 => 0x07,
        0x21 => 0x0a,
        0x23..=0x25 => 0x04,
        0x27 => CHIP.trailing_zeros() as u8,
        // x8 and x16.
        0x28 => 0x02,
        0x2a => BUFFER_BITS,
        // One region: number of its blocks less one, and their size in units of 256 bytes.
        0x2c => 1,
        0x2d => LAST_BLOCK as u8,
        0x2e => (LAST_BLOCK >> 8) as u8,
        0x2f => (CHIP_BLOCK >> 8) as u8,
        0x30 => (CHIP_BLOCK >> 16) as u8,
        // Version 1.0, without more features.
        0x34 => b'1',
        0x35 => b'0',
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(flash: &mut Flash, offset: u64, value: u32) {
        assert_eq!(flash.write(offset, 4, value), Change::None);
    }

    #[test]
    fn it_programs_and_erases_and_shows_its_contents_again() {
        let mut flash = Flash::new();
        assert!(flash.shows_contents() && flash.read(0).is_none());
        store(&mut flash, 0x104, 0x0040_0040);
        let programmed = Change::Program {
            offset: 0x104,
            size: 4,
            value: 0x1234_5678,
        };
        assert_eq!(flash.write(0x104, 4, 0x1234_5678), programmed);
        assert_eq!(flash.read(0x104), Some(0x0080_0080));
        store(&mut flash, BLOCK + 8, 0x0020_0020);
        let erased = Change::Erase { offset: BLOCK };
        assert_eq!(flash.write(BLOCK + 8, 4, 0x00d0_00d0), erased);
        assert!(!flash.shows_contents());
        store(&mut flash, 0, 0x00ff_00ff);
        assert!(flash.shows_contents());
    }

    #[test]
    fn a_buffer_takes_as_many_words_as_were_announced() {
        let mut flash = Flash::new();
        store(&mut flash, 0, 0xe8);
        store(&mut flash, 0, 0x0001_0001);
        for offset in [16, 20] {
            assert!(matches!(
                flash.write(offset, 4, 7),
                Change::Program { value: 7, .. }
            ));
        }
        store(&mut flash, 0, 0xd0);
        assert_eq!(flash.read(0), Some(0x0080_0080));
        store(&mut flash, 0, 0xe8);
        store(&mut flash, 0, BUFFER_WORDS);
        assert_eq!(flash.read(0), Some(0x00b0_00b0), "too many");
        store(&mut flash, 0, 0x50);
        flash.fail();
        assert_eq!(flash.read(0), Some(0x0090_0090));
    }

    #[test]
    fn what_is_not_confirmed_is_not_done() {
        for (command, second) in [(0x20, 0x40), (0x60, 0x20)] {
            let mut flash = Flash::new();
            store(&mut flash, 0, command);
            store(&mut flash, 0, second);
            assert_eq!(flash.read(2), Some(0xb0_00b0));
            store(&mut flash, 0, 0x50);
            assert_eq!(flash.read(2), Some(0x80_0080));
            store(&mut flash, 0, command);
            store(&mut flash, 0, 0xff);
            assert!(flash.shows_contents());
        }
    }

    #[test]
    fn it_describes_itself() {
        let mut flash = Flash::new();
        store(&mut flash, 0x55 * 4, 0x98);
        let byte = |index: u64| flash.read(index * 4).expect("an answer") as u8;
        assert_eq!([0x10, 0x11, 0x12].map(byte), *b"QRY");
        assert_eq!([0x31, 0x32, 0x33].map(byte), *b"PRI");
        let both = |low: u64| u64::from(byte(low)) | u64::from(byte(low + 1)) << 8;
        assert_eq!(CHIPS << byte(0x27), SIZE);
        assert_eq!((both(0x2d) + 1) * (both(0x2f) << 8) * CHIPS, SIZE);
        assert_eq!(flash.read(0x40), Some(0x0051_0051));
        assert_eq!(flash.read(0x43), Some(0x0051_0051), "its last byte");
        store(&mut flash, 0, 0x90);
        assert_eq!(flash.read(4), Some(0x0018_0018));
    }
}
