//! Read sections and grace periods.
//!
//! Owns the answer to one question: can any reader still look at a table that was detached? A CPU
//! announces in its own [`CpuSlot`] that it is inside a read section; a grace period has passed
//! when every CPU was seen outside, or inside a section that began after the grace period did. A
//! table frame is freed only after that.
//!
//! Invariants:
//! - A section's announcement is visible to all before its first load of an entry (the full fence
//!   in `Section::enter`); a grace period's detach is visible to all before it looks at the first
//!   slot (the full fences in `Grace::now` and `Grace::begin_after`). So either the reader sees the
//!   detach, or the grace period sees the reader.
//! - What a section has announced stands until the last section of its CPU ends. The announcement
//!   itself says that the CPU is in a section; what is counted beside it are the sections that
//!   found one. A handler may interrupt `Section::enter` and the end of a section between any two
//!   of their steps, and enter sections of its own that end before it returns: it leaves
//!   announcement and count as it has found them. Nested or not, each section has its fence: an
//!   announcement that is found may be one whose fence is still to come.
//! - A slot is written by its own CPU alone; nothing that two CPUs write is on its cache lines.

use crate::env::{Cpus, Environment};
use crate::observer::{Observation, Observer, Topic};
use crate::stage2::Stage2;
use crate::stats::{Counter, Counters};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::vmid::ActiveVmid;
use core::marker::PhantomData;
use core::sync::atomic::AtomicU64 as PlainAtomicU64;

/// What this crate keeps for each CPU. The hypervisor provides the memory, through
/// [`Cpus::slots`].
#[repr(align(128))]
pub struct CpuSlot {
    /// The epoch in which the CPU's read section began; 0 outside.
    section: AtomicU64,
    /// How many sections began inside another one. Only its own CPU touches it, so it needs no
    /// modelling. In 64 bits no number of forgotten readers makes it wrap around.
    nested: PlainAtomicU64,
    /// Counts the markers made on this CPU, to tell them apart. Its own CPU's alone, like `nested`.
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
            nested: PlainAtomicU64::new(0),
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
            nested: PlainAtomicU64::new(0),
            tickets: PlainAtomicU64::new(0),
            vmid: ActiveVmid::new(),
            counters: Counters::new(),
        }
    }

    /// Whether the CPU is inside a read section. Exact on its own CPU: a scheduler can assert that
    /// it never switches threads inside one.
    pub fn in_section(&self) -> bool {
        self.section() != 0
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

    /// Whether the CPU is in no section that may have begun before the grace period of this number
    /// did.
    fn is_past(&self, number: u64) -> bool {
        // Acquire: what the section did is before what follows its end.
        let section = self.section.load(Ordering::Acquire);
        section == 0 || section >= number
    }

    /// A number that no other marker has: 12 bits of CPU above 36 bits of count. It comes again
    /// after 2^36 markers of one CPU, days of nothing else, when the work of the first has long
    /// ended.
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

/// A thread that changes tables may have to wait for another one, which may wait for the section's
/// end, or for a lock that is held in it.
#[cold]
#[inline(never)]
fn inside_a_section() -> ! {
    panic!("a call that changes tables, or waits, was made inside a read section")
}

/// The count of grace periods that began, shared by all CPUs. Read on every entry of a section,
/// written only when a grace period begins or ends.
///
/// One that began after a table was detached will do for it, whichever CPU began it: so all waiters
/// of one time wait for one, and a waiter that asks late enough waits for none.
pub struct Grace {
    /// The youngest that began.
    epoch: AtomicU64,
    /// The youngest of which a CPU has seen the end.
    ended: AtomicU64,
}

/// A moment, as the youngest grace period that had begun by then. What was detached before it can
/// be reached by nobody once a younger one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before all other moments.
    pub(crate) const FIRST: Moment = Moment(0);

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}

