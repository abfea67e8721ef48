//! Frames: some records of one CPU and stream, on their way over a console.
//!
//! On the console a frame is `ESC _ tessera;` base64 `ESC \`: an application program command
//! (ECMA-48), which terminals take in and do not show. Guests cannot forge one: the hypervisor's
//! console shows their control characters as escapes, so an ESC is its own. The base64, without
//! padding, holds
//! - a byte: the version, [`VERSION`], which changes with anything said here or in
//!   [`event`](crate::event), a new kind of event included;
//! - a byte: the CPU; a byte: the stream's code ([`Stream`]);
//! - the frequency of the counter in Hz;
//! - the number of the first record, among those of its CPU and stream since the start. Those
//!   behind have the numbers that follow, so what is missing between two frames was overwritten, or
//!   came in a frame that broke;
//! - the time of the first record;
//! - records;
//! - CRC-32 (ISO-HDLC) of all that, lowest byte first.
//!
//! A record is
//! - a byte: the event's kind, which is from 1 to 63, and bit 7 if VM and vCPU are not those of the
//!   record before;
//! - if so, a byte for each; [`NOBODY`](crate::event::NOBODY) is none, as before the first record;
//! - the event's codes, two a byte, the first in the lower half;
//! - the time since the record before;
//! - in the stream *replay*: the place in the order less that of the record before (0 before the
//!   first);
//! - the other words, each as [`compression`](crate::compression) says.
//!
//! Numbers that are no bytes are LEB128.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use crc::{CRC_32_ISO_HDLC, Crc, Table};

use crate::category::Stream;
use crate::compression::Memory;
use crate::event::{Record, Stamp, shape};
use crate::packed::{CODES, EVENT_WORDS, Packed, Shape};
use crate::record::{parts, record};
use crate::varint;

/// The version of the encoding, in every frame. A reader takes no other.
pub const VERSION: u8 = 4;

/// What a frame begins with on the console.
pub const BEGIN: &[u8] = b"\x1b_tessera;";

/// What a frame ends with on the console.
pub const END: &[u8] = b"\x1b\\";

/// Most bytes of a frame before base64.
pub const LARGEST: usize = 1440;

/// Most bytes of base64 of a frame.
pub const LONGEST_TEXT: usize = LARGEST.div_ceil(3) * 4;

/// Most bytes of a record.
const LARGEST_RECORD: usize = 3 + CODES / 2 + varint::LONGEST * (1 + EVENT_WORDS);

/// In the first byte of a record: VM and vCPU follow.
const WHO_FOLLOWS: u8 = 1 << 7;

const CRC_SIZE: usize = 4;

static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// What a frame says of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The CPU.
    pub cpu: u8,
    /// With which others they travel.
    pub stream: Stream,
    /// The counter's frequency, in Hz.
    pub frequency: u64,
    /// The number of the first record, among those of its CPU and stream.
    pub first: u64,
}

/// A frame that is being filled. It is large, and so can be used again.
pub struct Writer {
    bytes: [u8; LARGEST],
    length: usize,
    stream: Stream,
    memory: Memory,
    records: usize,
}

impl Writer {
    /// No frame yet: one has to be begun.
    #[allow(clippy::new_without_default)] // part of a static, made in place
    pub const fn new() -> Self {
        Self {
            bytes: [0; LARGEST],
            length: 0,
            stream: Stream::Busy,
            memory: Memory::new(),
            records: 0,
        }
    }

    /// Begins a frame, whose first record was written at `time`.
    pub fn begin(&mut self, header: Header, time: u64) {
        (self.length, self.records) = (0, 0);
        self.stream = header.stream;
        self.memory.begin(time);
        self.bytes(&[VERSION, header.cpu, header.stream as u8]);
        for number in [header.frequency, header.first, time] {
            self.number(number.into());
        }
    }

    /// Whether one more record fits.
    pub fn has_room(&self) -> bool {
        self.length + LARGEST_RECORD + CRC_SIZE <= LARGEST
    }

    /// Adds a record in the form it has in a ring. Without room, or if it is none, it is left out.
    pub fn push(&mut self, words: &[u64]) {
        let Some((stamp, event)) = parts(words) else {
            return;
        };
        let Some(shape) = shape(event.kind).filter(|_| self.has_room()) else {
            return;
        };
        let who = [stamp.vm, stamp.vcpu];
        if who == self.memory.who {
            self.bytes(&[event.kind]);
        } else {
            self.bytes(&[event.kind | WHO_FOLLOWS, stamp.vm, stamp.vcpu]);
            self.memory.who = who;
        }
        for pair in event.codes.chunks(2).take(shape.codes.div_ceil(2)) {
            let [low, high] = [pair[0], pair.get(1).copied().unwrap_or(0)];
            self.bytes(&[low & 0xf | high << 4]);
        }
        self.number(stamp.time.wrapping_sub(self.memory.time).into());
        self.memory.time = stamp.time;
        for (index, &word) in event.words.iter().enumerate().take(shape.words) {
            let number = if index == 0 && self.stream == Stream::Replay {
                let since = word.wrapping_sub(self.memory.order);
                self.memory.order = word;
                since.into()
            } else {
                self.memory.code(event.kind, index, word)
            };
            self.number(number);
        }
        self.records += 1;
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The frame as it goes over the console, between [`BEGIN`] and [`END`]; base64, in `text`.
    pub fn finish<'t>(&mut self, text: &'t mut [u8; LONGEST_TEXT]) -> &'t [u8] {
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

