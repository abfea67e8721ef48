//! A recording in figures.

use std::collections::BTreeMap;
use std::io::{self, Write};

use trace::Event;
use trace::event::{NOBODY, Outcome, Step};

use super::Recording;
use super::names::hyphened;
use super::show::duration;

/// Some durations, by what took them.
#[derive(Debug, Default)]
struct Durations(BTreeMap<String, Vec<u64>>);

impl Durations {
    fn add(&mut self, what: impl Into<String>, nanoseconds: u64) {
        self.0.entry(what.into()).or_default().push(nanoseconds);
    }
}

/// One figure: what it is of, and its value in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What it belongs to.
    pub group: &'static str,
    /// What it is.
    pub name: String,
    /// What it comes to.
    pub value: String,
}

/// A recording in figures.
#[derive(Debug, Default)]
pub struct Summary {
    /// The figures, those of a group together.
    pub figures: Vec<Figure>,
}

/// What is counted while the events are gone through.
#[derive(Default)]
struct Tally {
    events: BTreeMap<&'static str, u64>,
    reasons: BTreeMap<String, u64>,
    vms: BTreeMap<String, u64>,
    faults: Durations,
    waits: Durations,
    collapses: Durations,
    /// When a collapse began, and when its last step was, by VM and address.
    open: BTreeMap<(u8, u64), (u64, u64)>,
}

impl Tally {
    fn count(map: &mut BTreeMap<String, u64>, what: String) {
        *map.entry(what).or_default() += 1;
    }

    fn add(&mut self, recording: &Recording, record: &trace::Record) {
        *self.events.entry(record.event.name()).or_default() += 1;
        let time = |ticks| recording.nanoseconds(ticks);
        let (vm, now) = (record.stamp.vm, record.stamp.time);
        if vm != NOBODY {
            let name = hyphened(record.event.name());
            Self::count(&mut self.vms, format!("vm{vm}: {name}"));
        }
        match record.event {
            Event::Fault {
                cause,
                outcome,
                ticks,
                ..
            } => {
                let cause = match outcome {
                    Outcome::Outside => "device or nothing",
                    _ => cause.text(),
                };
                let what = format!("{cause}, {}", outcome.text());
                self.faults.add(what, time(ticks));
            }
            Event::Refused { reason, .. } => {
                Self::count(&mut self.reasons, format!("not mapped: {}", reason.text()));
            }
            Event::Marker { operation, .. } => {
                Self::count(
                    &mut self.reasons,
                    format!("marker met: {}", operation.text()),
                );
            }
            Event::LockWait { level, ticks, .. } => {
                let what = format!("lock of a table of level {level}");
                self.waits.add(what, time(ticks));
            }
            Event::Grace { ticks } => self.waits.add("grace period", time(ticks)),
            Event::Collapse {
                step, reason, ipa, ..
            } => {
                if step == Step::Abort {
                    let what = format!("collapse given up: {}", reason.text());
                    Self::count(&mut self.reasons, what);
                }
                self.collapse(step, (vm, ipa), now, time);
            }
            _ => {}
        }
    }

    fn collapse(&mut self, step: Step, place: (u8, u64), now: u64, time: impl Fn(u64) -> u64) {
        let open = self.open.get(&place).copied();
        match (step, open) {
            (Step::Begin, _) => {
                self.open.insert(place, (now, now));
            }
            (Step::Copy, Some((begin, _))) => {
                self.collapses.add("copying", time(now - begin));
                self.open.insert(place, (begin, now));
            }
            (Step::Commit, Some((begin, last))) => {
                let (whole, end) = if begin == last {
                    ("in place", "in place")
                } else {
                    ("by copying", "from the copy to the block")
                };
                self.collapses.add(whole, time(now - begin));
                if end != whole {
                    self.collapses.add(end, time(now - last));
                }
                self.open.remove(&place);
            }
            (Step::Abort, Some((begin, _))) => {
                self.collapses.add("given up", time(now - begin));
                self.open.remove(&place);
            }
            (Step::Copy | Step::Commit | Step::Abort, None) => {}
        }
    }
}

