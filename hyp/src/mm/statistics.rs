//! What happened to tables and frames, for a person to read.

use log::info;
use stage2::PAGE_SHIFT;
use stage2::stats::Counter;

use super::machine;
use crate::{percpu, tracing};

/// What log lines say that they are of.
const TARGET: &str = "memory";

/// Shows how often what happened to guests' tables, on all CPUs together.
pub(crate) fn show_statistics() {
    info!(target: TARGET, "tables:");
    for &counter in Counter::ALL {
        let count: u64 = percpu::slots()
            .iter()
            .map(|slot| slot.counters().get(counter))
            .sum();
        info!(target: TARGET, "  {count:>12} {}", counter.text());
    }
}

/// Shows what frames are used for, and sends the trace of what has happened so far.
pub(crate) fn show_usage() {
    let usage = machine().allocator().usage();
    let kib = |frames: usize| (frames as u64) << PAGE_SHIFT >> 10;
    info!(target: TARGET, "frames, in KiB:");
    for (frames, what) in [
        (usage.total, "in all"),
        (usage.free + usage.cached + usage.isolated, "free"),
        (usage.data, "guests' memory"),
        (usage.reserved, "set aside for guests"),
        (usage.tables, "tables"),
        (usage.hypervisor, "the hypervisor's own"),
        (usage.low_water, "free at the worst moment"),
    ] {
        info!(target: TARGET, "  {:>12} {what}", kib(frames));
    }
    tracing::drain();
}
