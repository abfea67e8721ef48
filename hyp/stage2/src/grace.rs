//! Read sections and grace periods.
//!
//! Owns the answer to one question: can anybody still look at a table that was detached? A CPU
//! announces in its own [`CpuSlot`] that it is inside a read section; a grace period has passed when
//! every CPU was seen outside, or inside a section that began after the grace period did. A table
//! frame is freed only after that.
//!
//! Invariants:
//! - A section's announcement is visible to all before its first load of an entry (the full fence
//!   in `Section::enter`); a grace period's detach is visible to all before it looks at the first
//!   slot (the full fence in [`Grace::begin`]). So either the reader sees the detach, or the grace
//!   period sees the reader.
//! - What a section has announced stands until the last section of its CPU ends. A handler may interrupt
//!   [`Section::enter`] and the end of a section between any two of their steps, and enter sections of its own that
//!   end before it returns: whoever finds no announcement makes one, whatever the count says, and nobody
//!   takes one back but who brings the count to zero. Nested or not, each section has its fence: an
//!   announcement that is found may be one whose fence is still to come.
//! - A slot is written by its own CPU alone; nothing that two CPUs write is on its cache lines.

use crate::env::{Cpus, Environment};
use crate::observe::{Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::{Counter, Counters};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::vmid::ActiveVmid;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64 as PlainAtomicU64, compiler_fence};

/// What this crate keeps for each CPU. The hypervisor provides the memory, through
/// [`Cpus::slots`].
#[repr(align(128))]
pub struct CpuSlot {
    /// The epoch in which the CPU's read section began; 0 outside.
    section: AtomicU64,
    /// How many sections are nested. Only its own CPU touches it, so it needs no modelling. In 64 bits no
    /// number of forgotten readers makes it wrap around.
    depth: PlainAtomicU64,
    /// Counts the markers made on this CPU, to tell them apart. Its own CPU's alone, like `depth`.
    tickets: PlainAtomicU64,
    pub(crate) vmid: ActiveVmid,
    pub(crate) counters: Counters,
}

impl CpuSlot {
    /// A CPU outside any section.
    #[cfg(not(loom))]
    #[allow(clippy::new_without_default)] // one a CPU, made in place
    pub const fn new() -> Self {
        Self {
            section: AtomicU64::new(0),
            depth: PlainAtomicU64::new(0),
            tickets: PlainAtomicU64::new(0),
            vmid: ActiveVmid::new(),
            counters: Counters::new(),
        }
    }

    /// A CPU outside any section.
    #[cfg(loom)]
    #[allow(clippy::new_without_default)] // as above
    pub fn new() -> Self {
        Self {
            section: AtomicU64::new(0),
            depth: PlainAtomicU64::new(0),
            tickets: PlainAtomicU64::new(0),
            vmid: ActiveVmid::new(),
            counters: Counters::new(),
        }
    }

    /// Whether the CPU is inside a read section. Exact on its own CPU: a scheduler can assert that
    /// it never switches threads inside one.
    pub fn in_section(&self) -> bool {
        self.depth.load(Ordering::Relaxed) != 0
    }

    /// # Panics
    ///
    /// Inside a read section.
    #[inline]
    pub(crate) fn assert_outside(&self) {
        if self.in_section() {
            inside_a_section();
        }
    }

    /// The epoch of the CPU's read section, 0 outside: for a checker. Exact on its own CPU.
    pub(crate) fn section(&self) -> u64 {
        self.section.load(Ordering::Relaxed)
    }

    /// A number that no other marker has: 12 bits of CPU above 36 bits of count. It comes again after 2^36
    /// markers of one CPU, days of nothing else, when the work of the first has long ended.
    pub(crate) fn next_ticket(&self, cpu: usize) -> u64 {
        let ticket = self.tickets.load(Ordering::Relaxed);
        self.tickets
            .store(ticket.wrapping_add(1), Ordering::Relaxed);
        (cpu as u64 & 0xfff) << 36 | ticket & ((1 << 36) - 1)
    }