impl Grace {
    /// No grace period yet.
    #[cfg(not(loom))]
    #[allow(clippy::new_without_default)] // one a machine, made in place
    pub const fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            ended: AtomicU64::new(1),
        }
    }

    /// No grace period yet.
    #[cfg(loom)]
    #[allow(clippy::new_without_default)] // as above
    pub fn new() -> Self {
        Self {
            epoch: AtomicU64::new(1),
            ended: AtomicU64::new(1),
        }
    }

    /// This moment, for what this CPU has just detached.
    pub(crate) fn now(&self) -> Moment {
        // Pairs with the fence in `Section::enter`, by way of the epoch: the CPU that makes it
        // larger than what is loaded here has a fence behind that. So what was detached before is
        // seen by every section whose announcement the look at the slots misses.
        fence(Ordering::SeqCst);
        Moment(self.epoch.load(Ordering::Relaxed))
    }

    /// Whether a grace period that began after `moment` is known to have ended.
    pub(crate) fn is_known_to_have_passed(&self, moment: Moment) -> bool {
        // Acquire: what the sections did is before what follows their end.
        self.ended.load(Ordering::Acquire) > moment.0
    }

    /// Sees to it that a grace period has begun after `moment`, and returns its number.
    fn begin_after(&self, moment: Moment) -> u64 {
        let number = moment.0 + 1;
        if self.epoch.load(Ordering::Relaxed) < number {
            // Another CPU may do it first: its will do.
            let _ =
                self.epoch
                    .compare_exchange(moment.0, number, Ordering::AcqRel, Ordering::Relaxed);
        }
        // Between the epoch, whichever CPU has changed it, and the look at the slots.
        fence(Ordering::SeqCst);
        number
    }
}

impl<E: Environment> Stage2<E> {
    /// Waits until a grace period has passed, and tells the observer.
    ///
    /// # Panics
    ///
    /// Inside a read section: it would wait for itself.
    pub fn synchronize(&self) {
        self.wait_since(self.env().cpus().grace().now());
    }

    /// Waits until a grace period has passed since `moment`, which one may have by now.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub(crate) fn wait_since(&self, moment: Moment) {
        self.may_wait();
        let cpus = self.env().cpus();
        if cpus.grace().is_known_to_have_passed(moment) {
            return;
        }
        let asked = self.env().observer().clock();
        let number = self.begin_grace_period(moment);
        while !self.grace_period_has_ended(number) {
            cpus.yield_now();
        }
        self.count(Counter::GracePeriods);
        self.trace(Topic::Frees, move || Observation::GraceAwaited {
            ticks: self.env().observer().clock().wrapping_sub(asked),
        });
    }

    /// Whether a grace period has passed since `moment`. Waits for nothing; a caller that goes on
    /// asking, outside read sections, is told in the end that one has.
    pub(crate) fn has_passed_since(&self, moment: Moment) -> bool {
        self.env().cpus().grace().is_known_to_have_passed(moment)
            || self.grace_period_has_ended(self.begin_grace_period(moment))
    }

    fn begin_grace_period(&self, moment: Moment) -> u64 {
        let number = self.env().cpus().grace().begin_after(moment);
        self.trace_protocol(move |order| Observation::GraceBegun { order, number });
        number
    }

    fn grace_period_has_ended(&self, number: u64) -> bool {
        let cpus = self.env().cpus();
        let ended = cpus.slots().iter().all(|slot| slot.is_past(number));
        if ended {
            // Told before a waiter relies on it.
            self.trace_protocol(move |order| Observation::GraceEnded { order, number });
            cpus.grace().ended.fetch_max(number, Ordering::Release);
        }
        ended
    }
}

/// A read section: while it lasts, every table found through an entry stays readable.
///
/// Neither [`Send`] nor [`Sync`]: it belongs to the CPU that entered it.
#[must_use = "the section ends when this is dropped"]
pub struct Section<'c, C: Cpus + 'c> {
    slot: &'c CpuSlot,
    not_send: PhantomData<*const ()>,
    // Dropped after `drop` below has ended the section.
    _pinned: C::Pinned<'c>,
}

