//! An environment that asserts the contract of another one: for the tests of an embedder.
//!
//! Owns [`Checked`], which hands each call on, and panics where an answer, or the moment of a call,
//! breaks a promise of [`env`](crate::Environment). It sees what can be seen from outside: that a
//! frame is zeroed and given once, not that a TLBI was executed. Frames of which nothing has been
//! allocated are not looked at.
//!
//! ```
//! use stage2::fake::{FakeMachine, Setup};
//! use stage2::{Attributes, Checked, DirtyState, Ipa, Level, Stage2};
//!
//! let machine = FakeMachine::new(Setup::default());
//! let vm = Stage2::new(Checked::new(&machine), machine.config(1)).unwrap();
//! let page = machine.data().allocate(Level::L3).unwrap();
//! vm.map_page(Ipa::new(0), page, Attributes::RAM, DirtyState::Dirty).unwrap();
//! ```
//!
//! Lock order: `known` comes after all table locks. The window's calls are made under it, which
//! take no lock of this crate.

mod frames;
#[cfg(any(unix, windows))]
mod host;

use crate::env::{Cpus, Environment};
use crate::grace::{CpuSlot, Grace};
use crate::meta::Owner;
use crate::observer::{Observation, Observer, Topic};
use crate::sync::{AtomicU64, Lock, Ordering};
use crate::vmid::VmidAllocator;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::sync::atomic::AtomicUsize;

/// An environment that panics when the one in it breaks its contract.
///
/// It costs a lock and a search at each step of a lookup, and a lookup by an interrupt handler may
/// wait for that lock for ever: it belongs into tests on a host.
pub struct Checked<E> {
    pub(crate) env: E,
    known: Lock<Known>,
    parts: [FirstPlace; 4],
    of_cpus: [FirstPlace; 3],
    pins: Box<[Pins]>,
    /// The largest number that [`Observer::next_order`] has given.
    order: AtomicU64,
}

/// The frames that have been allocated at some time.
#[derive(Default)]
struct Known {
    frames: BTreeMap<u64, KnownFrame>,
    /// Which frame has the metadata at this place.
    metas: BTreeMap<usize, u64>,
}

#[derive(Clone, Copy)]
struct KnownFrame {
    meta: usize,
    is_allocated: bool,
}

/// Where something was when it was first asked for; 0 before.
struct FirstPlace(AtomicUsize);

/// The pins of one CPU.
struct Pins {
    count: AtomicUsize,
    thread: AtomicUsize,
}

impl<E: Environment> Checked<E> {
    /// Checks `env` from now on, of which no frame is a table yet.
    pub fn new(env: E) -> Self {
        let cpus = env.cpus().slots().len();
        assert!(cpus > 0, "Cpus::slots: there is no CPU");
        let pins = |_| Pins {
            count: AtomicUsize::new(0),
            thread: AtomicUsize::new(0),
        };
        Self {
            env,
            known: Lock::new(Known::default()),
            parts: [const { FirstPlace(AtomicUsize::new(0)) }; 4],
            of_cpus: [const { FirstPlace(AtomicUsize::new(0)) }; 3],
            pins: (0..cpus).map(pins).collect(),
            order: AtomicU64::new(0),
        }
    }

    /// The environment that is checked.
    pub fn inner(&self) -> &E {
        &self.env
    }

    /// Where `thing` is, in a way that stays the same when this value is moved.
    fn place<T: ?Sized>(&self, thing: &T) -> usize {
        let (this, thing) = (
            core::ptr::from_ref(self).addr(),
            core::ptr::from_ref(thing).cast::<u8>().addr(),
        );
        let offset = thing.wrapping_sub(this);
        // Not 0, which stands for what was not asked for yet.
        if offset < size_of::<Self>() {
            offset + 1
        } else {
            thing
        }
    }

    fn assert_same<'t, T: ?Sized>(&self, first: &FirstPlace, name: &str, thing: &'t T) -> &'t T {
        let place = self.place(thing);
        let seen = first
            .0
            .compare_exchange(0, place, Ordering::Relaxed, Ordering::Relaxed);
        // What has no size may be anywhere.
        let differs = size_of_val(thing) > 0 && seen.is_err_and(|seen| seen != place);
        if differs && !host::is_panicking() {
            panic!("{name}: is not the same at all times");
        }
        thing
    }

    fn frames(&self) -> &E::Frames {
        self.assert_same(&self.parts[0], "Environment::frames", self.env.frames())
    }

    fn window(&self) -> &E::TableWindow {
        self.assert_same(&self.parts[1], "Environment::window", self.env.window())
    }

    fn cpus(&self) -> &E::Cpus {
        self.assert_same(&self.parts[3], "Environment::cpus", self.env.cpus())
    }

    fn checked_current(&self) -> usize {
        let (current, cpus) = (self.cpus().current(), self.pins.len());
        assert!(current < cpus, "Cpus::current: {current} of {cpus} CPUs");
        current
    }

    /// What may wait is called neither in a read section nor with a lock held.
    fn assert_unpinned(&self, call: &str) {
        let _pinned = self.cpus().pin();
        let count = &self.pins[self.checked_current()].count;
        assert_eq!(
            count.load(Ordering::Relaxed),
            0,
            "{call}: was called in a read section, or with a lock held"
        );
    }
}