impl Summary {
    /// Sums a recording up.
    pub fn of(recording: &Recording) -> Self {
        let mut tally = Tally::default();
        for record in &recording.records {
            tally.add(recording, record);
        }
        let mut summary = Self::default();
        summary.recording(recording);
        for (name, count) in &tally.events {
            summary.add("Events", hyphened(name), count.to_string());
        }
        summary.durations("Faults", &tally.faults);
        summary.durations("Waits", &tally.waits);
        summary.durations("Collapses", &tally.collapses);
        for (group, counts) in [("Reasons", &tally.reasons), ("Machines", &tally.vms)] {
            for (name, count) in counts {
                summary.add(group, name.clone(), count.to_string());
            }
        }
        summary
    }

    fn recording(&mut self, recording: &Recording) {
        for (name, value) in &recording.about.0 {
            self.add("Run", name.clone(), value.clone());
        }
        let (first, last) = recording.span();
        let length = duration(recording.nanoseconds(last - first));
        for (name, value) in [
            ("length", length),
            ("events", recording.records.len().to_string()),
            ("events lost", lost(recording)),
            ("broken frames", broken(recording)),
            ("cut off", cut(recording)),
            ("bytes on the console", recording.bytes.to_string()),
        ] {
            self.add("Recording", name.to_owned(), value);
        }
        for (cpu, (came, lost)) in recording.lost.by_cpu() {
            if lost > 0 {
                let value = format!("{lost}, {} %", percent(lost, came + lost));
                self.add("Recording", format!("lost of cpu{cpu}"), value);
            }
        }
    }

    fn durations(&mut self, group: &'static str, durations: &Durations) {
        for (name, values) in &durations.0 {
            let mut values = values.clone();
            values.sort_unstable();
            let at = |percent| duration(percentile(&values, percent));
            let value = format!(
                "{} times, half within {}, 90 % {}, 99 % {}, at most {}",
                values.len(),
                at(50),
                at(90),
                at(99),
                at(100)
            );
            self.add(group, name.clone(), value);
        }
    }

    fn add(&mut self, group: &'static str, name: String, value: String) {
        self.figures.push(Figure { group, name, value });
    }

    /// Shows the figures as a table for a person.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn show(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self.figures.iter().map(|figure| figure.name.len()).max();
        let width = width.unwrap_or(0);
        let mut group = "";
        for figure in &self.figures {
            if figure.group != group {
                let gap = if group.is_empty() { "" } else { "\n" };
                writeln!(out, "{gap}{}", figure.group)?;
                group = figure.group;
            }
            writeln!(out, "  {:<width$}  {}", figure.name, figure.value)?;
        }
        Ok(())
    }
}

/// How much of a recording is missing, in words.
fn lost(recording: &Recording) -> String {
    let (lost, torn) = (recording.lost.total(), recording.lost.torn());
    let came: u64 = recording.lost.by_cpu().values().map(|(came, _)| came).sum();
    let why = match (lost - torn, torn) {
        (0, 0) => return "none".to_owned(),
        (_, 0) => "they came faster than the console takes them; trace fewer categories".to_owned(),
        (0, _) => "they were in the frames that broke".to_owned(),
        (fast, _) => format!(
            "{fast} came faster than the console takes them; trace fewer categories; {torn} were in the frames that broke"
        ),
    };
    format!("{lost}, {} %: {why}", percent(lost, came + lost))
}

/// How many frames could not be read, in words.
fn broken(recording: &Recording) -> String {
    match recording.broken {
        0 => "none".to_owned(),
        broken => format!("{broken}: something else wrote to the console, or it was cut"),
    }
}

/// Whether the recording lacks its end, in words.
fn cut(recording: &Recording) -> String {
    let answer = match (recording.is_cut, recording.about.0.is_empty()) {
        (true, _) => "yes: it ends before the run did, and what came then is not counted as lost",
        (false, false) => "no",
        (false, true) => "not known: `--trace` would tell",
    };
    answer.to_owned()
}

fn percent(part: u64, whole: u64) -> u64 {
    (100 * part).checked_div(whole).unwrap_or(0)
}

/// The smallest of sorted values that so many percent do not exceed.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}
