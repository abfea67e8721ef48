//! A checker of the protocol: replays what was recorded with `trace=replay` and looks for broken
//! rules.
//!
//! It knows nothing of the hypervisor but what the events say (`trace::replay`): it builds its own
//! tables from the writes, remembers which translations the TLBs may still hold, and has them
//! forgotten by the invalidations and barriers that the architecture asks for. Rules:
//!
//! | rule | broken if |
//! |---|---|
//! | break before make | a valid entry gets another output address, size or type; a new one is made while the old may be cached |
//! | write under the lock | a CPU writes to a table that can be found, without its lock |
//! | complete when published | a table is named by an entry that was not stored with release, twice, or by the wrong VM or level; an entry is made and no DSB follows |
//! | detached stays as it is | a table that was taken out is written, or one is taken out without its lock |
//! | freed after the flush | a table ends while it can be found, or walk caches may hold it (TLBI without leaf hint, DSB) |
//! | freed after a grace period | a table ends, and none that began after it was taken out has ended; one ends while a CPU has a lock in an older section |
//! | found in a read section | a table that is not claimed is locked by a CPU outside of read sections |
//! | reused after the flush | a frame serves anew while a translation to it may be cached, or instruction caches may hold of it what another holder fetched; it is a table, or a holder's that is no guest, and guest memory at once; two VMs have it |
//! | a frame has one place | a frame is mapped at two addresses of a VM |
//! | guests' own frames | a VM gets mapped, or a table is made of, what is the hypervisor's, a device's or nobody's; a VM may store to what is only shown to it, or outside its RAM |
//! | right VMID | a VM runs under VMID 0, under one by which another's translations may be cached, or two; it gets one back by which old ones of its own may be; it runs when its tables are taken down; a TLBI follows VTTBR_EL2 without an ISB |
//! | seen by walks | a VM comes to run under a VMID and walks may find what an entry was: no DSB has followed the change, which nobody flushes |
//! | one shape of tables | CPUs have different values in VTCR_EL2, or one changes it while it has a VM |
//! | stage 1 after stage 2 | stage 1 is invalidated with no DSB behind the TLBI by IPA before it |
//! | each vCPU its stage 1 | a vCPU runs where another of its VM did, and the CPU has not forgotten stage 1 between |
//! | lock order | a lock is waited for under that of a table below or beside it, or is had twice |
//! | flushed in time | an entry is left empty, or with fewer rights, when its lock is let go and the old one may be cached; a block's parts are not locked while the block may be |
//! | true to the record | an old value is not what was written last, but for what the hardware sets |

mod caches;
mod changes;
mod cpus;
mod frames;
mod grace;
mod model;
mod rules;
mod tables;
mod vms;

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, bail};
use plural::count;
use trace::{Event, Record, Stream};

use super::names::hyphened;
use super::{Recording, show};
pub use changes::Counts;
use model::Model;

/// How many violations are shown.
const SHOWN: usize = 5;
/// How many events are shown before a violation, and behind it.
const AROUND: (usize, usize) = (12, 3);

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
    /// The place in the order of the event by which it shows.
    pub order: u64,
}

/// What came of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// The rules that were broken.
    pub violations: Vec<Violation>,
    /// How many events were checked, by name, or by that of the instruction.
    pub counts: BTreeMap<&'static str, u64>,
    /// How often entries were changed in which way: what was not done was not checked.
    pub changes: Counts,
    /// How many came behind the first that is missing, and so were not.
    pub unchecked: usize,
    /// The first that is missing.
    pub missing: Option<u64>,
}

/// Checks all events that have a place in the order, up to the first that is missing.
pub fn check(recording: &Recording) -> Checked {
    let mut model = Model::default();
    let mut checked = Checked::default();
    let events = in_order(recording);
    for (index, (order, record)) in events.iter().enumerate() {
        if *order != index as u64 + 1 {
            checked.missing = Some(index as u64 + 1);
            checked.unchecked = events.len() - index;
            break;
        }
        *checked.counts.entry(name(&record.event)).or_default() += 1;
        let broken = model.apply(record);
        checked
            .violations
            .extend(broken.into_iter().map(|(rule, what)| Violation {
                rule,
                what,
                order: *order,
            }));
    }
    checked.changes = model.changes();
    checked
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Barrier { barrier, .. } => barrier.text(),
        Event::TlbiDone { tlbi, .. } => tlbi.text(),
        other => other.name(),
    }
}

