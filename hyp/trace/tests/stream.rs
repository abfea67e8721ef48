//! Records come back as they were, whatever the console does to the bytes between.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use proptest::prelude::*;
use trace::event::{
    Access, Barrier, Cause, Exit, Holder, Operation, Outcome, REPLAY_WORDS, Reach, Reason,
    Register, Step, Store, Taking, Tlbi, WORDS,
};
use trace::frame::{BEGIN, END, Header, LONGEST_TEXT, Unreadable, VERSION, Writer};
use trace::stream::{Piece, Splitter};
use trace::{Categories, Category, Event, Record, Stamp, Stream};

const HEADER: Header = Header {
    cpu: 3,
    stream: Stream::Busy,
    frequency: 62_500_000,
    first: 7,
};

/// Every event there is, with codes and words made of `seed` and `words`.
fn events(seed: u8, words: [u64; 4]) -> Vec<Event> {
    [ordinary(seed, words), replayed(seed, words)].concat()
}

fn replayed(seed: u8, [order, b, c, d]: [u64; 4]) -> Vec<Event> {
    let level = seed % 4;
    vec![
        Event::Written {
            store: pick(Store::ALL, seed),
            order,
            entry: b,
            old: c,
            new: d,
        },
        Event::Barrier {
            barrier: pick(Barrier::ALL, seed),
            order,
        },
        Event::TlbiDone {
            tlbi: pick(Tlbi::ALL, seed),
            order,
            operand: b,
            vttbr: c,
        },
        Event::RegisterSet {
            register: pick(Register::ALL, seed),
            order,
            value: b,
        },
        Event::Locked {
            taking: pick(Taking::ALL, seed),
            level,
            claimed: seed & 1,
            order,
            table: b,
            section: c,
        },
        Event::Unlocked { order, table: b },
        Event::TableMade {
            level,
            order,
            table: b,
        },
        Event::RootMade {
            level,
            order,
            table: b,
            ipa: c,
        },
        Event::TableEnded { order, table: b },
        Event::Allowed {
            bbm: level,
            dic: seed & 1,
            order,
        },
        Event::GraceBegun { order, number: b },
        Event::GraceEnded { order, number: b },
        Event::FetchesInvalidated { order },
        Event::Held {
            holder: pick(Holder::ALL, seed),
            order,
            start: b,
            end: c,
        },
        Event::RamMade {
            order,
            ipa: b,
            end: c,
        },
        Event::TreeEnded { order },
    ]
}

fn pick<T: Copy>(all: &[T], seed: u8) -> T {
    all[usize::from(seed) % all.len()]
}

fn ordinary(seed: u8, [a, b, ..]: [u64; 4]) -> Vec<Event> {
    let level = seed % 4;
    let reason = pick(Reason::ALL, seed);
    vec![
        Event::Fault {
            access: pick(Access::ALL, seed),
            cause: pick(Cause::ALL, seed),
            outcome: pick(Outcome::ALL, seed),
            ipa: a,
            ticks: b,
        },
        Event::Refused {
            reason,
            level,
            ipa: a,
        },
        Event::Retry { level, ipa: a },
        Event::LockWait {
            level,
            ipa: a,
            ticks: b,
        },
        Event::Map {
            level,
            ipa: a,
            pa: b,
        },
        Event::Unmap {
            level,
            ipa: a,
            end: b,
        },
        Event::Split { level, ipa: a },
        Event::Collapse {
            step: pick(Step::ALL, seed),
            reason,
            level,
            ipa: a,
        },
        Event::Migrate { ipa: a, to: b },
        Event::Marker {
            operation: pick(Operation::ALL, seed),
            level,
            ipa: a,
        },
        Event::Detached { level, ipa: a },
        Event::Grace { ticks: a },
        Event::Freed { pa: a },
        Event::Tlbi {
            reach: pick(Reach::ALL, seed),
            level,
            ipa: a,
            end: b,
        },
        Event::Exit {
            exit: pick(Exit::ALL, seed),
            esr: a,
            pc: b,
        },
        Event::Enter {},
        Event::Switch { from: a, to: b },
        Event::Log {
            level,
            module: a,
            length: b,
        },
        Event::Ram { ipa: a, end: b },
        Event::Frames { free: a, total: b },
    ]
}

