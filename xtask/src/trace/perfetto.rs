//! A recording as the JSON that Perfetto's UI and Chrome's tracing open.
//!
//! Tracks: CPUs with the threads that run on them; vCPUs with their faults and the times they are in
//! the guest; for each VM its changes (collapses, splits, moves); counters of free frames and of what
//! blocks and pages map. An arrow leads from a collapse to each fault that met its marker.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trace::event::{NOBODY, Step, Work};
use trace::{Event, Record};

use super::Recording;
use super::space::{REGION, Space};

/// Groups of tracks.
const CPUS: u32 = 1;
const VCPUS: u32 = 2;
const CHANGES: u32 = 3;

/// The vCPUs that a VM can have.
const MAX_VCPUS: u32 = 8;

struct Writer<'r> {
    recording: &'r Recording,
    start: u64,
    events: Vec<Value>,
    /// The thread on each CPU, and since when.
    running: BTreeMap<u8, (u64, u64)>,
    /// Since when each vCPU has been in the guest.
    inside: BTreeMap<(u8, u8), u64>,
    /// Collapses that go on: when they began, by VM and address.
    open: BTreeMap<(u8, u64), u64>,
    spaces: BTreeMap<u8, Space>,
    mapped: BTreeMap<u8, (u64, u64)>,
    arrows: u64,
}

/// The recording in the JSON format of trace events.
pub fn json(recording: &Recording) -> Value {
    let mut writer = Writer {
        recording,
        start: recording.span().0,
        events: Vec::new(),
        running: BTreeMap::new(),
        inside: BTreeMap::new(),
        open: BTreeMap::new(),
        spaces: BTreeMap::new(),
        mapped: BTreeMap::new(),
        arrows: 0,
    };
    writer.name_tracks();
    for record in &recording.records {
        writer.add(record);
    }
    json!({ "traceEvents": writer.events, "displayTimeUnit": "ns" })
}

fn vcpu_track(vm: u8, vcpu: u8) -> u32 {
    u32::from(vm) * MAX_VCPUS + u32::from(vcpu)
}

impl Writer<'_> {
    fn name_tracks(&mut self) {
        let mut names = BTreeSet::new();
        for (group, name) in [(CPUS, "CPUs"), (VCPUS, "vCPUs"), (CHANGES, "tables")] {
            self.events.push(
                json!({"ph": "M", "pid": group, "name": "process_name", "args": {"name": name}}),
            );
        }
        for Record { stamp, .. } in &self.recording.records {
            names.insert((CPUS, u32::from(stamp.cpu), format!("cpu{}", stamp.cpu)));
            if stamp.vm != NOBODY {
                names.insert((CHANGES, u32::from(stamp.vm), format!("vm{}", stamp.vm)));
                if stamp.vcpu != NOBODY {
                    let name = format!("vm{} vcpu{}", stamp.vm, stamp.vcpu);
                    names.insert((VCPUS, vcpu_track(stamp.vm, stamp.vcpu), name));
                }
            }
        }
        for (group, track, name) in names {
            self.events
                .push(json!({"ph": "M", "pid": group, "tid": track,
                "name": "thread_name", "args": {"name": name}}));
        }
    }

    /// Microseconds since the first event, as the format wants them.
    fn at(&self, time: u64) -> f64 {
        self.recording.nanoseconds(time.saturating_sub(self.start)) as f64 / 1e3
    }

    fn slice(&mut self, (group, track): (u32, u32), name: &str, from: u64, to: u64, args: Value) {
        let (ts, end) = (self.at(from), self.at(to));
        self.events
            .push(json!({"ph": "X", "pid": group, "tid": track, "name": name,
            "ts": ts, "dur": end - ts, "args": args}));
    }

    fn instant(&mut self, (group, track): (u32, u32), name: &str, time: u64, args: Value) {
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
        let cpu = (CPUS, u32::from(stamp.cpu));
        let tables = (CHANGES, u32::from(stamp.vm));
        let vcpu = match stamp.vcpu {
            NOBODY => cpu,
            vcpu => (VCPUS, vcpu_track(stamp.vm, vcpu)),
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
                self.slice(vcpu, &name, now.saturating_sub(ticks), now, args);
            }
            Event::Switch { from, to } => {
                if let Some((thread, since)) = self.running.insert(stamp.cpu, (to, now))
                    && thread == from
                    && from > u64::from(MAX_VCPUS)
                {
                    self.slice(cpu, &format!("thread {from}"), since, now, json!({}));
                }
            }
            Event::Enter {} => {
                self.inside.insert((stamp.vm, stamp.vcpu), now);
            }
            Event::Exit { exit, pc, .. } => {
                if let Some(since) = self.inside.remove(&(stamp.vm, stamp.vcpu)) {
                    let args = json!({"exit": exit.text(), "pc": format!("{pc:#x}")});
                    self.slice(vcpu, "guest", since, now, args);
                }
            }
            Event::Collapse {
                step, reason, ipa, ..
            } => self.collapse(stamp.vm, step, reason.text(), ipa, now),
            Event::Split { ipa, .. } => self.instant(tables, "split", now, place(ipa)),
            Event::Move { ipa, .. } => self.instant(tables, "move", now, place(ipa)),
            Event::Detached { ipa, .. } => self.instant(tables, "table detached", now, place(ipa)),
            Event::Retry { ipa, .. } => self.instant(vcpu, "retry", now, place(ipa)),
            Event::Marker { work, ipa, .. } => self.marker(record, work, ipa, vcpu),
            Event::LockWait { ipa, ticks, .. } => {
                let since = now.saturating_sub(ticks);
                self.slice(vcpu, "wait for a table's lock", since, now, place(ipa));
            }
            Event::Grace { ticks } => {
                let since = now.saturating_sub(ticks);
                self.slice(cpu, "grace period", since, now, json!({}));
            }
            Event::Frames { free, .. } => {
                self.counter("free frames", now, json!({"frames": free}));
            }
            _ => {}
        }
        self.coverage(record);
    }

    fn collapse(&mut self, vm: u8, step: Step, reason: &str, ipa: u64, now: u64) {
        let track = (CHANGES, u32::from(vm));
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
            let args = json!({"ipa": format!("{ipa:#x}"), "reason": reason});
            self.slice(track, ends, since, now, args);
        }
    }

    /// An arrow from the collapse that goes on to whoever met its marker.
    fn marker(&mut self, record: &Record, work: Work, ipa: u64, met: (u32, u32)) {
        let (vm, now) = (record.stamp.vm, record.stamp.time);
        let args = json!({"ipa": format!("{ipa:#x}"), "work": work.text()});
        self.instant(met, "marker met", now, args);
        let place = (vm, ipa / REGION * REGION);
        let Some(&since) = self.open.get(&place) else {
            return;
        };
        self.arrows += 1;
        let (from, to, id) = (self.at(since), self.at(now), self.arrows);
        self.events.push(
            json!({"ph": "s", "id": id, "cat": "marker", "name": "marker",
            "pid": CHANGES, "tid": vm, "ts": from}),
        );
        self.events.push(
            json!({"ph": "f", "bp": "e", "id": id, "cat": "marker", "name": "marker",
            "pid": met.0, "tid": met.1, "ts": to}),
        );
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