fn in_order(recording: &Recording) -> Vec<(u64, &Record)> {
    let order = |record: &'_ Record| record.event.order();
    let mut events: Vec<_> = recording
        .records
        .iter()
        .filter_map(|record| Some((order(record)?, record)))
        .collect();
    events.sort_by_key(|(order, _)| *order);
    events
}

/// Checks a recording and says what came of it. Returns the exit status: 1 if a rule was broken or
/// events are missing.
///
/// # Errors
///
/// When there is nothing to check, or the result cannot be written.
pub fn run(recording: &Recording, out: &mut impl Write) -> Result<u8> {
    let checked = check(recording);
    let total: u64 = checked.counts.values().sum();
    if total == 0 && checked.unchecked == 0 {
        bail!("there is nothing to check; record with --hyp-args trace=replay");
    }
    let status = show(recording, &checked, total, out).context("could not write")?;
    Ok(status)
}

fn show(
    recording: &Recording,
    checked: &Checked,
    total: u64,
    out: &mut impl Write,
) -> std::io::Result<u8> {
    for violation in checked.violations.iter().take(SHOWN) {
        writeln!(out, "{}: {}", violation.rule, violation.what)?;
        around(recording, violation.order, out)?;
        writeln!(out)?;
    }
    writeln!(out, "{} checked", count(total, "event", "events"))?;
    for (name, count) in &checked.counts {
        writeln!(out, "  {:<22} {count}", hyphened(name))?;
    }
    if !checked.changes.is_empty() {
        writeln!(out, "what became of entries of tables in use")?;
    }
    for (name, count) in &checked.changes {
        writeln!(out, "  {name:<22} {count}")?;
    }
    if let Some(missing) = checked.missing {
        writeln!(
            out,
            "event {missing} is missing: {} not checked",
            count(
                checked.unchecked,
                "event behind it was",
                "events behind it were"
            )
        )?;
    }
    if recording.lost.of(Stream::Replay) > 0 || recording.broken > 0 {
        writeln!(
            out,
            "{} lost and {} broken: something else wrote to the console, or cut it",
            count(recording.lost.of(Stream::Replay), "event is", "events are"),
            count(recording.broken, "frame", "frames")
        )?;
    }
    if recording.is_cut {
        writeln!(out, "the recording {}", super::CUT)?;
    }
    let found = checked.violations.len();
    match (found, checked.is_complete(recording)) {
        (0, true) => writeln!(out, "no rule is broken")?,
        (0, false) => writeln!(
            out,
            "no rule is broken up to there; the recording is not complete"
        )?,
        (1, _) => writeln!(out, "a rule is broken")?,
        _ => writeln!(out, "rules are broken {found} times; the first tells most")?,
    }
    Ok(u8::from(found > 0 || !checked.is_complete(recording)))
}

impl Checked {
    /// How often there was an event, an instruction, or a change of an entry of this name.
    pub fn seen(&self, name: &str) -> u64 {
        let found = self.counts.get(name).or_else(|| self.changes.get(name));
        found.copied().unwrap_or(0)
    }

    /// Whether all was checked but the last events, which had not been sent when the machine went
    /// off.
    pub fn is_complete(&self, recording: &Recording) -> bool {
        let came_whole = recording.lost.of(Stream::Replay) == 0 && recording.broken == 0;
        !recording.is_cut && (self.missing.is_none() || came_whole)
    }
}

/// Shows the event of this place in the order, with those round it.
fn around(recording: &Recording, order: u64, out: &mut impl Write) -> std::io::Result<()> {
    let (before, behind) = AROUND;
    let events = in_order(recording);
    let at = events.partition_point(|(other, _)| *other < order);
    let from = at.saturating_sub(before);
    for (index, (_, record)) in events.iter().enumerate().skip(from) {
        if index > at + behind {
            break;
        }
        let mark = if index == at { "->" } else { "  " };
        writeln!(out, "{mark} {}", show::line(recording, record))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
