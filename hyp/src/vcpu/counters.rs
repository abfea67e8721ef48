//! How often a vCPU left its guest, and why.

use core::sync::atomic::{AtomicU64, Ordering};

/// Why a vCPU left its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A stage-2 fault on memory.
    Fault,
    /// A load or store to an emulated device.
    Mmio,
    /// HVC or SMC.
    Call,
    /// A trapped system register.
    Register,
    /// WFI or WFE.
    Wait,
    /// A physical interrupt.
    Interrupt,
    /// Something that was answered with an exception.
    Injected,
}

/// The reasons with their names.
const EXITS: [(Exit, &str); 7] = [
    (Exit::Fault, "faults"),
    (Exit::Mmio, "mmio"),
    (Exit::Call, "calls"),
    (Exit::Register, "registers"),
    (Exit::Wait, "waits"),
    (Exit::Interrupt, "interrupts"),
    (Exit::Injected, "injected"),
];

/// A counter for each reason. Written by the vCPU's thread only, read by anyone.
#[derive(Debug)]
pub(crate) struct Counters([AtomicU64; EXITS.len()]);

impl Counters {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; EXITS.len()])
    }

    /// Begins anew. Only while the vCPU is off.
    pub(crate) fn clear(&self) {
        self.0
            .iter()
            .for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    /// Counts one exit. Only for the vCPU's own thread.
    pub(crate) fn count(&self, exit: Exit) {
        let counter = &self.0[exit as usize];
        // Not a read-modify-write: there is one writer.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The names of the reasons, with the sums over `counters`.
    pub(crate) fn sums<'c>(
        counters: impl Iterator<Item = &'c Self> + Clone,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        EXITS.into_iter().map(move |(exit, name)| {
            let one = |counters: &Self| counters.0[exit as usize].load(Ordering::Relaxed);
            (name, counters.clone().map(one).sum())
        })
    }
}