    /// The events counted on this CPU.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Who changes tables may have to wait for others, who may wait for the section's end, or for a lock that is held
/// in it.
#[cold]
#[inline(never)]
fn inside_a_section() -> ! {
    panic!("a call that changes tables, or waits, was made inside a read section")
}

/// The count of grace periods that began, shared by all CPUs. Read on every entry of a section,
/// written only when a grace period begins.
pub struct Grace {
    epoch: AtomicU64,
}

/// A grace period under way.
#[must_use = "a grace period is of use only to whoever waits for its end"]
#[derive(Clone, Copy, Debug)]
pub struct GracePeriod {
    epoch: u64,
}

impl Grace {
    /// No grace period yet.
    #[cfg(not(loom))]
    #[allow(clippy::new_without_default)] // one a machine, made in place
    pub const fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
        }
    }

    /// No grace period yet.
    #[cfg(loom)]
    #[allow(clippy::new_without_default)] // as above
    pub fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
        }
    }

    /// Begins a grace period: it ends when every section that may have begun before now has ended.
    pub fn begin(&self) -> GracePeriod {
        // Pairs with the fence in `Section::enter`: what was detached before is seen by every
        // section whose announcement the look at the slots misses.
        fence(Ordering::SeqCst);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        fence(Ordering::SeqCst);
        GracePeriod { epoch }
    }

    /// Whether the grace period has ended.
    pub fn has_ended(&self, period: GracePeriod, slots: &[CpuSlot]) -> bool {
        slots.iter().all(|slot| {
            // Acquire: what the section did is before what follows its end.
            let section = slot.section.load(Ordering::Acquire);
            section == 0 || section >= period.epoch
        })
    }
}

impl<E: Environment> Stage2<E> {
    /// Waits until a grace period has passed, and tells whoever watches.
    ///
    /// # Panics
    ///
    /// Inside a read section: it would wait for itself.
    pub fn synchronize(&self) {
        self.may_wait();
        let cpus = self.env().cpus();
        let (grace, asked) = (cpus.grace(), self.env().clock());
        let period = grace.begin();
        let number = period.epoch;
        self.tell_checker(move |order| Observation::GraceBegun { order, number });
        while !grace.has_ended(period, cpus.slots()) {
            cpus.relax();
        }
        self.tell_checker(move |order| Observation::GraceEnded { order, number });
        self.count(Counter::GracePeriods);
        self.tell(Topic::Frees, move || Observation::GraceAwaited {
            ticks: self.env().clock().wrapping_sub(asked),
        });
    }
}

/// A read section: while it lasts, every table found through an entry stays readable.
///
/// Neither [`Send`] nor [`Sync`]: it belongs to the CPU that entered it.
#[must_use = "the section ends when this is dropped"]
pub struct Section<'c> {
    slot: &'c CpuSlot,
    not_send: PhantomData<*const ()>,
}

impl<'c> Section<'c> {
    /// Enters a section on this CPU. Sections nest.
    #[inline]
    pub(crate) fn enter<C: Cpus>(cpus: &'c C) -> Self {
        let slot = cpus.slot();
        let depth = slot.depth.load(Ordering::Relaxed);
        slot.depth.store(depth + 1, Ordering::Relaxed);
        // First counted, then looked: a handler that comes in between leaves what it finds announced.
        compiler_fence(Ordering::SeqCst);
        // What counts is the announcement: the section that this one interrupts may be about to make it.
        if slot.section.load(Ordering::Relaxed) == 0 {
            Self::announce(slot, cpus.grace());
        }
        Self::begun(slot)
    }

    /// As [`enter`](Self::enter), for who changes tables: the first of this CPU.
    ///
    /// # Panics
    ///
    /// Inside a section.
    #[inline(always)]
    pub(crate) fn enter_first<C: Cpus>(cpus: &'c C) -> Self {
        let slot = cpus.slot();
        slot.assert_outside();
        slot.depth.store(1, Ordering::Relaxed);
        Self::announce(slot, cpus.grace());
        Self::begun(slot)
    }

    #[inline(always)]
    fn announce(slot: &CpuSlot, grace: &Grace) {
        let epoch = grace.epoch.load(Ordering::Relaxed);
        // Release: whoever sees this section is past all that the ones before it have read.
        slot.section.store(epoch, Ordering::Release);
    }

    #[inline(always)]
    fn begun(slot: &'c CpuSlot) -> Self {
        // The announcement comes before every load of an entry, in the eyes of all CPUs. So also where another
        // section has made it, which this one may have interrupted before its own fence.
        fence(Ordering::SeqCst);
        Self {
            slot,
            not_send: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn slot(&self) -> &'c CpuSlot {
        self.slot
    }
}

impl Drop for Section<'_> {
    #[inline]
    fn drop(&mut self) {
        let depth = self.slot.depth.load(Ordering::Relaxed);
        self.slot.depth.store(depth - 1, Ordering::Relaxed);
        if depth == 1 {
            // Release: every read of the section comes before its end.
            self.slot.section.store(0, Ordering::Release);
        }
    }
}