/// A number as events have them: small, an address near others, or any.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..64u64,
        (0..4096u64).prop_map(|page| 0x4000_0000 + page * 4096),
        (0..4096u64).prop_map(|page| 0x8000_07ff + page * 4096),
        any::<u64>(),
    ]
}

fn record_of(stream: Stream) -> impl Strategy<Value = Record> {
    let words = [word(), word(), word(), word()];
    (word(), words, any::<[u8; 2]>(), [0..3u8, 0..3u8]).prop_map(
        move |(time, words, [seed, which], [vm, vcpu])| {
            let replay = |event: &Event| event.stream() == Stream::Replay;
            let mut all = events(seed, words);
            all.retain(|event| replay(event) == (stream == Stream::Replay));
            Record {
                stamp: Stamp {
                    time,
                    cpu: HEADER.cpu,
                    vm,
                    vcpu,
                },
                event: pick(&all, which),
            }
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    record_of(Stream::Busy)
}

/// As many of `records` as fit, as a frame on the console.
fn frame(records: &[Record]) -> (Vec<u8>, usize) {
    frame_of(Stream::Busy, records)
}

fn frame_of(stream: Stream, records: &[Record]) -> (Vec<u8>, usize) {
    let first = records.first().map_or(0, |first| first.stamp.time);
    let mut writer = Writer::new();
    writer.begin(Header { stream, ..HEADER }, first);
    for record in records {
        writer.push(&record.to_words::<REPLAY_WORDS>());
    }
    let count = writer.records();
    let mut text = [0; LONGEST_TEXT];
    let body = writer.finish(&mut text);
    ([BEGIN, body, END].concat(), count)
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    text: Vec<u8>,
    records: Vec<Record>,
    unreadable: Vec<Unreadable>,
}

fn read(bytes: &[u8]) -> Read {
    let (mut splitter, mut read) = (Splitter::new(), Read::default());
    let mut sink = |piece: Piece<'_>| match piece {
        Piece::Text(byte) => read.text.push(byte),
        Piece::Frame(frame) => {
            let stream = frame.header().stream;
            assert_eq!(frame.header(), Header { stream, ..HEADER });
            read.records.extend(frame);
        }
        Piece::Unreadable(reason) => read.unreadable.push(reason),
    };
    bytes
        .iter()
        .for_each(|&byte| splitter.feed(byte, &mut sink));
    splitter.finish(&mut sink);
    read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn a_record_survives_its_words(one in record(), other in record_of(Stream::Replay)) {
        prop_assert_eq!(Record::from_words(&one.to_words::<WORDS>()), Some(one));
        prop_assert_eq!(Record::from_words(&other.to_words::<REPLAY_WORDS>()), Some(other));
    }

    #[test]
    fn events_for_replay_come_back(
        records in prop::collection::vec(record_of(Stream::Replay), 0..80),
    ) {
        let (bytes, count) = frame_of(Stream::Replay, &records);
        prop_assert_eq!(read(&bytes).records, &records[..count]);
    }

    #[test]
    fn records_and_text_come_back(
        records in prop::collection::vec(record(), 0..80),
        before in "[ -~\n]{0,40}",
        after in "[ -~\n]{0,40}",
    ) {
        let (bytes, count) = frame(&records);
        let read = read(&[before.as_bytes(), &bytes, after.as_bytes()].concat());
        prop_assert_eq!(read.records, &records[..count]);
        prop_assert_eq!(read.text, [before, after].concat().into_bytes());
        prop_assert_eq!(read.unreadable, []);
    }

    #[test]
    fn a_cut_frame_loses_only_itself(
        records in prop::collection::vec(record(), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, count) = frame(&records);
        let cut = cut.index(bytes.len() - 1) + 1;
        // Another CPU took the console away in the middle, and then all went on.
        let read = read(&[&bytes[..cut], b"\ntessera: PANIC\n", &bytes].concat());
        prop_assert!(read.text.ends_with(b"\ntessera: PANIC\n") || cut == bytes.len());
        prop_assert_eq!(read.records, &records[..count]);
    }

    #[test]
    fn a_changed_byte_is_noticed(
        records in prop::collection::vec(record(), 1..20),
        at in any::<prop::sample::Index>(),
        change in 1..=255u8,
    ) {
        let (bytes, count) = frame(&records);
        let mut broken = bytes.clone();
        broken[at.index(bytes.len())] ^= change;
        let read = read(&[broken, b"\n".to_vec(), bytes].concat());
        prop_assert_eq!(read.records, &records[..count]);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let read = read(&bytes);
        prop_assert!(read.records.is_empty());
        prop_assert!(read.text.len() <= bytes.len());
    }

    #[test]
    fn any_body_is_survived(bytes in "[A-Za-z0-9+/\x1b]{0,1200}") {
        let read = read(&[BEGIN, bytes.as_bytes(), END, b"after"].concat());
        prop_assert!(read.records.is_empty() && !read.unreadable.is_empty());
        prop_assert!(read.text.ends_with(b"after"));
    }

    #[test]
    fn any_words_are_survived(words in prop::collection::vec(any::<u64>(), 0..8)) {
        if let Some(record) = Record::from_words(&words) {
            let again = record.to_words::<REPLAY_WORDS>();
            prop_assert_eq!(Record::from_words(&again), Some(record));
        }
    }

    #[test]
    fn any_records_are_survived(
        body in prop::collection::vec(any::<u8>(), 0..700),
        kind in 0..31u8,
    ) {
        let stream = if kind % 2 == 0 { Stream::Replay } else { Stream::Rare };
        let start = [VERSION, 0, stream as u8, 1, 1, 1, kind];
        let read = read_any(&sealed(&[&start[..], &body].concat()));
        prop_assert!(read.unreadable.is_empty());
    }

    #[test]
    fn a_frame_cut_by_another_loses_only_itself(
        records in prop::collection::vec(record(), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, count) = frame(&records);
        let cut = cut.index(bytes.len() - 1) + 1;
        let read = read(&[&bytes[..cut], &bytes].concat());
        prop_assert_eq!(read.records, &records[..count]);
    }
}

/// A frame on the console of which this is all but the CRC.
fn sealed(body: &[u8]) -> Vec<u8> {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(body);
    let bytes = [body, &crc.to_le_bytes()].concat();
    let mut text = [0; LONGEST_TEXT];
    let length = STANDARD_NO_PAD.encode_slice(bytes, &mut text);
    [BEGIN, &text[..length.expect("room")], END].concat()
}

/// As [`read`], whatever the frames' headers say.
fn read_any(bytes: &[u8]) -> Read {
    let (mut splitter, mut read) = (Splitter::new(), Read::default());
    for &byte in bytes {
        splitter.feed(byte, |piece| match piece {
            Piece::Text(byte) => read.text.push(byte),
            Piece::Frame(frame) => read.records.extend(frame),
            Piece::Unreadable(reason) => read.unreadable.push(reason),
        });
    }
    read
}

#[test]
fn a_frame_of_another_version_says_so() {
    let read = read_any(&sealed(&[VERSION + 1, 0, 0, 0]));
    assert_eq!(read.unreadable, [Unreadable::Version(VERSION + 1)]);
}

#[test]
fn what_repeats_takes_few_bytes() {
    let record = |n: u64| Record {
        stamp: Stamp {
            time: 1000 + n * 50,
            cpu: 0,
            vm: 0,
            vcpu: 1,
        },
        event: Event::Map {
            level: 3,
            ipa: 0x4000_0000 + n * 4096,
            pa: 0x9000_0000 + n * 4096,
        },
    };
    let records: Vec<_> = (0..100).map(record).collect();
    let (bytes, count) = frame(&records);
    assert!(count == 100 && bytes.len() < 100 * 8, "{}", bytes.len());
}

#[test]
fn a_frame_has_no_control_characters_but_its_own() {
    let (bytes, _) = frame(&[]);
    let body = &bytes[BEGIN.len()..bytes.len() - END.len()];
    assert!(body.iter().all(u8::is_ascii_graphic));
}

#[test]
fn categories_have_names() {
    for &category in Category::ALL {
        let set = Categories::parse(category.text()).expect("a name");
        assert_eq!(set, Categories::NONE.with(category));
    }
    assert_eq!(Categories::parse("all"), Some(Categories::ALL));
    assert!(!Categories::ALL.has(Category::Replay));
    assert_eq!(Categories::parse("all,replay"), Some(Categories::EVERY));
    assert!(Categories::ALL.has(Category::Log) && Categories::NONE.is_empty());
    assert_eq!(Categories::parse(""), None);
    assert!(
        events(0, [0; 4])
            .iter()
            .any(|event| event.category() == Category::Race)
    );
}
