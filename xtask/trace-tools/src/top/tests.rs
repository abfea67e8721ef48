//! The view of made-up records on screens that are not there.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use trace::event::{NOBODY, Step};
use trace::frame::Header;
use trace::{Event, Record, Stamp, Stream};

use super::map::{Cell, Map};
use super::state::{SAMPLE, State};
use super::view::{View, draw};
use crate::example::{collapse, story};
use crate::kind::Kind;
use crate::space::REGION;

const RAM: u64 = 0x4000_0000;

fn at(time: u64, vcpu: Option<u8>, event: Event) -> Record {
    let stamp = Stamp {
        time,
        cpu: 1,
        vm: vcpu.map_or(NOBODY, |_| 0),
        vcpu: vcpu.unwrap_or(NOBODY),
    };
    Record { stamp, event }
}

/// A state after the story of a guest, and two switches of threads.
fn told() -> State {
    let mut state = State::default();
    state.frequency(1000);
    for (cpu, first) in [(0, 30_000), (1, 12)] {
        let header = Header {
            cpu,
            stream: Stream::Busy,
            frequency: 1000,
            first,
        };
        state.arrived(&header, 1);
    }
    story().iter().for_each(|record| state.event(record));
    let switch = |time, vcpu, from, to| at(time, vcpu, Event::Switch { from, to });
    state.event(&switch(10_000, Some(0), 1, 12));
    state.event(&switch(10_750, None, 12, 1));
    state.event(&switch(11_000, Some(0), 1, 12));
    state.line("vm0| stress: 4 vcpus\u{1b}[2J");
    state.partial = "vm0| half a line".to_owned();
    state.sample(SAMPLE);
    state
}

fn picture(state: &State, view: View, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal
        .draw(|frame| draw(frame, state, &view))
        .expect("a picture");
    terminal.backend().to_string()
}

#[test]
fn all_of_it_is_seen_on_80_by_24() {
    let picture = picture(&told(), View::default(), (80, 24));
    for part in [
        "Tessera",
        "11.0 s",
        "30,012 events lost",
        "vm0: 8 MiB from 0x40000000, a cell is 32 KiB",
        "▁▄█ pages 2 MiB (25 %)  ■ blocks 0 KiB (0 %)  × at work",
        "free 28 KiB (7 %)",
        "faults         1,024       512",
        "collapses          2         1",
        "cpu1  75 % vm0 vcpu0",
        "vm0 vcpu0: 1,024 faults/s, cpu1",
        "vm0| stress: 4 vcpus[2J",
        "vm0| half a line",
        "q  quit",
    ] {
        assert!(picture.contains(part), "{part} in\n{picture}");
    }
    assert!(picture.contains("████████·"), "{picture}");
}

/// Many CPUs and vCPUs, and a console of many lines.
fn busy() -> State {
    let mut state = told();
    for vcpu in 0..8 {
        let switch = Event::Switch { from: 1, to: 12 };
        let mut record = at(12_000, Some(vcpu), switch);
        record.stamp.cpu = vcpu;
        state.event(&record);
    }
    (0..60).for_each(|line| state.line(&format!("vm0| line {line}.")));
    state
}

#[test]
fn a_high_terminal_is_used() {
    let state = busy();
    let picture = picture(&state, View::default(), (80, 60));
    for part in ["cpu7 ", "vm0 vcpu7", "a cell is 8 KiB", "vm0| line 59."] {
        assert!(picture.contains(part), "{part} in\n{picture}");
    }
    let lines = picture.lines().filter(|line| line.contains("vm0| line "));
    let blank = picture
        .lines()
        .filter(|line| line.trim_matches(['"', ' ']).is_empty());
    assert_eq!(blank.count(), 0, "{picture}");
    assert!(lines.count() >= 10, "{picture}");
}

#[test]
fn what_the_map_does_not_fill_is_the_consoles() {
    let mut state = busy();
    let (ipa, end) = (RAM, RAM + REGION);
    state.event(&at(12_000, Some(0), Event::Ram { ipa, end }));
    let picture = picture(&state, View::default(), (200, 60));
    // 512 pages are three lines.
    assert!(picture.contains("a cell is 4 KiB"), "{picture}");
    assert!(picture.contains("vm0| line 32."), "{picture}");
    let blank = picture
        .lines()
        .filter(|line| line.trim_matches(['"', ' ']).is_empty());
    assert_eq!(blank.count(), 0, "{picture}");
}

#[test]
fn nothing_is_known_at_first() {
    let picture = picture(&State::default(), View::default(), (80, 24));
    assert!(picture.contains("Nothing has been heard"), "{picture}");
}

#[test]
fn every_size_has_a_picture() {
    let state = told();
    for width in [1, 2, 20, 43, 80, 300] {
        for height in [1, 2, 7, 24, 100] {
            let view = View {
                vm: 7,
                ..View::default()
            };
            picture(&state, view, (width, height));
        }
    }
}

#[test]
fn what_the_user_chose_is_seen() {
    let mut state = told();
    let typing = View {
        typing: true,
        ..View::default()
    };
    assert!(picture(&state, typing, (80, 24)).contains("stop typing"));
    let paused = View {
        paused: true,
        ..View::default()
    };
    assert!(picture(&state, paused, (80, 24)).contains("paused"));
    state.end = Some("ended: passed".to_owned());
    let ended = picture(&state, View::default(), (80, 24));
    assert!(
        ended.contains("ended: passed") && ended.contains("leave"),
        "{ended}"
    );
}

#[test]
fn rates_are_those_of_the_last_second() {
    let mut state = told();
    assert_eq!(state.rate(Kind::Fault), 1024);
    state.sample(SAMPLE + Duration::from_millis(1));
    assert_eq!(state.rate(Kind::Fault), 1024, "too soon for a sample");
    state.sample(2 * SAMPLE);
    assert_eq!(state.rate(Kind::Fault), 512);
    state.sample(3 * SAMPLE);
    assert_eq!(state.rate(Kind::Fault), 0);
    assert_eq!(state.history(Kind::Fault, 2), [0, 0]);
    assert_eq!(state.history(Kind::Fault, 9), [1024, 0, 0]);
}

#[test]
fn cells_are_parts_of_regions_or_many_of_them() {
    let mut state = State::default();
    let end = RAM + 100 * REGION;
    state.event(&at(1, Some(0), Event::Ram { ipa: RAM, end }));
    for page in 0..65 {
        let (level, ipa, pa) = (3, RAM + page * 4096, 0);
        state.event(&at(2, Some(0), Event::Map { level, ipa, pa }));
    }
    state.event(&at(3, Some(0), collapse(Step::Commit, RAM + 4 * REGION)));
    state.event(&at(3, Some(0), collapse(Step::Begin, RAM + 8 * REGION)));
    let space = &state.spaces[&0];
    let fine = Map::new(space, 799);
    assert_eq!(fine.cell_bytes(), REGION / 4);
    let cells: Vec<Cell> = fine.cells().collect();
    assert_eq!(cells.len(), 400);
    assert_eq!(cells[..2], [Cell::Pages(5), Cell::Empty]);
    assert_eq!((cells[16], cells[32]), (Cell::Block, Cell::Busy));
    let coarse = Map::new(space, 60);
    assert_eq!(coarse.cell_bytes(), 2 * REGION);
    assert_eq!(coarse.cells().count(), 50);
    assert_eq!(Map::new(space, 0).cells().count(), 1);
}
