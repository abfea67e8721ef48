//! The JSON, by the rules of the trace event format.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trace::Stamp;
use trace::event::{Access, Cause, Exit, NOBODY, Outcome, Step};

use super::*;
use crate::example::{collapse, recording};

const RAM: u64 = 0x4000_0000;

fn events(recording: &Recording) -> Vec<Value> {
    let json = json(recording);
    json["traceEvents"].as_array().expect("events").clone()
}

fn with(events: &[Value], key: &str, value: &str) -> usize {
    events.iter().filter(|event| event[key] == value).count()
}

/// What an event's track is.
fn track_of(event: &Value) -> Track {
    let number = |key: &str| {
        let number = event[key].as_u64().expect("a track");
        u32::try_from(number).expect("a small one")
    };
    (number("pid"), number("tid"))
}

fn time(event: &Value) -> f64 {
    event["ts"].as_f64().expect("a time")
}

/// Checks all rules.
fn assert_valid(events: &[Value]) {
    let names = events.iter().filter(|event| event["name"] == "thread_name");
    let named: BTreeSet<_> = names.map(track_of).collect();
    let numbers: BTreeSet<_> = named.iter().map(|(_, number)| number).collect();
    assert_eq!(numbers.len(), named.len(), "{named:?}");
    assert!(!numbers.contains(&0), "{named:?}");
    let mut last = 0.0;
    let mut slices: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
    let mut pairs: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
    for event in events {
        let phase = event["ph"].as_str().expect("a phase");
        assert!(
            event["name"].as_str().is_some_and(|name| !name.is_empty()),
            "{event}"
        );
        if phase == "M" {
            let args = &event["args"];
            assert!(
                args["name"].is_string() || args["labels"].is_string(),
                "{event}"
            );
            continue;
        }
        assert!(time(event) >= last, "{event} before {last}");
        last = time(event);
        match phase {
            "C" => {
                let args = event["args"].as_object().expect("values");
                assert!(
                    args.values().all(Value::is_number) && !args.is_empty(),
                    "{event}"
                );
                continue;
            }
            "X" => {
                let end = time(event) + event["dur"].as_f64().expect("a duration");
                let nanoseconds = [time(event), end].map(|time| (time * 1e3).round() as u64);
                slices
                    .entry(track_of(event))
                    .or_default()
                    .push(nanoseconds.into());
            }
            "i" => assert_eq!(event["s"], "t"),
            "s" | "f" | "b" | "e" => {
                let key = (
                    event["cat"].as_str(),
                    event["id"].as_u64().expect("a number"),
                );
                pairs.entry(key).or_default().push(event);
            }
            other => panic!("{other} is not made"),
        }
        assert!(
            named.contains(&track_of(event)),
            "a track without a name: {event}"
        );
    }
    for slices in slices.values() {
        assert_nested(slices);
    }
    for pair in pairs.values() {
        let [begin, end] = pair[..] else {
            panic!("no pair: {pair:?}")
        };
        assert_eq!(begin["name"], end["name"]);
        match (begin["ph"].as_str(), end["ph"].as_str()) {
            (Some("b"), Some("e")) => assert_eq!(track_of(begin), track_of(end)),
            (Some("s"), Some("f")) => [begin, end].iter().for_each(|event| {
                let at = (time(event) * 1e3).round() as u64;
                let around = |&&(from, to): &&(u64, u64)| from <= at && at <= to;
                let slices = slices.get(&track_of(event)).into_iter().flatten();
                assert!(
                    slices.filter(|s| around(s)).count() > 0,
                    "an arrow from nowhere: {event}"
                );
            }),
            other => panic!("{other:?} are no pair"),
        }
    }
}

/// Checks that of two slices of a track one is in the other, or behind it. They come by their
/// beginning.
fn assert_nested(slices: &[(u64, u64)]) {
    let mut open: Vec<u64> = Vec::new();
    for &(from, to) in slices {
        while open.last().is_some_and(|end| *end <= from) {
            open.pop();
        }
        let outer = open.last().copied().unwrap_or(u64::MAX);
        assert!(to <= outer, "{from} to {to} sticks out of {outer}");
        open.push(to);
    }
}

fn at(time: u64, who: (u8, u8), cpu: u8, event: Event) -> Record {
    let (vm, vcpu) = who;
    Record {
        stamp: Stamp {
            time,
            cpu,
            vm,
            vcpu,
        },
        event,
    }
}

/// Compaction on one CPU, which a vCPU on another has to wait for.
fn race() -> Recording {
    let (nobody, compaction, vcpu) = ((NOBODY, NOBODY), (0, NOBODY), (0, 1));
    let switch = |from, to| Event::Switch { from, to };
    let fault = Event::Fault {
        access: Access::Write,
        cause: Cause::Translation,
        outcome: Outcome::Busy,
        ipa: RAM + 4096,
        ticks: 400,
    };
    let marker = Event::Marker {
        operation: Operation::Collapse,
        level: 2,
        ipa: RAM,
    };
    let records = vec![
        at(1000, nobody, 0, switch(0, 9)),
        at(1010, vcpu, 1, switch(1, 12)),
        at(1100, compaction, 0, collapse(Step::Begin, RAM)),
        at(1500, vcpu, 1, marker),
        at(1600, compaction, 0, collapse(Step::Commit, RAM)),
        at(1700, vcpu, 1, fault),
        // A marker that is met in no fault, and one of a collapse that has no end, are not drawn.
        at(1750, compaction, 0, collapse(Step::Begin, RAM + REGION)),
        at(1800, vcpu, 1, marker),
        at(2000, nobody, 0, switch(9, 0)),
        at(2500, nobody, 0, switch(0, 9)),
        at(2600, nobody, 0, Event::Grace { ticks: 900 }),
        at(2900, nobody, 0, switch(9, 0)),
        at(3000, nobody, 1, switch(12, 1)),
    ];
    Recording {
        records,
        frequency: 1_000_000_000,
        ..Recording::default()
    }
}

