//! The hypervisor's threads, recognised by what they do: events have a thread's number only where
//! one takes the CPU from another.

use std::collections::BTreeMap;
use std::fmt;

use trace::event::NOBODY;
use trace::{Event, Record};

/// The first number that is not an idle thread's.
pub(crate) const FIRST: u64 = 8;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    /// A CPU has nothing to do.
    Idle,
    /// The vCPU of this VM and number.
    Vcpu(u8, u8),
    /// It collapses and moves.
    Compaction,
    /// It sends the trace.
    Trace,
    /// Something else, or it was not seen to do anything yet.
    Other(u64),
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.pad("idle"),
            Self::Vcpu(vm, vcpu) => f.pad(&format!("vm{vm} vcpu{vcpu}")),
            Self::Compaction => f.pad("compaction"),
            Self::Trace => f.pad("trace"),
            Self::Other(number) => f.pad(&format!("thread {number}")),
        }
    }
}

/// What is known of the threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads {
    known: BTreeMap<u64, Thread>,
    /// The number of the thread on each CPU.
    current: BTreeMap<u8, u64>,
}

impl Threads {
    /// Takes the next event of its CPU.
    pub(crate) fn see(&mut self, record: &Record) {
        let stamp = record.stamp;
        if let Event::Switch { to, .. } = record.event {
            self.current.insert(stamp.cpu, to);
        }
        let Some(&number) = self.current.get(&stamp.cpu) else {
            return;
        };
        let thread = match record.event {
            Event::Switch { .. } if stamp.vcpu != NOBODY => Thread::Vcpu(stamp.vm, stamp.vcpu),
            Event::Collapse { .. } | Event::Migrate { .. } if stamp.vcpu == NOBODY => {
                Thread::Compaction
            }
            Event::Frames { .. } => Thread::Trace,
            _ => return,
        };
        self.known.insert(number, thread);
    }

    /// What the thread of this number is for.
    pub(crate) fn name(&self, number: u64) -> Thread {
        match self.known.get(&number) {
            _ if number < FIRST => Thread::Idle,
            Some(&thread) => thread,
            None => Thread::Other(number),
        }
    }

    /// The number of the thread on a CPU, if one was seen to take it.
    pub(crate) fn on(&self, cpu: u8) -> Option<u64> {
        self.current.get(&cpu).copied()
    }
}