    fn number(&mut self, number: u128) {
        let written = varint::write(number, &mut self.bytes[self.length..]);
        self.length += written.unwrap_or(0);
    }
}

/// Why there is no frame in what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It was cut or changed on its way.
    Broken,
    /// It came whole, in this version of the encoding, which is not [`VERSION`].
    Version(u8),
}

/// The room that a frame needs while it is read.
pub struct Room {
    bytes: [u8; LARGEST],
    memory: Memory,
}

impl Room {
    /// Room for one frame at a time.
    #[allow(clippy::new_without_default)] // as above
    pub const fn new() -> Self {
        Self {
            bytes: [0; LARGEST],
            memory: Memory::new(),
        }
    }
}

/// A frame that came whole: its header, and its records one after another.
#[derive(Debug)]
pub struct Frame<'a> {
    header: Header,
    text_length: usize,
    memory: &'a mut Memory,
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads what stood between [`BEGIN`] and [`END`], with `room` for what it decodes to.
    ///
    /// # Errors
    ///
    /// If that is broken, or of another version.
    pub fn parse(text: &[u8], room: &'a mut Room) -> Result<Self, Unreadable> {
        let Room { bytes, memory } = room;
        let bytes = body(text, bytes).ok_or(Unreadable::Broken)?;
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                Self::read(text.len(), rest, memory).ok_or(Unreadable::Broken)
            }
            Some((&other, _)) => Err(Unreadable::Version(other)),
            None => Err(Unreadable::Broken),
        }
    }

    fn read(text_length: usize, body: &'a [u8], memory: &'a mut Memory) -> Option<Self> {
        let (&[cpu, stream], mut rest) = body.split_first_chunk()?;
        let mut number = || Some(varint::read(&mut rest)? as u64);
        let (frequency, first, time) = (number()?, number()?, number()?);
        memory.begin(time);
        Some(Self {
            header: Header {
                cpu,
                stream: Stream::from_code(stream)?,
                frequency,
                first,
            },
            text_length,
            memory,
            rest,
        })
    }

    /// How many bytes the frame takes on a console.
    pub fn size_on_console(&self) -> usize {
        BEGIN.len() + self.text_length + END.len()
    }

    /// What the frame says of its records.
    pub fn header(&self) -> Header {
        self.header
    }

    fn who(&mut self, who_follows: bool) -> Option<()> {
        if who_follows {
            let (&who, rest) = self.rest.split_first_chunk()?;
            (self.memory.who, self.rest) = (who, rest);
        }
        Some(())
    }

    fn codes(&mut self, shape: Shape) -> Option<[u8; CODES]> {
        let mut codes = [0; CODES];
        for pair in codes.chunks_mut(2).take(shape.codes.div_ceil(2)) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            pair[0] = byte & 0xf;
            if let Some(second) = pair.get_mut(1) {
                *second = byte >> 4;
            }
        }
        Some(codes)
    }

    fn word(&mut self, kind: u8, index: usize) -> Option<u64> {
        let number = varint::read(&mut self.rest)?;
        if index == 0 && self.header.stream == Stream::Replay {
            self.memory.order = self.memory.order.wrapping_add(number as u64);
            return Some(self.memory.order);
        }
        Some(self.memory.word(kind, index, number))
    }
}

/// All of a frame but its CRC, which was right.
fn body<'a>(text: &[u8], room: &'a mut [u8; LARGEST]) -> Option<&'a [u8]> {
    let length = STANDARD_NO_PAD.decode_slice(text, room).ok()?;
    let (body, crc) = room.get(..length)?.split_last_chunk::<CRC_SIZE>()?;
    (CRC.checksum(body) == u32::from_le_bytes(*crc)).then_some(body)
}

impl Iterator for Frame<'_> {
    type Item = Record;

    /// The next record. A kind that is not known ends the frame.
    fn next(&mut self) -> Option<Record> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        let kind = first & !WHO_FOLLOWS;
        let shape = shape(kind)?;
        self.who(first & WHO_FOLLOWS != 0)?;
        let codes = self.codes(shape)?;
        let since = varint::read(&mut self.rest)? as u64;
        self.memory.time = self.memory.time.wrapping_add(since);
        let mut words = [0; EVENT_WORDS];
        for (index, word) in words.iter_mut().enumerate().take(shape.words) {
            *word = self.word(kind, index)?;
        }
        let [vm, vcpu] = self.memory.who;
        let stamp = Stamp {
            time: self.memory.time,
            cpu: self.header.cpu,
            vm,
            vcpu,
        };
        record(stamp, &Packed { kind, codes, words })
    }
}
