//! Frames: some records of one CPU, on their way over a console.
//!
//! On the console a frame is `ESC _ tessera;` base64 `ESC \`: an application program command (ECMA-48),
//! which terminals take in and do not show. Guests cannot forge one: the hypervisor's console shows
//! their control characters as escapes, so an ESC is its own. The base64, without padding, holds
//! - a byte: the version, [`VERSION`];
//! - a byte: the CPU;
//! - the frequency of the counter in Hz;
//! - how many records of this CPU were lost since the beginning, up to this frame;
//! - the time of the first record;
//! - records: kind, VM, vCPU and the event's four bytes as bytes, then the time since the record
//!   before and the event's two words;
//! - CRC-32 (ISO-HDLC) of all that, lowest byte first.
//!
//! Numbers that are no bytes are LEB128; the time since is folded (0, -1, 1, -2 as 0, 1, 2, 3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use crc::{CRC_32_ISO_HDLC, Crc, Table};

use crate::event::{Packed, Record, WORDS};
use crate::varint;

/// The version of the encoding, in every frame. A reader takes no other.
pub const VERSION: u8 = 1;

/// What a frame begins with on the console.
pub const BEGIN: &[u8] = b"\x1b_tessera;";

/// What a frame ends with on the console.
pub const END: &[u8] = b"\x1b\\";

/// Most bytes of a frame before base64.
pub const LARGEST: usize = 720;

/// Most bytes of base64 of a frame.
pub const LONGEST_TEXT: usize = LARGEST.div_ceil(3) * 4;

/// Most bytes of a record.
const LARGEST_RECORD: usize = 7 + 3 * varint::LONGEST;

const CRC_SIZE: usize = 4;

static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// What a frame says of its CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The CPU.
    pub cpu: u8,
    /// The counter's frequency, in Hz.
    pub frequency: u64,
    /// Records of this CPU that were lost since the beginning.
    pub lost: u64,
}

/// A frame that is being filled.
pub struct Writer {
    bytes: [u8; LARGEST],
    length: usize,
    time: u64,
    records: usize,
}

impl Writer {
    /// A frame without records, the first of which was written at `time`.
    pub fn new(header: Header, time: u64) -> Self {
        let mut writer = Self {
            bytes: [0; LARGEST],
            length: 0,
            time,
            records: 0,
        };
        writer.bytes(&[VERSION, header.cpu]);
        for number in [header.frequency, header.lost, time] {
            writer.number(number);
        }
        writer
    }

    /// Whether one more record fits.
    pub fn has_room(&self) -> bool {
        self.length + LARGEST_RECORD + CRC_SIZE <= LARGEST
    }

    /// Adds a record in the form it has in a ring. Without room it is left out.
    pub fn push(&mut self, words: [u64; WORDS]) {
        if !self.has_room() {
            return;
        }
        let [time, head, first, second] = words;
        let [kind, _cpu, vm, vcpu, bytes @ ..] = head.to_le_bytes();
        self.bytes(&[kind, vm, vcpu]);
        self.bytes(&bytes);
        self.number(varint::fold(time.wrapping_sub(self.time)));
        self.number(first);
        self.number(second);
        self.time = time;
        self.records += 1;
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The frame as it goes over the console, between [`BEGIN`] and [`END`]; base64, in `text`.
    pub fn finish(mut self, text: &mut [u8; LONGEST_TEXT]) -> &[u8] {
        let crc = CRC.checksum(&self.bytes[..self.length]);
        self.bytes(&crc.to_le_bytes());
        let length = STANDARD_NO_PAD
            .encode_slice(&self.bytes[..self.length], text)
            // The room is for the largest frame.
            .unwrap_or(0);
        &text[..length]
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn number(&mut self, number: u64) {
        let written = varint::write(number, &mut self.bytes[self.length..]);
        self.length += written.unwrap_or(0);
    }
}

/// A frame that came whole: its header, and its records one after another.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    header: Header,
    time: u64,
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads what stood between [`BEGIN`] and [`END`], with `room` for what it decodes to; `None` if
    /// that is broken, or of another version.
    pub fn parse(text: &[u8], room: &'a mut [u8; LARGEST]) -> Option<Self> {
        let length = STANDARD_NO_PAD.decode_slice(text, room).ok()?;
        let bytes = room.get(..length)?;
        let (mut rest, crc) = bytes.split_last_chunk::<CRC_SIZE>()?;
        if CRC.checksum(rest) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (&[version, cpu], body) = rest.split_first_chunk()?;
        if version != VERSION {
            return None;
        }
        rest = body;
        let frequency = varint::read(&mut rest)?;
        let lost = varint::read(&mut rest)?;
        let time = varint::read(&mut rest)?;
        Some(Self {
            header: Header {
                cpu,
                frequency,
                lost,
            },
            time,
            rest,
        })
    }

    /// What the frame says of its CPU.
    pub fn header(&self) -> Header {
        self.header
    }
}

impl Iterator for Frame<'_> {
    type Item = Record;

    /// The next record. Those whose kind is not known are skipped.
    fn next(&mut self) -> Option<Record> {
        loop {
            let (&[kind, vm, vcpu, b0, b1, b2, b3], rest) = self.rest.split_first_chunk()?;
            self.rest = rest;
            let since = varint::read(&mut self.rest)?;
            let words = [varint::read(&mut self.rest)?, varint::read(&mut self.rest)?];
            self.time = self.time.wrapping_add(varint::unfold(since));
            let bytes = [b0, b1, b2, b3];
            let packed = Packed { kind, bytes, words };
            if let Some(record) = packed.record(self.time, self.header.cpu, vm, vcpu) {
                return Some(record);
            }
        }
    }
}
