//! A recording as the JSON that Perfetto's UI and Chrome's tracing open.
//!
//! Tracks: CPUs with the threads that run on them; threads that are no vCPU's, compaction first of
//! all, with the CPUs they are on and the grace periods they await; vCPUs with their faults and the
//! times they are in the guest; for each VM its changes (collapses, splits, moves); counters of
//! free frames and of what blocks and pages map. An arrow leads from a collapse to each fault that
//! met its marker.
//!
//! Invariants, which the tests check: events are sorted by time; slices of one track nest; an arrow
//! begins and ends in a slice; every track has a name. And what Perfetto's importer of JSON needs
//! beside the format: no two tracks have the same number (`tid`), whatever their groups, since it
//! names them by that alone, and none is 0, which it takes for the group's own; a slice that sticks
//! out of another by a nanosecond is dropped; no key that it does not know stands before the
//! events, so what run it was is said by a label; and nothing is said of `displayTimeUnit`, by
//! which older ones multiply times.
//!
//! Perfetto's own format, protobuf, would need the first two of these no longer, and slices that
//! nest all the same. It would need types for packets, tracks, events and their annotations
//! (`perfetto-protos` generates all of Perfetto's; by hand some hundred lines), and Chrome's
//! tracing, and a look with a text editor or `jq`, would be lost. So it is JSON, which needs this
//! paragraph.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use serde_json::{Value, json};
use trace::event::{NOBODY, Operation, Step};
use trace::{Event, Record};

use crate::Recording;
use crate::space::{REGION, Space};
use crate::threads::{FIRST, Thread, Threads};

/// How such a file begins.
pub(crate) const BEGINNING: &[u8] = br#"{"traceEvents":[{"args":{"labels":"Tessera"#;

/// Groups of tracks.
const CPUS: u32 = 1;
const VCPUS: u32 = 2;
const CHANGES: u32 = 3;
const THREADS: u32 = 4;

/// Numbers of tracks from one group to the next.
const APART: u32 = 1000;

/// The vCPUs that a VM can have.
const MAX_VCPUS: u32 = 8;

/// A track: the number of its group, and its own.
type Track = (u32, u32);

/// The n-th track of a group.
fn track(group: u32, n: u32) -> Track {
    (group, (group * APART).saturating_add(n))
}

fn cpu_track(cpu: u8) -> Track {
    track(CPUS, cpu.into())
}

fn vcpu_track(vm: u8, vcpu: u8) -> Track {
    track(VCPUS, u32::from(vm) * MAX_VCPUS + u32::from(vcpu))
}

fn tables_track(vm: u8) -> Track {
    track(CHANGES, vm.into())
}

struct Writer<'r> {
    recording: &'r Recording,
    start: u64,
    events: Vec<Value>,
    /// The thread on each CPU, and since when.
    running: BTreeMap<u8, (u64, u64)>,
    /// Since when each vCPU has been in the guest.
    inside: BTreeMap<(u8, u8), u64>,
    /// When each vCPU last left it, by its track.
    left: BTreeMap<Track, u64>,
    /// Waits for locks whose fault has not come yet: address, from when until when, by track.
    waits: BTreeMap<Track, Vec<(u64, u64, u64)>>,
    /// Collapses that go on: when they began, by VM and address.
    open: BTreeMap<(u8, u64), u64>,
    /// Collapses that have a slice: VM, and when they began.
    collapses: BTreeSet<(u8, u64)>,
    /// Faults that have a slice: from when until when, by track. Those of one track come in order.
    faults: BTreeMap<Track, Vec<(u64, u64)>>,
    arrows: Vec<Arrow>,
    threads: &'r Threads,
    spaces: BTreeMap<u8, Space>,
    mapped: BTreeMap<u8, (u64, u64)>,
    /// Arrows, and pairs of a beginning and an end, so far: each has a number of its own.
    pairs: u64,
}

/// An arrow from a collapse to a fault that met its marker.
struct Arrow {
    vm: u8,
    /// When the collapse began, in ticks.
    since: u64,
    /// The track of the vCPU, and when it met the marker, in ticks.
    vcpu: Track,
    met: u64,
}