#[test]
fn a_story_has_tracks_slices_counters_and_instants() {
    let events = events(&recording());
    assert_valid(&events);
    assert_eq!(with(&events, "name", "collapse"), 1);
    assert_eq!(with(&events, "name", "collapse given up"), 1);
    assert_eq!(with(&events, "name", "write fault: resolved"), 512);
    assert_eq!(with(&events, "name", "free frames"), 1);
    assert!(with(&events, "name", "vm0 mapped, KiB") > 2);
}

#[test]
fn arrows_lead_from_a_collapse_to_the_fault_that_met_it() {
    let events = events(&race());
    assert_valid(&events);
    let one = |phase: &str| {
        let mut found = events.iter().filter(|event| event["ph"] == phase);
        let event = found.next().expect("one");
        assert_eq!(found.count(), 0);
        (track_of(event), time(event))
    };
    assert_eq!(one("s"), (tables_track(0), 0.1));
    assert_eq!(one("f"), (vcpu_track(0, 1), 0.5));
}

/// Its time counts from before the exit is stamped.
#[test]
fn a_fault_begins_when_the_guest_has_left() {
    let vcpu = (0, 1);
    let exit = Event::Exit {
        exit: Exit::Abort,
        esr: 0,
        pc: 0,
    };
    let fault = Event::Fault {
        access: Access::Read,
        cause: Cause::Translation,
        outcome: Outcome::Resume,
        ipa: RAM,
        ticks: 303,
    };
    let recording = Recording {
        records: vec![
            at(1000, vcpu, 0, Event::Enter {}),
            at(2007, vcpu, 0, exit),
            at(2309, vcpu, 0, fault),
        ],
        frequency: 1_000_000_000,
        ..Recording::default()
    };
    let whole = events(&recording);
    assert_valid(&whole);
    assert_eq!(with(&whole, "name", "guest"), 1);
    // Without that exit, the next one does not end what began before the fault.
    let mut lossy = recording;
    lossy.records[1] = at(2500, vcpu, 0, exit);
    lossy.records.sort_by_key(|record| record.stamp.time);
    let lossy = events(&lossy);
    assert_valid(&lossy);
    assert_eq!(with(&lossy, "name", "guest"), 0);
    assert_eq!(with(&lossy, "name", "read fault: resolved"), 1);
}

#[test]
fn a_wait_for_a_lock_is_in_its_fault() {
    let vcpu = (0, 1);
    let wait = |ticks| Event::LockWait {
        level: 3,
        ipa: RAM,
        ticks,
    };
    let fault = |ticks| Event::Fault {
        access: Access::Read,
        cause: Cause::Translation,
        outcome: Outcome::Resume,
        ipa: RAM,
        ticks,
    };
    let recording = Recording {
        records: vec![
            // In no fault, as those of hypercalls are, and behind it.
            at(500, vcpu, 0, wait(100)),
            at(520, vcpu, 0, wait(40)),
            // Two in a fault that seems to begin after the first of them.
            at(1000, vcpu, 0, wait(303)),
            at(1200, vcpu, 0, wait(201)),
            at(1300, vcpu, 0, fault(580)),
            // One whose fault was lost.
            at(2000, vcpu, 0, wait(10)),
        ],
        frequency: 1_000_000_000,
        ..Recording::default()
    };
    let events = events(&recording);
    assert_valid(&events);
    let slices = events.iter().filter(|event| event["ph"] == "X");
    let slices: Vec<_> = slices
        .map(|event| (time(event), event["dur"].as_f64().expect("a duration")))
        .collect();
    let [fault, first] = [(0.22, 0.58), (0.22, 0.28)];
    assert_eq!(slices[2..4], [fault, first], "{slices:?}");
    assert_eq!(with(&events, "name", "wait for a table's lock"), 5);
}

#[test]
fn a_file_says_of_what_run_it_is() {
    let mut recording = recording();
    recording.about.add("commit", "0123");
    let text = json(&recording).to_string();
    assert!(text.as_bytes().starts_with(BEGINNING), "{text:.100}");
    assert!(text.contains("Tessera, commit: 0123"), "{text:.200}");
    assert_valid(&events(&recording));
}

#[test]
fn compaction_has_a_track_of_its_own() {
    let events = events(&race());
    let names = events.iter().filter(|event| event["name"] == "thread_name");
    let of_compaction = names
        .clone()
        .find(|event| event["args"]["name"] == "compaction");
    let own = track_of(of_compaction.expect("a track"));
    assert_eq!(own, track(THREADS, 9));
    let on = |name: &str| {
        let slices = events.iter().filter(|event| event["ph"] == "X");
        slices
            .filter(|event| event["name"] == name)
            .map(track_of)
            .collect::<Vec<_>>()
    };
    assert_eq!(on("compaction"), [cpu_track(0); 2]);
    assert_eq!(on("on cpu0"), [own; 2]);
    assert_eq!(on("vm0 vcpu1"), [cpu_track(1)]);
    assert_eq!((with(&events, "ph", "b"), with(&events, "ph", "e")), (1, 1));
}

#[test]
#[should_panic(expected = "sticks out")]
fn slices_that_cross_are_noticed() {
    assert_nested(&[(0, 20), (19, 21)]);
}
