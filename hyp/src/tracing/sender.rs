//! Taking events out of the rings and sending them over the console in frames.
//!
//! Readers of the rings share one lock, below which the console's is taken; it is never held across
//! a thread switch. A CPU whose ring for a checker is full sends what is in it with whatever table
//! locks it holds, so the readers' lock and the console's come after every table lock, and nothing
//! of the table manager is called under them.

use platform::board::MAX_CPUS;
use platform::timer;
use spin::Mutex;
use trace::Stream;
use trace::frame::{Header, LONGEST_TEXT, Writer};
use trace::ring::{Cursor, Ring};

use super::rings::RINGS;
use crate::console;

/// More frames than a ring has records for.
const FRAMES_OF_A_RING: usize = 2048;

/// What reading the rings takes. It is too large for a stack on which much may be.
struct Reader {
    /// How far each ring was read: of each CPU, by stream.
    cursors: [[Cursor; Stream::ALL.len()]; MAX_CPUS],
    frame: Writer,
    text: [u8; LONGEST_TEXT],
}

static READER: Mutex<Reader> = Mutex::new(Reader {
    cursors: [[Cursor::new(); Stream::ALL.len()]; MAX_CPUS],
    frame: Writer::new(),
    text: [0; LONGEST_TEXT],
});

/// Sends all that is rare, then a frame of each other ring; returns how many frames. Calls `wait`
/// before each, which returns when the console has sent the one before, with nothing locked: so
/// frames never fill the console's queue.
pub(crate) fn send_round(wait: impl Fn()) -> usize {
    let mut sent = 0;
    for cpu in 0..MAX_CPUS {
        sent += send_all(cpu, Stream::Rare, &wait);
    }
    for cpu in 0..MAX_CPUS {
        for stream in [Stream::Replay, Stream::Busy] {
            wait();
            sent += usize::from(send(cpu, stream));
        }
    }
    sent
}

/// Sends what is in a ring, and calls `before` in front of each frame. Other CPUs may go on
/// writing, so this is bounded: a frame takes many records, so this many frames empty a ring that
/// is full.
fn send_all(cpu: usize, stream: Stream, before: impl Fn()) -> usize {
    (0..FRAMES_OF_A_RING)
        .take_while(|_| {
            before();
            send(cpu, stream)
        })
        .count()
}

/// Sends what is in the rings, as a machine ends.
pub(crate) fn drain() {
    for cpu in 0..MAX_CPUS {
        for &stream in Stream::ALL {
            send_all(cpu, stream, || ());
        }
    }
}

/// Sends a frame of what is in a ring of CPU `cpu`; says whether there was anything to send.
pub(super) fn send(cpu: usize, stream: Stream) -> bool {
    let (rings, mut reader) = (&RINGS[cpu], READER.lock());
    match stream {
        Stream::Busy => reader.send(rings.busy.get(), cpu, stream),
        Stream::Rare => reader.send(rings.rare.get(), cpu, stream),
        Stream::Replay => reader.send(rings.replay.get(), cpu, stream),
    }
}

impl Reader {
    fn send<const N: usize>(
        &mut self,
        ring: Option<&Ring<'static, N>>,
        cpu: usize,
        stream: Stream,
    ) -> bool {
        let Some(ring) = ring else { return false };
        let cursor = &mut self.cursors[cpu][stream as usize];
        let Some((first, words)) = ring.read(cursor) else {
            return false;
        };
        let header = Header {
            cpu: cpu as u8,
            stream,
            frequency: timer::frequency(),
            first,
        };
        self.frame.begin(header, words[0]);
        self.frame.push(&words);
        // What was overwritten meanwhile makes a gap, behind which a new frame begins.
        while self.frame.has_room()
            && let Some(words) = ring.read_on(cursor)
        {
            self.frame.push(&words);
        }
        console::frame(self.frame.finish(&mut self.text));
        true
    }
}