impl<'c, C: Cpus> Section<'c, C> {
    /// Enters a section on this CPU. Sections nest.
    #[inline]
    pub(crate) fn enter(cpus: &'c C) -> Self {
        let pinned = cpus.pin();
        let slot = cpus.slot();
        if slot.in_section() {
            let nested = slot.nested.load(Ordering::Relaxed);
            slot.nested.store(nested + 1, Ordering::Relaxed);
        } else {
            Self::announce(slot, cpus.grace());
        }
        Self::begun(slot, pinned)
    }

    /// As [`enter`](Self::enter), for a thread that changes tables: the first of this CPU.
    ///
    /// # Panics
    ///
    /// Inside a section.
    #[inline(always)]
    pub(crate) fn enter_first(cpus: &'c C) -> Self {
        let pinned = cpus.pin();
        let slot = cpus.slot();
        slot.assert_outside();
        Self::announce(slot, cpus.grace());
        Self::begun(slot, pinned)
    }

    #[inline(always)]
    fn announce(slot: &CpuSlot, grace: &Grace) {
        let epoch = grace.epoch.load(Ordering::Relaxed);
        // Release: a waiter that sees this section is past all that the ones before it have read.
        slot.section.store(epoch, Ordering::Release);
    }

    #[inline(always)]
    fn begun(slot: &'c CpuSlot, pinned: C::Pinned<'c>) -> Self {
        // The announcement comes before every load of an entry, in the eyes of all CPUs. So also
        // where another section has made it, which this one may have interrupted before its own
        // fence.
        fence(Ordering::SeqCst);
        Self {
            slot,
            not_send: PhantomData,
            _pinned: pinned,
        }
    }

    #[inline]
    pub(crate) fn slot(&self) -> &'c CpuSlot {
        self.slot
    }
}

impl<C: Cpus> Drop for Section<'_, C> {
    #[inline]
    fn drop(&mut self) {
        match self.slot.nested.load(Ordering::Relaxed) {
            // Release: every read of the section comes before its end.
            0 => self.slot.section.store(0, Ordering::Release),
            nested => self.slot.nested.store(nested - 1, Ordering::Relaxed),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{CpuSlot, Grace, Moment};
    use crate::fake::{FakeMachine, Setup};
    use crate::stage2::Stage2;
    use crate::{Cpus, Environment};
    use core::sync::atomic::Ordering;

    /// As many readers were forgotten as 32 bits can count.
    #[test]
    fn forgotten_readers_do_not_wrap_around() {
        let machine = FakeMachine::new(Setup::default());
        let vm = Stage2::new(&machine, machine.config(1)).unwrap();
        let _pinned = machine.cpus().pin();
        let slot = machine.cpus().slot();
        assert!(!slot.in_section() && slot.section() == 0);
        core::mem::forget(vm.read());
        slot.nested.store(u32::MAX.into(), Ordering::Relaxed);
        let [first, second] = [vm.read(), vm.read()];
        drop(first);
        assert!(slot.in_section() && slot.section() != 0);
        drop(second);
        assert!(slot.in_section() && slot.section() != 0);
    }

    /// One grace period does for all who wait since one moment, and the moments behind it are later
    /// ones.
    #[test]
    fn a_grace_period_begins_once_after_a_moment() {
        let grace = Grace::new();
        for _ in 0..2 {
            let before = grace.now();
            let number = grace.begin_after(before);
            assert!(grace.now() > before);
            assert_eq!(grace.begin_after(before), number);
            assert_eq!(grace.now(), Moment::from_bits(number));
            assert_eq!(grace.now().bits(), number);
        }
    }

    /// The reader of a ticket knows the CPU, and that CPU has given no other marker the same.
    #[test]
    fn a_ticket_is_a_cpus_next_number() {
        let slot = CpuSlot::new();
        assert_eq!(
            [slot.next_ticket(5), slot.next_ticket(5)],
            [5 << 36, 5 << 36 | 1]
        );
        // Both have bits of their own, of which there are 12 and 36.
        slot.tickets.store((7 << 36) + 9, Ordering::Relaxed);
        assert_eq!(slot.next_ticket(0x1003), 3 << 36 | 9);
    }
}
