//! An example on which tools are tested, recorded nowhere: a guest that faults, a collapse, a
//! split.

use trace::event::{Access, Cause, NOBODY, Operation, Outcome, Reason, Step, WORDS};
use trace::frame::{BEGIN, END, Header, LONGEST_TEXT, Writer};
use trace::{Event, Record, Stamp, Stream};

use crate::Recording;

/// Where the guest's memory begins.
pub(crate) const RAM: u64 = 0x4000_0000;
const BLOCK: u64 = 2 << 20;

/// An event of a vCPU, at this time.
pub(crate) fn at(time: u64, vcpu: u8, event: Event) -> Record {
    let vm = if matches!(event, Event::Frames { .. }) {
        NOBODY
    } else {
        0
    };
    let stamp = Stamp {
        time,
        cpu: vcpu & 1,
        vm,
        vcpu,
    };
    Record { stamp, event }
}

/// A step of a collapse of the block at `ipa`.
pub fn collapse(step: Step, ipa: u64) -> Event {
    Event::Collapse {
        step,
        reason: Reason::Hot,
        level: 2,
        ipa,
    }
}

/// What happens.
pub fn story() -> Vec<Record> {
    let mut records = vec![at(
        1000,
        0,
        Event::Ram {
            ipa: RAM,
            end: RAM + 4 * BLOCK,
        },
    )];
    for page in 0..512 {
        let (ipa, pa) = (RAM + page * 4096, 0x8000_0000 + page * 4096);
        let level = 3;
        records.push(at(2000 + page * 10, 0, Event::Map { level, ipa, pa }));
        let fault = Event::Fault {
            access: Access::Write,
            cause: Cause::Translation,
            outcome: Outcome::Resume,
            ipa,
            ticks: 3 + page % 7,
        };
        records.push(at(2005 + page * 10, 0, fault));
    }
    let marker = Event::Marker {
        operation: Operation::Collapse,
        level: 2,
        ipa: RAM,
    };
    let free = Event::Frames {
        free: 7,
        total: 100,
    };
    records.extend([
        at(8000, NOBODY, collapse(Step::Begin, RAM)),
        at(8100, NOBODY, collapse(Step::Copy, RAM)),
        at(8150, 1, marker),
        at(8200, NOBODY, collapse(Step::Commit, RAM)),
        at(8300, NOBODY, free),
        at(9000, NOBODY, collapse(Step::Begin, RAM + BLOCK)),
        at(9100, NOBODY, collapse(Step::Abort, RAM + BLOCK)),
        at(9500, 1, Event::Split { level: 2, ipa: RAM }),
        at(9900, 0, Event::Enter {}),
    ]);
    records
}

/// A console with these events, some text, and a frame that was cut.
pub fn console(records: &[Record]) -> Vec<u8> {
    let mut bytes = b"[   0.000001] cpu0 INFO  boot: Tessera\n".to_vec();
    let mut frame = Writer::new();
    for cpu in 0..2 {
        // Of each CPU the first five are lost.
        let mut number = 5;
        let mut own = records.iter().filter(|r| r.stamp.cpu == cpu).peekable();
        while let Some(first) = own.peek() {
            let header = Header {
                cpu,
                stream: Stream::Busy,
                frequency: 1_000_000_000,
                first: number,
            };
            frame.begin(header, first.stamp.time);
            while frame.has_room()
                && let Some(record) = own.next()
            {
                frame.push(&record.to_words::<WORDS>());
            }
            number += frame.records() as u64;
            let mut text = [0; LONGEST_TEXT];
            let body = frame.finish(&mut text);
            bytes.extend([BEGIN, body, END, b"vm0| hello\n"].concat());
        }
    }
    bytes.extend([BEGIN, b"AQAB\ntessera: off\n"].concat());
    bytes
}

/// The story, recorded.
pub fn recording() -> Recording {
    Recording::parse(&console(&story()))
}
