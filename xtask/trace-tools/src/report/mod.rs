//! A recording as one page of HTML that needs nothing beside itself: its data stands in it as JSON,
//! and a script draws it. What goes wrong in the script is said on the page.

mod film;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trace::Event;
use trace::event::{NOBODY, Outcome};

use super::kind::Kind;
use super::summary::percentile;
use super::{Recording, Summary};
use film::Film;

/// Steps of time that the pictures have.
const COLUMNS: usize = 240;
/// Bars of the histogram: each covers a fourth of a power of two.
const BARS_PER_OCTAVE: f64 = 4.0;

const PAGE: &str = include_str!("page.html");

/// What stands near the start of every page.
const TITLE: &[u8] = b"<title>Tessera: what the tables did</title>";

/// What is put into [`PAGE`] instead of what, the data last.
const PARTS: [(&str, &str); 3] = [
    ("/*STYLE*/", include_str!("page.css")),
    ("/*CHARTS*/", include_str!("charts.js")),
    ("/*SCRIPT*/", include_str!("page.js")),
];
const DATA: &str = "/*DATA*/";

/// Whether a file that begins like this is a page.
pub(super) fn is_page(head: &[u8]) -> bool {
    head.starts_with(b"<!doctype html>") && head.windows(TITLE.len()).any(|part| part == TITLE)
}

/// The page for a recording of this name.
pub fn page(recording: &Recording, name: &str) -> String {
    let mut page = PAGE.to_owned();
    for (mark, part) in PARTS {
        page = page.replacen(mark, part, 1);
    }
    // A `<` could end the script that the data stands in.
    let data = data(recording, name).to_string().replace('<', "\\u003c");
    page.replacen(DATA, &data, 1)
}

fn data(recording: &Recording, name: &str) -> Value {
    let (first, last) = recording.span();
    let length = (last - first).max(1);
    let column = |time: u64| {
        let at = u128::from(time - first) * COLUMNS as u128 / u128::from(length);
        (at as usize).min(COLUMNS - 1)
    };
    let mut lanes = [[0_u32; COLUMNS]; Kind::COUNT];
    let mut films: BTreeMap<u8, Film> = BTreeMap::new();
    for record in &recording.records {
        let column = column(record.stamp.time);
        if let Some(kind) = Kind::of(&record.event) {
            lanes[kind as usize][column] += 1;
        }
        if record.stamp.vm != NOBODY {
            let film = films.entry(record.stamp.vm).or_default();
            film.apply(column, &record.event);
        }
    }
    let lanes = Kind::ALL.map(|kind| {
        json!({"name": kind.name(), "kind": format!("{kind:?}"),
            "counts": lanes[kind as usize].as_slice()})
    });
    let vms = films.into_iter();
    json!({
        "file": name,
        "nanoseconds": recording.nanoseconds(last - first),
        "events": recording.records.len(),
        "lost": recording.lost.total() - recording.lost.torn(),
        "torn": recording.lost.torn(),
        "broken": recording.broken,
        "cut": recording.is_cut,
        "about": recording.about,
        "vms": vms.filter_map(|(vm, film)| film.finish(vm)).collect::<Vec<_>>(),
        "lanes": lanes,
        "latency": latency(recording),
        "figures": figures(recording),
    })
}

fn figures(recording: &Recording) -> Value {
    let summary = Summary::of(recording);
    let figures = summary.figures.iter();
    figures.map(|f| json!([f.group, f.name, f.value])).collect()
}

/// How long faults on memory took: of all vCPUs together, and for each VM.
fn latency(recording: &Recording) -> Value {
    let mut all = Latencies::default();
    let mut vms: BTreeMap<u8, Latencies> = BTreeMap::new();
    for record in &recording.records {
        if Kind::of(&record.event) == Some(Kind::Fault)
            && let Event::Fault { ticks, outcome, .. } = record.event
        {
            let nanoseconds = recording.nanoseconds(ticks).max(1);
            for latencies in [&mut all, vms.entry(record.stamp.vm).or_default()] {
                latencies.add(record.stamp.vcpu, nanoseconds, outcome);
            }
        }
    }
    let vms = vms
        .into_iter()
        .map(|(vm, latencies)| latencies.finish(&format!("vm{vm}")));
    let vms: Vec<_> = vms.collect();
    json!({"all": all.finish("all"), "vms": vms})
}

/// Times of faults.
#[derive(Default)]
struct Latencies {
    /// How many of a bar's faults were resolved, and how many were not.
    bars: BTreeMap<i32, [u32; 2]>,
    nanoseconds: Vec<u64>,
    vcpus: BTreeSet<u8>,
}

impl Latencies {
    fn add(&mut self, vcpu: u8, nanoseconds: u64, outcome: Outcome) {
        let bar = ((nanoseconds as f64).log2() * BARS_PER_OCTAVE).floor() as i32;
        self.bars.entry(bar).or_default()[usize::from(outcome != Outcome::Resume)] += 1;
        self.nanoseconds.push(nanoseconds);
        self.vcpus.insert(vcpu);
    }

    /// Bars, each with its ends in nanoseconds, how many of its faults were resolved and how many
    /// were not; and percentiles.
    fn finish(mut self, name: &str) -> Value {
        self.nanoseconds.sort_unstable();
        let (low, high) = match (self.bars.keys().next(), self.bars.keys().next_back()) {
            (Some(&low), Some(&high)) => (low, high + 1),
            _ => (0, 0),
        };
        let end = |bar: i32| (f64::from(bar) / BARS_PER_OCTAVE).exp2();
        let bar = |bar: i32| {
            let [resolved, other] = self.bars.get(&bar).copied().unwrap_or_default();
            json!([end(bar), end(bar + 1), resolved, other])
        };
        let percentile = |percent| json!([percent, percentile(&self.nanoseconds, percent)]);
        let percentiles = [50, 90, 99].map(percentile);
        json!({
            "name": name,
            "vcpus": self.vcpus.len(),
            "faults": self.nanoseconds.len(),
            "bars": (low..high).map(bar).collect::<Vec<_>>(),
            "percentiles": percentiles,
        })
    }
}

#[cfg(test)]
mod tests;
