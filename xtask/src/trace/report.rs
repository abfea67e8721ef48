//! A recording as one page of HTML that needs nothing beside itself: its data stands in it as JSON,
//! and a script draws it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trace::Event;
use trace::event::{NOBODY, Outcome, Step};

use super::space::{PAGES, Space};
use super::{Recording, Summary};

/// Steps of time that the pictures have.
const COLUMNS: usize = 240;
/// Most rows of a picture of a VM's memory.
const ROWS: usize = 128;
/// Bars of the histogram: each covers a third of a power of two.
const BARS_PER_OCTAVE: f64 = 3.0;

const TEMPLATE: &str = include_str!("report.html");
const DATA: &str = "/*DATA*/null";

/// What happened in the steps of time.
#[derive(Default)]
struct Lanes {
    collapses: Vec<u32>,
    given_up: Vec<u32>,
    splits: Vec<u32>,
    moves: Vec<u32>,
    faults: Vec<u32>,
}

impl Lanes {
    fn new() -> Self {
        let lane = || vec![0; COLUMNS];
        Self {
            collapses: lane(),
            given_up: lane(),
            splits: lane(),
            moves: lane(),
            faults: lane(),
        }
    }

    fn add(&mut self, column: usize, event: &Event) {
        let lane = match event {
            Event::Collapse {
                step: Step::Commit, ..
            } => &mut self.collapses,
            Event::Collapse {
                step: Step::Abort, ..
            } => &mut self.given_up,
            Event::Split { .. } => &mut self.splits,
            Event::Move { .. } => &mut self.moves,
            Event::Fault { outcome, .. } if *outcome != Outcome::Outside => &mut self.faults,
            _ => return,
        };
        lane[column] += 1;
    }
}

/// A VM's memory as it goes through time: a string for each step, a letter for each row.
struct Film {
    space: Space,
    columns: Vec<String>,
    /// Regions that somebody worked on since the last picture.
    busy: Vec<bool>,
}

impl Film {
    fn new() -> Self {
        Self {
            space: Space::default(),
            columns: Vec::new(),
            busy: Vec::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        self.space.apply(event);
        self.busy.resize(self.space.regions.len(), false);
        for (busy, region) in self.busy.iter_mut().zip(&self.space.regions) {
            *busy |= region.busy;
        }
    }

    /// Pictures up to before this step of time.
    fn until(&mut self, column: usize) {
        while self.columns.len() < column {
            let picture = self.picture();
            self.columns.push(picture);
            for (busy, region) in self.busy.iter_mut().zip(&self.space.regions) {
                *busy = region.busy;
            }
        }
    }

    fn regions_per_row(&self) -> usize {
        self.space.regions.len().div_ceil(ROWS).max(1)
    }

    /// `.` is empty, `0` to `9` how full of pages, `B` blocks, `!` busy.
    fn picture(&self) -> String {
        let group = self.regions_per_row();
        let rows = self.space.regions.chunks(group);
        let busy = self.busy.chunks(group);
        rows.zip(busy)
            .map(|(regions, busy)| {
                let pages: u32 = regions.iter().map(|region| region.pages()).sum();
                let blocks = regions.iter().filter(|region| region.block).count();
                let most = PAGES * regions.len() as u32;
                if busy.contains(&true) {
                    '!'
                } else if blocks * 2 >= regions.len() {
                    'B'
                } else if pages == 0 {
                    '.'
                } else {
                    char::from_digit((pages * 9).div_ceil(most).min(9), 10).unwrap_or('9')
                }
            })
            .collect()
    }
}

/// The page.
pub fn page(recording: &Recording) -> String {
    // A `<` could end the script that the data stands in.
    let data = data(recording).to_string().replace('<', "\\u003c");
    TEMPLATE.replacen(DATA, &data, 1)
}

fn data(recording: &Recording) -> Value {
    let (first, last) = recording.span();
    let length = (last - first).max(1);
    let column = |time: u64| {
        let at = u128::from(time - first) * COLUMNS as u128 / u128::from(length);
        (at as usize).min(COLUMNS - 1)
    };
    let mut lanes = Lanes::new();
    let mut films: BTreeMap<u8, Film> = BTreeMap::new();
    for record in &recording.records {
        let column = column(record.stamp.time);
        lanes.add(column, &record.event);
        if record.stamp.vm != NOBODY {
            let film = films.entry(record.stamp.vm).or_insert_with(Film::new);
            film.until(column);
            film.apply(&record.event);
        }
    }
    let vms: Vec<Value> = films
        .iter_mut()
        .filter(|(_, film)| !film.space.regions.is_empty())
        .map(|(vm, film)| {
            film.until(COLUMNS);
            let (pages, blocks) = film.space.mapped();
            json!({
                "name": format!("vm{vm}"),
                "start": film.space.start(),
                "regionsPerRow": film.regions_per_row(),
                "columns": film.columns,
                "pages": pages,
                "blocks": blocks,
            })
        })
        .collect();
    let summary = Summary::of(recording);
    let figures = summary.figures.iter();
    json!({
        "nanoseconds": recording.nanoseconds(last - first),
        "events": recording.records.len(),
        "lost": recording.lost.values().sum::<u64>(),
        "vms": vms,
        "lanes": {
            "collapses": lanes.collapses,
            "givenUp": lanes.given_up,
            "splits": lanes.splits,
            "moves": lanes.moves,
            "faults": lanes.faults,
        },
        "latency": latency(recording),
        "figures": figures.map(|f| json!([f.group, f.name, f.value])).collect::<Vec<_>>(),
    })
}

/// How long faults on memory took: pairs of a bar's lower end in nanoseconds and a count.
fn latency(recording: &Recording) -> Vec<(u64, u32)> {
    let mut bars: BTreeMap<i32, u32> = BTreeMap::new();
    for record in &recording.records {
        if let Event::Fault { ticks, outcome, .. } = record.event
            && outcome != Outcome::Outside
        {
            let nanoseconds = recording.nanoseconds(ticks).max(1) as f64;
            let bar = (nanoseconds.log2() * BARS_PER_OCTAVE).floor() as i32;
            *bars.entry(bar).or_default() += 1;
        }
    }
    let (Some(&low), Some(&high)) = (bars.keys().next(), bars.keys().next_back()) else {
        return Vec::new();
    };
    let lower = |bar: i32| (f64::from(bar) / BARS_PER_OCTAVE).exp2() as u64;
    (low..=high)
        .map(|bar| (lower(bar), bars.get(&bar).copied().unwrap_or(0)))
        .collect()
}
