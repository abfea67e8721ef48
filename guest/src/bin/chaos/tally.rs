//! What each vCPU has done in this life.

use core::fmt::{self, Display, Formatter};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use guest::machine::MAX_VCPUS;

use crate::kinds::KINDS;

/// Steps that go into the digest.
pub(crate) const DIGESTED: u64 = 64;

/// One vCPU's count. Only that vCPU writes to it.
#[repr(align(64))]
pub(crate) struct Tally {
    kinds: [AtomicU64; KINDS.len()],
    pub(crate) steps: AtomicU64,
    pub(crate) exceptions: AtomicU64,
    pub(crate) interrupts: AtomicU64,
    digest: AtomicU64,
}

static TALLIES: [Tally; MAX_VCPUS] = [const { Tally::new() }; MAX_VCPUS];

/// The tally of vCPU `vcpu`.
pub(crate) fn of(vcpu: usize) -> &'static Tally {
    &TALLIES[vcpu]
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

impl Tally {
    const fn new() -> Self {
        Self {
            kinds: [const { AtomicU64::new(0) }; KINDS.len()],
            steps: AtomicU64::new(0),
            exceptions: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            digest: AtomicU64::new(0),
        }
    }

    /// Counts a step that is about to be taken; returns how many were counted before.
    pub(crate) fn begin(&self) -> u64 {
        let before = self.steps.load(Relaxed);
        self.steps.store(before + 1, Relaxed);
        before
    }

    /// Notes that step number `number` is of this kind, and what it is.
    pub(crate) fn note(&self, number: u64, kind: usize, digest: u64) {
        count(&self.kinds[kind]);
        if number < DIGESTED {
            let before = self.digest.load(Relaxed);
            self.digest.store(before.rotate_left(1) ^ digest, Relaxed);
        }
    }

    /// The digest of the first steps, of which there must have been [`DIGESTED`].
    pub(crate) fn digest(&self) -> u64 {
        self.digest.load(Relaxed)
    }
}

/// The sum over all vCPUs of what `field` chooses.
pub(crate) fn sum(field: impl Fn(&'static Tally) -> &'static AtomicU64) -> u64 {
    TALLIES.iter().map(|tally| field(tally).load(Relaxed)).sum()
}

/// How often each kind was done by all vCPUs together.
pub(crate) struct Kinds;

impl Display for Kinds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, kind) in KINDS.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}{} {}",
                kind.name,
                sum(|tally| &tally.kinds[index])
            )?;
        }
        Ok(())
    }
}
