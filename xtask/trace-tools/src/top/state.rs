//! What the view shows: the machine as its console and its trace tell of it so far.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use trace::event::NOBODY;
use trace::frame::Header;
use trace::{Event, Record};

use crate::Losses;
use crate::kind::Kind;
use crate::space::Space;
use crate::threads::{FIRST, Thread, Threads};

/// How often rates are taken.
pub(super) const SAMPLE: Duration = Duration::from_millis(500);
/// How many samples are kept.
const HISTORY: usize = 240;
/// How many samples a rate is the mean of.
const MEAN_OF: usize = 2;
/// How many lines of the console are kept.
const LINES: usize = 200;

/// A CPU.
#[derive(Clone, Debug, Default)]
pub(super) struct Cpu {
    /// Since when the thread on it runs, in ticks.
    since: u64,
    /// For how long it was not idle before that, in ticks.
    busy: u64,
    /// The share of the last sample in which it was not idle, in percent.
    pub(super) load: u64,
    /// Where that sample began: the time and `busy` at that time.
    mark: (u64, u64),
}

/// A vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vcpu {
    /// The CPU that it was on last.
    pub(super) cpu: u8,
    /// Its faults on memory.
    pub(super) faults: u64,
    /// Its faults in the last sample, a second.
    pub(super) rate: u64,
    /// Its faults when that sample began.
    mark: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Ticks a second.
    frequency: u64,
    /// The latest event's time, in ticks.
    now: u64,
    /// When the last sample was taken, since the start.
    sampled: Duration,
    /// The memory of each VM.
    pub(super) spaces: BTreeMap<u8, Space>,
    pub(super) cpus: BTreeMap<u8, Cpu>,
    pub(super) vcpus: BTreeMap<(u8, u8), Vcpu>,
    threads: Threads,
    /// How often each kind has happened.
    pub(super) counts: [u64; Kind::COUNT],
    /// What was counted in each sample, the latest last.
    samples: VecDeque<[u64; Kind::COUNT]>,
    /// What was counted when the last sample was taken.
    mark: [u64; Kind::COUNT],
    /// Free frames and all of them, once that is known.
    pub(super) frames: Option<(u64, u64)>,
    /// Events that were lost.
    lost: Losses,
    /// The console's last lines.
    pub(super) console: VecDeque<String>,
    /// The start of the line that comes next.
    pub(super) partial: String,
    /// How the run ended, once it has.
    pub(super) end: Option<String>,
}

impl State {
    /// Takes the counter's frequency, in Hz.
    pub(super) fn frequency(&mut self, frequency: u64) {
        self.frequency = frequency;
    }

    /// Takes in that a frame of so many records came.
    pub(super) fn arrived(&mut self, header: &Header, records: u64) {
        self.lost.add(header, records, 0);
    }

    /// Takes the next event. Those of one CPU come in their order.
    pub(super) fn event(&mut self, record: &Record) {
        let (stamp, event) = (record.stamp, &record.event);
        self.now = self.now.max(stamp.time);
        if let Event::Switch { from, .. } = *event {
            let first = || Cpu {
                since: stamp.time,
                mark: (stamp.time, 0),
                ..Cpu::default()
            };
            let cpu = self.cpus.entry(stamp.cpu).or_insert_with(first);
            if from >= FIRST {
                cpu.busy += stamp.time.saturating_sub(cpu.since);
            }
            cpu.since = stamp.time;
        }
        self.threads.see(record);
        if let Some(kind) = Kind::of(event) {
            self.counts[kind as usize] += 1;
        }
        if stamp.vm != NOBODY {
            self.spaces.entry(stamp.vm).or_default().apply(event);
            if stamp.vcpu != NOBODY {
                let vcpu = self.vcpus.entry((stamp.vm, stamp.vcpu)).or_default();
                vcpu.cpu = stamp.cpu;
                vcpu.faults += u64::from(Kind::of(event) == Some(Kind::Fault));
            }
        }
        if let Event::Frames { free, total } = *event {
            self.frames = Some((free, total));
        }
    }

    /// Takes a line of the console.
    pub(super) fn line(&mut self, line: &str) {
        self.partial.clear();
        self.console.push_back(line.to_owned());
        if self.console.len() > LINES {
            self.console.pop_front();
        }
    }

    /// Takes samples, where it is time for that, `elapsed` after the start.
    pub(super) fn sample(&mut self, elapsed: Duration) {
        let length = elapsed.saturating_sub(self.sampled);
        if length < SAMPLE {
            return;
        }
        self.sampled = elapsed;
        let (counts, mark) = (self.counts, self.mark);
        let per_second = |count: u64| count * 1000 / length.as_millis().max(1) as u64;
        self.samples.push_back(std::array::from_fn(|kind| {
            per_second(counts[kind] - mark[kind])
        }));
        self.mark = counts;
        if self.samples.len() > HISTORY {
            self.samples.pop_front();
        }
        for vcpu in self.vcpus.values_mut() {
            vcpu.rate = per_second(vcpu.faults - vcpu.mark);
            vcpu.mark = vcpu.faults;
        }
        self.sample_cpus();
    }

    fn sample_cpus(&mut self) {
        for (&number, cpu) in &mut self.cpus {
            let runs = self
                .threads
                .on(number)
                .is_some_and(|thread| thread >= FIRST);
            let open = if runs {
                self.now.saturating_sub(cpu.since)
            } else {
                0
            };
            let busy = cpu.busy + open;
            let length = self.now.saturating_sub(cpu.mark.0);
            let busy_since = busy.saturating_sub(cpu.mark.1);
            if let Some(share) = (busy_since * 100).checked_div(length) {
                cpu.load = share.min(100);
                cpu.mark = (self.now, busy);
            }
        }
    }

    /// How often this happens, a second.
    pub(super) fn rate(&self, kind: Kind) -> u64 {
        let last = self.samples.iter().rev().take(MEAN_OF);
        let count = last.len().max(1) as u64;
        last.map(|sample| sample[kind as usize]).sum::<u64>() / count
    }

    /// The rates of the last samples, at most so many, the latest last.
    pub(super) fn history(&self, kind: Kind, most: usize) -> Vec<u64> {
        let from = self.samples.len().saturating_sub(most);
        let samples = self.samples.range(from..);
        samples.map(|sample| sample[kind as usize]).collect()
    }

    /// What is on a CPU.
    pub(super) fn thread_on(&self, cpu: u8) -> Option<Thread> {
        self.threads.on(cpu).map(|number| self.threads.name(number))
    }

    /// All events that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.total()
    }

    /// The machine's time in seconds, once it is known.
    pub(super) fn seconds(&self) -> f64 {
        self.now as f64 / self.frequency.max(1) as f64
    }

    /// The VMs whose memory is known.
    pub(super) fn vms(&self) -> Vec<u8> {
        let known = self.spaces.iter();
        known
            .filter(|(_, space)| !space.regions.is_empty())
            .map(|(&vm, _)| vm)
            .collect()
    }
}
