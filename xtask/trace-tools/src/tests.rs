//! The tools on the recording of the example.

use trace::event::Reason;
use trace::frame::Header;
use trace::{Event, Stream};

use super::example::{RAM, at, recording, story};
use super::{Recording, Summary, show};

#[test]
fn a_recording_has_the_events_in_order() {
    let recording = recording();
    assert_eq!(recording.records.len(), story().len());
    assert!(recording.records.is_sorted_by_key(|r| r.stamp.time));
    assert_eq!((recording.broken, recording.lost.total()), (1, 10));
    let lost: Vec<u64> = recording
        .lost
        .by_cpu()
        .values()
        .map(|(_, lost)| *lost)
        .collect();
    assert_eq!(lost, [5, 5]);
    assert_eq!(recording.nanoseconds(1234), 1234);
}

#[test]
fn every_event_is_a_line() {
    let mut out = Vec::new();
    show::events(&recording(), &mut out).expect("memory");
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text.lines().count(), story().len());
    assert!(
        text.contains("write at 0x40000000, translation: resolved after 3 ns"),
        "{text}"
    );
    assert!(text.contains("abort of 0x40200000, level 2: hot"), "{text}");
}

#[test]
fn the_summary_has_percentiles_and_reasons() {
    let summary = Summary::of(&recording());
    let find = |name: &str| {
        let figure = summary.figures.iter().find(|figure| figure.name == name);
        figure.map(|figure| figure.value.as_str())
    };
    assert!(find("events lost").is_some_and(|value| value.starts_with("10, 0 %")));
    assert!(find("lost of cpu1").is_some_and(|value| value.starts_with("5, ")));
    let faults = "512 times, half within 6 ns, 90 % 9 ns, 99 % 9 ns, at most 9 ns";
    assert_eq!(find("translation, resolved"), Some(faults));
    assert_eq!(find("collapse given up: hot"), Some("1"));
    assert_eq!(find("vm0: split"), Some("1"));
    assert!(find("from the copy to the block").is_some_and(|v| v.contains("100 ns")));
    let sorted: Vec<u64> = (1..=100).collect();
    let at = |percent| super::summary::percentile(&sorted, percent);
    assert_eq!((at(50), at(99), at(100)), (50, 99, 100));
}

/// The summary's figure of this name.
fn figure(recording: &Recording, name: &str) -> Option<String> {
    let figures = Summary::of(recording).figures;
    let figure = figures.into_iter().find(|figure| figure.name == name);
    figure.map(|figure| figure.value)
}

#[test]
fn waits_and_refusals_are_summed_up() {
    let refused = |reason| Event::Refused {
        reason,
        level: 3,
        ipa: RAM,
    };
    let wait = |level, ticks| Event::LockWait {
        level,
        ipa: RAM,
        ticks,
    };
    let events = [
        wait(3, 5000),
        wait(3, 1000),
        wait(2, 700),
        Event::Grace { ticks: 40 },
        Event::Grace { ticks: 2_000_000 },
        refused(Reason::Busy),
        refused(Reason::Busy),
        refused(Reason::OutOfFrames),
    ];
    let record = |event| at(1, 0, event);
    let mut recording = Recording {
        records: events.map(record).into(),
        frequency: 1_000_000_000,
        ..Recording::default()
    };
    let value = |name: &str| figure(&recording, name).unwrap_or_default();
    assert_eq!(
        value("lock of a table of level 3"),
        "2 times, half within 1.0 us, 90 % 5.0 us, 99 % 5.0 us, at most 5.0 us"
    );
    assert!(value("lock of a table of level 2").starts_with("1 times, half within 700 ns"));
    assert_eq!(
        value("grace period"),
        "2 times, half within 40 ns, 90 % 2.0 ms, 99 % 2.0 ms, at most 2.0 ms"
    );
    assert_eq!(value("not mapped: busy"), "2");
    assert_eq!(value("not mapped: out of frames"), "1");
    assert_eq!(figure(&recording, "not mapped: occupied"), None);
    // Times are the counter's ticks.
    recording.frequency = 1_000_000;
    assert!(figure(&recording, "grace period").is_some_and(|value| value.contains("40.0 us")));
}

#[test]
fn what_is_lost_is_told_apart_by_what_lost_it() {
    let header = |cpu, first| Header {
        cpu,
        stream: Stream::Busy,
        frequency: 1,
        first,
    };
    let told = |torn: &[(u8, u64, usize)]| {
        let mut recording = Recording::default();
        for &(cpu, first, broken) in torn {
            recording.lost.add(&header(cpu, first), 10, broken);
            recording.broken = broken;
        }
        let value = |name: &str| figure(&recording, name).unwrap_or_default();
        (value("events lost"), value("broken frames"))
    };
    let (lost, broken) = told(&[(0, 0, 0), (0, 10, 0)]);
    assert_eq!((lost.as_str(), broken.as_str()), ("none", "none"));
    let (lost, _) = told(&[(0, 0, 0), (0, 30, 0)]);
    assert_eq!(
        lost,
        "20, 50 %: they came faster than the console takes them; trace fewer categories"
    );
    // The broken frame was this one's, or the other CPU's, which misses nothing.
    let (lost, broken) = told(&[(0, 0, 0), (1, 0, 0), (0, 30, 1), (1, 10, 1), (0, 40, 1)]);
    assert_eq!(lost, "20, 28 %: they were in the frames that broke");
    assert_eq!(
        broken,
        "1: something else wrote to the console, or it was cut"
    );
    let (lost, _) = told(&[(0, 5, 0), (0, 22, 1)]);
    assert_eq!(
        lost,
        "12, 37 %: 5 came faster than the console takes them; trace fewer categories; 7 were in the frames that broke"
    );
}
