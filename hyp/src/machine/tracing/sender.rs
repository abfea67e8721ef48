//! The thread that takes events out of the rings and sends them over the console in frames.
//!
//! Readers of the rings share one lock, below which the console's is taken; it is never held across a
//! thread switch. A CPU whose ring for a checker is full sends what is in it with whatever table locks it
//! holds, so the readers' lock and the console's come after every table lock, and nothing of the table
//! manager is called under them.

use platform::board::MAX_CPUS;
use platform::timer;
use spin::Mutex;
use trace::event::NOBODY;
use trace::frame::{Header, LONGEST_TEXT, Writer};
use trace::ring::{Cursor, Ring};
use trace::{Category, Event, Stream};

use super::rings::{RINGS, write};
use super::wants;
use crate::machine::machine;
use crate::{console, sched};

/// More frames than a ring has records for.
const FRAMES_OF_A_RING: usize = 2048;
/// How long the thread sleeps when there is nothing to send, in milliseconds.
const PERIOD_MS: u64 = 2;
/// How many frames the thread sends between two looks at what memory is left.
const FRAMES_BETWEEN_LOOKS: usize = 64;

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

/// The thread: sends what there is, and sleeps.
pub(super) extern "C" fn run(_: usize) {
    loop {
        note_frames();
        let mut sent = 0;
        while sent < FRAMES_BETWEEN_LOOKS {
            let now = send_round();
            if now == 0 {
                sched::sleep_until(timer::now() + timer::frequency() * PERIOD_MS / 1000);
                break;
            }
            sent += now;
            sched::cond_resched();
        }
    }
}

/// Sends all that is rare, then a frame of each other ring; returns how many frames. For the thread, which waits before
/// each frame until the console has sent the one before, so that frames never fill the console's queue.
fn send_round() -> usize {
    let mut sent = 0;
    for cpu in 0..MAX_CPUS {
        sent += send_all(cpu, Stream::Rare, wait_for_room);
    }
    for cpu in 0..MAX_CPUS {
        for stream in [Stream::Replay, Stream::Busy] {
            wait_for_room();
            sent += usize::from(send(cpu, stream));
        }
    }
    sent
}

/// Waits until the console has sent the last frame, with nothing locked.
fn wait_for_room() {
    while !console::has_room_for_frames() {
        console::pause();
    }
}

/// Sends what is in a ring, and calls `before` in front of each frame. Other CPUs may go on writing, so this is
/// bounded: a frame takes many records, so this many frames empty a ring that is full.
fn send_all(cpu: usize, stream: Stream, before: impl Fn()) -> usize {
    (0..FRAMES_OF_A_RING)
        .take_while(|_| {
            before();
            send(cpu, stream)
        })
        .count()
}

fn note_frames() {
    if wants(Category::Map) {
        let usage = machine().allocator().usage();
        let free = (usage.free + usage.cached) as u64;
        let total = usage.total as u64;
        write(NOBODY, Event::Frames { free, total });
    }
}

/// Sends what is in the rings, as a machine ends.
pub(in crate::machine) fn drain() {
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