/// The recording in the JSON format of trace events.
pub fn json(recording: &Recording) -> Value {
    // What a thread is for comes out after it was first on a CPU.
    let mut threads = Threads::default();
    recording
        .records
        .iter()
        .for_each(|record| threads.see(record));
    let mut writer = Writer {
        recording,
        start: recording.span().0,
        events: Vec::new(),
        running: BTreeMap::new(),
        inside: BTreeMap::new(),
        left: BTreeMap::new(),
        waits: BTreeMap::new(),
        open: BTreeMap::new(),
        collapses: BTreeSet::new(),
        faults: BTreeMap::new(),
        arrows: Vec::new(),
        threads: &threads,
        spaces: BTreeMap::new(),
        mapped: BTreeMap::new(),
        pairs: 0,
    };
    writer.name_tracks();
    for record in &recording.records {
        writer.add(record);
    }
    writer.show_waits();
    writer.draw_arrows();
    let mut events = writer.events;
    let number = |event: &Value, key: &str| event[key].as_f64().unwrap_or(-1.0);
    // Of two that begin together the longer is round the other.
    events.sort_by(|a, b| {
        let time = number(a, "ts").total_cmp(&number(b, "ts"));
        time.then(number(b, "dur").total_cmp(&number(a, "dur")))
    });
    json!({ "traceEvents": events })
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

impl Writer<'_> {
    fn name_tracks(&mut self) {
        let run = self.recording.about.0.iter();
        let run: String = run
            .map(|(name, value)| format!(", {name}: {value}"))
            .collect();
        self.events.push(
            json!({"ph": "M", "pid": CPUS, "name": "process_labels", "args": {"labels": format!("Tessera{run}")}}),
        );
        let mut names = BTreeSet::new();
        for (group, name) in [
            (CPUS, "CPUs"),
            (VCPUS, "vCPUs"),
            (CHANGES, "tables"),
            (THREADS, "threads"),
        ] {
            self.events.push(
                json!({"ph": "M", "pid": group, "name": "process_name", "args": {"name": name}}),
            );
        }
        for Record { stamp, .. } in &self.recording.records {
            names.insert((cpu_track(stamp.cpu), format!("cpu{}", stamp.cpu)));
            if stamp.vm != NOBODY {
                names.insert((tables_track(stamp.vm), format!("vm{}", stamp.vm)));
                if stamp.vcpu != NOBODY {
                    let name = format!("vm{} vcpu{}", stamp.vm, stamp.vcpu);
                    names.insert((vcpu_track(stamp.vm, stamp.vcpu), name));
                }
            }
        }
        for record in &self.recording.records {
            if let Event::Switch { from, to } = record.event {
                for number in [from, to] {
                    let name = || self.threads.name(number).to_string();
                    names.extend(self.own_track(number).map(|track| (track, name())));
                }
            }
        }
        for ((group, track), name) in names {
            self.events
                .push(json!({"ph": "M", "pid": group, "tid": track,
                "name": "thread_name", "args": {"name": name}}));
        }
    }

    /// The track of a thread that is neither idle nor a vCPU's: those have others.
    fn own_track(&self, number: u64) -> Option<Track> {
        match self.threads.name(number) {
            Thread::Idle | Thread::Vcpu(..) => None,
            _ => Some(track(THREADS, u32::try_from(number).ok()?)),
        }
    }

    /// Microseconds since the first event, as the format wants them.
    fn at(&self, time: u64) -> f64 {
        microseconds(self.nanoseconds(time))
    }

    /// Nanoseconds since the first event.
    fn nanoseconds(&self, time: u64) -> u64 {
        self.recording.nanoseconds(time.saturating_sub(self.start))
    }

    fn slice(&mut self, (group, track): Track, name: &str, from: u64, to: u64, args: Value) {
        let (begin, end) = (self.nanoseconds(from), self.nanoseconds(to));
        // Subtracted before they have a fraction, so that it ends at that very nanosecond.
        let (ts, dur) = (microseconds(begin), microseconds(end.saturating_sub(begin)));
        self.events
            .push(json!({"ph": "X", "pid": group, "tid": track, "name": name,
            "ts": ts, "dur": dur, "args": args}));
    }

    fn instant(&mut self, (group, track): Track, name: &str, time: u64, args: Value) {
        let ts = self.at(time);
        self.events.push(
            json!({"ph": "i", "s": "t", "pid": group, "tid": track, "name": name,
            "ts": ts, "args": args}),
        );
    }

    fn counter(&mut self, name: &str, time: u64, args: Value) {
        let ts = self.at(time);
        self.events
            .push(json!({"ph": "C", "pid": CHANGES, "name": name, "ts": ts, "args": args}));
    }

    fn add(&mut self, record: &Record) {
        let (stamp, event) = (record.stamp, &record.event);
        let now = stamp.time;
        let tables = tables_track(stamp.vm);
        let vcpu = match stamp.vcpu {
            NOBODY => cpu_track(stamp.cpu),
            vcpu => vcpu_track(stamp.vm, vcpu),
        };
        let place = |ipa: u64| json!({"ipa": format!("{ipa:#x}")});
        match *event {
            Event::Fault {
                access,
                cause,
                outcome,
                ipa,
                ticks,
            } => {
                let name = format!("{} fault: {}", access.text(), outcome.text());
                let args = json!({"ipa": format!("{ipa:#x}"), "cause": cause.text()});
                // Of an exit that was lost nobody knows when it was.
                self.inside.remove(&(stamp.vm, stamp.vcpu));
                // It counts from a moment before its exit was stamped.
                let left = self.left.get(&vcpu).copied().unwrap_or(0);
                let begin = now.saturating_sub(ticks).max(left);
                self.show_waits_in(vcpu, begin);
                self.faults.entry(vcpu).or_default().push((begin, now));
                self.slice(vcpu, &name, begin, now, args);
            }
            Event::Switch { from, to } => self.switched(stamp.cpu, from, to, now),
            Event::Enter {} => {
                self.inside.insert((stamp.vm, stamp.vcpu), now);
            }
            Event::Exit { exit, pc, .. } => {
                if let Some(since) = self.inside.remove(&(stamp.vm, stamp.vcpu)) {
                    let args = json!({"exit": exit.text(), "pc": format!("{pc:#x}")});
                    self.slice(vcpu, "guest", since, now, args);
                    self.left.insert(vcpu, now);
                }
            }
            Event::Collapse {
                step, reason, ipa, ..
            } => self.collapse(stamp.vm, step, reason.text(), ipa, now),
            Event::Split { ipa, .. } => self.instant(tables, "split", now, place(ipa)),
            Event::Migrate { ipa, .. } => self.instant(tables, "migrate", now, place(ipa)),
            Event::Detached { ipa, .. } => self.instant(tables, "table detached", now, place(ipa)),
            Event::Retry { ipa, .. } => self.instant(vcpu, "retry", now, place(ipa)),
            Event::Marker { operation, ipa, .. } => self.marker(record, operation, ipa, vcpu),
            Event::LockWait { ipa, ticks, .. } => {
                let waits = self.waits.entry(vcpu).or_default();
                // What came before on the track was over by then.
                let last = waits.last().map_or(0, |&(_, _, end)| end);
                let left = self.left.get(&vcpu).copied().unwrap_or(0);
                let begin = now.saturating_sub(ticks).max(last).max(left);
                waits.push((ipa, begin, now));
            }
            Event::Grace { ticks } => self.grace(stamp.cpu, ticks, now),
            Event::Frames { free, .. } => {
                self.counter("free frames", now, json!({"frames": free}));
            }
            _ => {}
        }
        self.coverage(record);
    }

    /// Shows the waits for locks that came before a fault of this vCPU was told, which began at
    /// `begin`. Those of the fault are in it. Its time was taken some moments before it was
    /// stamped, so it may seem to begin after them.
    fn show_waits_in(&mut self, vcpu: Track, begin: u64) {
        for (ipa, since, end) in self.waits.remove(&vcpu).unwrap_or_default() {
            let since = if end > begin { since.max(begin) } else { since };
            let args = json!({"ipa": format!("{ipa:#x}")});
            self.slice(vcpu, "wait for a table's lock", since, end, args);
        }
    }

    /// Shows the waits that no fault came after.
    fn show_waits(&mut self) {
        let tracks: Vec<_> = self.waits.keys().copied().collect();
        for track in tracks {
            self.show_waits_in(track, 0);
        }
    }

    /// A thread has left a CPU: both show for how long it was there.
    fn switched(&mut self, cpu: u8, from: u64, to: u64, now: u64) {
        let Some((thread, since)) = self.running.insert(cpu, (to, now)) else {
            return;
        };
        if thread != from || from < FIRST {
            return;
        }
        let name = self.threads.name(from).to_string();
        self.slice(cpu_track(cpu), &name, since, now, json!({}));
        if let Some(track) = self.own_track(from) {
            self.slice(track, &format!("on cpu{cpu}"), since, now, json!({}));
        }
    }

    /// A grace period, which its thread sleeps through: it overlaps what else the thread did.
    fn grace(&mut self, cpu: u8, ticks: u64, now: u64) {
        let Some(track) = self
            .running
            .get(&cpu)
            .and_then(|&(thread, _)| self.own_track(thread))
        else {
            return;
        };
        self.pairs += 1;
        for (phase, time) in [("b", now.saturating_sub(ticks)), ("e", now)] {
            let (ts, id) = (self.at(time), self.pairs);
            self.events.push(
                json!({"ph": phase, "cat": "grace", "name": "grace period", "id": id,
                "pid": track.0, "tid": track.1, "ts": ts}),
            );
        }
    }

    fn collapse(&mut self, vm: u8, step: Step, reason: &str, ipa: u64, now: u64) {
        let track = tables_track(vm);
        let ends = match step {
            Step::Begin => {
                self.open.insert((vm, ipa), now);
                return;
            }
            Step::Copy => {
                let args = json!({"ipa": format!("{ipa:#x}")});
                return self.instant(track, "copied", now, args);
            }
            Step::Commit => "collapse",
            Step::Abort => "collapse given up",
        };
        if let Some(since) = self.open.remove(&(vm, ipa)) {
            self.collapses.insert((vm, since));
            let args = json!({"ipa": format!("{ipa:#x}"), "reason": reason});
            self.slice(track, ends, since, now, args);
        }
    }

    /// An arrow from the collapse that goes on to the faults that met its marker.
    fn marker(&mut self, record: &Record, operation: Operation, ipa: u64, met: Track) {
        let (vm, now) = (record.stamp.vm, record.stamp.time);
        let args = json!({"ipa": format!("{ipa:#x}"), "work": operation.text()});
        self.instant(met, "marker met", now, args);
        let place = (vm, ipa / REGION * REGION);
        if let Some(&since) = self.open.get(&place) {
            let (vcpu, met) = (met, now);
            self.arrows.push(Arrow {
                vm,
                since,
                vcpu,
                met,
            });
        }
    }

    /// Makes the arrows that have a slice to begin in and one to end in.
    fn draw_arrows(&mut self) {
        for Arrow {
            vm,
            since,
            vcpu,
            met,
        } in mem::take(&mut self.arrows)
        {
            let faults = self.faults.get(&vcpu).map_or(&[][..], Vec::as_slice);
            let next = faults.partition_point(|&(_, end)| end < met);
            let in_fault = faults.get(next).is_some_and(|&(begin, _)| begin <= met);
            if !in_fault || !self.collapses.contains(&(vm, since)) {
                continue;
            }
            self.pairs += 1;
            let (from, to, id) = (self.at(since), self.at(met), self.pairs);
            let tables = tables_track(vm);
            self.events.extend([
                json!({"ph": "s", "id": id, "cat": "marker", "name": "marker",
                "pid": tables.0, "tid": tables.1, "ts": from}),
                json!({"ph": "f", "bp": "e", "id": id, "cat": "marker", "name": "marker",
                "pid": vcpu.0, "tid": vcpu.1, "ts": to}),
            ]);
        }
    }

    /// What pages and blocks map, whenever it has changed.
    fn coverage(&mut self, record: &Record) {
        let vm = record.stamp.vm;
        if vm == NOBODY {
            return;
        }
        // Pages come one by one; a step of a region's sixteenth is seen well enough.
        let space = self.spaces.entry(vm).or_default();
        space.apply(&record.event);
        let changes = matches!(record.event, Event::Split { .. } | Event::Collapse { .. });
        let fine = matches!(record.event, Event::Map { ipa, .. } if ipa % (REGION / 16) == 0);
        if !changes && !fine {
            return;
        }
        let (pages, blocks) = space.mapped();
        if self.mapped.insert(vm, (pages, blocks)) != Some((pages, blocks)) {
            let args = json!({"blocks": blocks >> 10, "pages": pages >> 10});
            self.counter(&format!("vm{vm} mapped, KiB"), record.stamp.time, args);
        }
    }
}

#[cfg(test)]
mod tests;
