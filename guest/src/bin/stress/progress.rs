//! What each vCPU has done so far, for the watch over vCPUs that hang and for the lines at the end.

use core::{
    fmt::{self, Display, Formatter},
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use guest::machine::MAX_VCPUS;

/// What is counted, with its name in the plural.
#[derive(Clone, Copy)]
pub(crate) enum Activity {
    Step,
    FirstTouch,
    Write,
    Check,
    Addition,
    Put,
    Take,
    Call,
    RegisterCheck,
    Release,
    Mismatch,
}

const NAMES: [&str; 11] = [
    "steps",
    "first touches",
    "writes",
    "checks",
    "additions",
    "puts",
    "takes",
    "calls of fresh code",
    "register checks",
    "pages released",
    "mismatches",
];

/// One vCPU's progress. Only that vCPU writes to it.
#[repr(align(64))]
pub(crate) struct Progress {
    counts: [AtomicU64; NAMES.len()],
    ipa: AtomicU64,
    done: AtomicBool,
}

static PROGRESS: [Progress; MAX_VCPUS] = [const { Progress::new() }; MAX_VCPUS];

/// The progress of vCPU `vcpu`.
pub(crate) fn of(vcpu: usize) -> &'static Progress {
    &PROGRESS[vcpu]
}

impl Progress {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; NAMES.len()],
            ipa: AtomicU64::new(0),
            done: AtomicBool::new(false),
        }
    }

    /// Counts one more of `activity`.
    pub(crate) fn count(&self, activity: Activity) {
        let count = &self.counts[activity as usize];
        count.store(count.load(Relaxed) + 1, Relaxed);
    }

    /// How many of `activity` there were.
    pub(crate) fn counted(&self, activity: Activity) -> u64 {
        self.counts[activity as usize].load(Relaxed)
    }

    /// Notes that the page at `ipa` is the next to be used.
    pub(crate) fn at(&self, ipa: u64) {
        self.ipa.store(ipa, Relaxed);
    }

    /// The page used last.
    pub(crate) fn last_ipa(&self) -> u64 {
        self.ipa.load(Relaxed)
    }

    /// Notes that the vCPU has finished: everything it wrote is visible to who sees this.
    pub(crate) fn finish(&self) {
        self.done.store(true, Release);
    }

    /// Whether it has.
    pub(crate) fn is_finished(&self) -> bool {
        self.done.load(Acquire)
    }

    /// Adds `other`'s counts to these.
    pub(crate) fn add(&self, other: &Self) {
        for (sum, count) in self.counts.iter().zip(&other.counts) {
            sum.store(sum.load(Relaxed) + count.load(Relaxed), Relaxed);
        }
    }
}

impl Display for Progress {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, (name, count)) in NAMES.iter().zip(&self.counts).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} {name}", count.load(Relaxed))?;
        }
        Ok(())
    }
}