/// Keeps a thread on its CPU, and looks at the end whether it has stayed there.
pub struct CheckedPin<'c, E: Environment + 'c> {
    checked: &'c Checked<E>,
    pub(crate) cpu: usize,
    // Dropped after `drop` below has looked at the CPU.
    _pinned: <E::Cpus as Cpus>::Pinned<'c>,
}

impl<E: Environment> Drop for CheckedPin<'_, E> {
    fn drop(&mut self) {
        self.checked.pins[self.cpu]
            .count
            .fetch_sub(1, Ordering::Relaxed);
        if !host::is_panicking() {
            assert_eq!(
                self.checked.checked_current(),
                self.cpu,
                "Cpus::pin: the thread was moved to another CPU"
            );
        }
    }
}

// SAFETY: every answer is that of the environment's own CPUs.
unsafe impl<E: Environment> Cpus for Checked<E> {
    type Pinned<'c>
        = CheckedPin<'c, E>
    where
        Self: 'c;

    fn pin(&self) -> CheckedPin<'_, E> {
        host::assert_not_tracing();
        let pinned = self.cpus().pin();
        let cpu = self.checked_current();
        let (pins, thread) = (&self.pins[cpu], host::thread());
        if pins.count.load(Ordering::Acquire) == 0 {
            pins.thread.store(thread, Ordering::Relaxed);
        }
        assert_eq!(
            pins.thread.load(Ordering::Relaxed),
            thread,
            "Cpus::pin: two threads run on CPU {cpu}"
        );
        pins.count.fetch_add(1, Ordering::Release);
        CheckedPin {
            checked: self,
            cpu,
            _pinned: pinned,
        }
    }

    fn slots(&self) -> &[CpuSlot] {
        let slots = self.cpus().slots();
        assert_eq!(slots.len(), self.pins.len(), "Cpus::slots: their number");
        self.assert_same(&self.of_cpus[0], "Cpus::slots", slots)
    }

    fn grace(&self) -> &Grace {
        self.assert_same(&self.of_cpus[1], "Cpus::grace", self.cpus().grace())
    }

    fn vmids(&self) -> &VmidAllocator {
        self.assert_same(&self.of_cpus[2], "Cpus::vmids", self.cpus().vmids())
    }

    fn current(&self) -> usize {
        self.checked_current()
    }

    fn slot(&self) -> &CpuSlot {
        let (slot, current) = (self.cpus().slot(), self.checked_current());
        assert!(
            core::ptr::eq(slot, &self.slots()[current]),
            "Cpus::slot: is not that of CPU {current}"
        );
        slot
    }

    fn yield_now(&self) {
        self.assert_unpinned("Cpus::yield_now");
        self.cpus().yield_now();
    }

    fn cond_resched(&self) {
        self.assert_unpinned("Cpus::cond_resched");
        self.cpus().cond_resched();
    }
}

impl<E: Environment> Observer for Checked<E> {
    fn traces(&self, topic: Topic) -> bool {
        self.env.observer().traces(topic)
    }

    fn traces_any<const N: usize>(&self, topics: [Topic; N]) -> bool {
        self.env.observer().traces_any(topics)
    }

    fn trace(&self, owner: Owner, what: Observation) {
        host::while_tracing(|| self.env.observer().trace(owner, what));
    }

    fn next_order(&self) -> u64 {
        let before = self.order.load(Ordering::SeqCst);
        let order = self.env.observer().next_order();
        assert!(
            order > before,
            "Observer::next_order: {order} after {before}"
        );
        self.order.fetch_max(order, Ordering::SeqCst);
        order
    }

    fn clock(&self) -> u64 {
        self.env.observer().clock()
    }
}

// SAFETY: the parts are this value, and the environment's TLB, which is asserted to be the same at
// all times.
unsafe impl<E: Environment> Environment for Checked<E> {
    type Frames = Self;
    type TableWindow = Self;
    type Tlb = E::Tlb;
    type Cpus = Self;
    type Observer = Self;

    fn frames(&self) -> &Self {
        self
    }

    fn window(&self) -> &Self {
        self
    }

    fn tlb(&self) -> &E::Tlb {
        self.assert_same(&self.parts[2], "Environment::tlb", self.env.tlb())
    }

    fn cpus(&self) -> &Self {
        self
    }

    fn observer(&self) -> &Self {
        self
    }
}

#[cfg(not(any(unix, windows)))]
mod host {
    //! As the file of this name, where a thread cannot be told from another.

    pub(super) fn thread() -> usize {
        1
    }

    pub(super) fn is_panicking() -> bool {
        false
    }

    pub(super) fn assert_not_tracing() {}

    pub(super) fn while_tracing(trace: impl FnOnce()) {
        trace();
    }
}
