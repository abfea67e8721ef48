//! Records come back as they were, whatever the console does to the bytes between.

use proptest::prelude::*;
use trace::event::{Access, Cause, Exit, Outcome, Reach, Reason, Step, WORDS, Work};
use trace::frame::{BEGIN, END, Header, LONGEST_TEXT, Writer};
use trace::stream::{Piece, Splitter};
use trace::{Categories, Category, Event, Record, Stamp};

const HEADER: Header = Header {
    cpu: 3,
    frequency: 62_500_000,
    lost: 7,
};

/// Every event there is, with bytes and words made of `seed` and `words`.
fn events(seed: u8, [a, b]: [u64; 2]) -> Vec<Event> {
    fn pick<T: Copy>(all: &[T], seed: u8) -> T {
        all[usize::from(seed) % all.len()]
    }
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
        Event::Move { ipa: a, to: b },
        Event::Marker {
            work: pick(Work::ALL, seed),
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

fn record() -> impl Strategy<Value = Record> {
    (any::<[u64; 3]>(), any::<[u8; 4]>()).prop_map(|([time, a, b], [seed, which, vm, vcpu])| {
        let all = events(seed, [a, b]);
        Record {
            stamp: Stamp {
                time,
                cpu: HEADER.cpu,
                vm,
                vcpu,
            },
            event: all[usize::from(which) % all.len()],
        }
    })
}

/// As many of `records` as fit, as a frame on the console.
fn frame(records: &[Record]) -> (Vec<u8>, usize) {
    let mut writer = Writer::new(HEADER, records.first().map_or(0, |first| first.stamp.time));
    for record in records {
        writer.push(record.to_words());
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
    broken: usize,
}

fn read(bytes: &[u8]) -> Read {
    let (mut splitter, mut read) = (Splitter::new(), Read::default());
    let mut sink = |piece: Piece<'_>| match piece {
        Piece::Text(byte) => read.text.push(byte),
        Piece::Frame(frame) => {
            assert_eq!(frame.header(), HEADER);
            read.records.extend(frame);
        }
        Piece::Broken => read.broken += 1,
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
    fn a_record_survives_its_words(record in record()) {
        prop_assert_eq!(Record::from_words(record.to_words()), Some(record));
    }

    #[test]
    fn records_and_text_come_back(
        records in prop::collection::vec(record(), 0..40),
        before in "[ -~\n]{0,40}",
        after in "[ -~\n]{0,40}",
    ) {
        let (bytes, count) = frame(&records);
        let read = read(&[before.as_bytes(), &bytes, after.as_bytes()].concat());
        prop_assert_eq!(read.records, &records[..count]);
        prop_assert_eq!(read.text, [before, after].concat().into_bytes());
        prop_assert_eq!(read.broken, 0);
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
        prop_assert!(read.records.is_empty() && read.broken > 0);
        prop_assert!(read.text.ends_with(b"after"));
    }

    #[test]
    fn any_words_are_survived(words in any::<[u64; WORDS]>()) {
        if let Some(record) = Record::from_words(words) {
            prop_assert_eq!(Record::from_words(record.to_words()), Some(record));
        }
    }
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
    assert!(Categories::ALL.has(Category::Log) && Categories::NONE.is_empty());
    assert_eq!(Categories::parse(""), None);
    assert!(
        events(0, [0; 2])
            .iter()
            .any(|event| event.category() == Category::Race)
    );
}
