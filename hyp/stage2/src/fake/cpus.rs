//! Which thread is which CPU.
//!
//! Owns the CPUs' slots and the thread's memory of the CPU that it is. Threads are not moved
//! between CPUs, and a CPU is one thread at a time; breaking this is a panic.

use crate::env::Cpus;
use crate::grace::{CpuSlot, Grace};
use crate::vmid::VmidAllocator;
use core::cell::Cell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};

#[cfg(not(any(loom, shuttle)))]
std::thread_local! {
    static CPU: Cell<Option<usize>> = const { Cell::new(None) };
    /// How many [`FakePin`]s the thread has.
    static PINS: Cell<usize> = const { Cell::new(0) };
}

#[cfg(shuttle)]
shuttle::thread_local! {
    static CPU: Cell<Option<usize>> = Cell::new(None);
}

#[cfg(loom)]
loom::thread_local! {
    static CPU: Cell<Option<usize>> = Cell::new(None);
    static RELAXED: Cell<u32> = Cell::new(0);
}

/// The index of the CPU that the calling thread is.
pub(super) fn current() -> usize {
    current_if_any().expect("this thread is no CPU: call FakeMachine::on_cpu first")
}

/// The same, if it is one.
pub(super) fn current_if_any() -> Option<usize> {
    CPU.with(Cell::get)
}

/// To the model checker a yield means that the thread cannot go on before another one has: needed
/// where a thread waits, which is in a loop, but not to be believed of a single call.
#[cfg(loom)]
fn yield_every_other_time() {
    let calls = RELAXED.with(|calls| calls.replace(calls.get() + 1));
    if calls % 2 == 1 {
        loom::thread::yield_now();
    }
}

struct Cpu {
    // Detects errors only, so it is not the model checker's.
    occupied: AtomicBool,
}

/// The CPUs of a [`FakeMachine`](super::FakeMachine).
pub struct FakeCpus {
    cpus: Box<[Cpu]>,
    slots: Box<[CpuSlot]>,
    grace: Grace,
    vmids: VmidAllocator,
}

impl FakeCpus {
    pub(super) fn new(count: usize, vmid_bits: u32) -> Self {
        let cpu = |_| Cpu {
            occupied: AtomicBool::new(false),
        };
        let this = Self {
            cpus: (0..count).map(cpu).collect(),
            slots: (0..count).map(|_| CpuSlot::new()).collect(),
            grace: Grace::new(),
            vmids: VmidAllocator::new(vmid_bits),
        };
        this.cpus[0].occupied.store(true, Ordering::Relaxed);
        CPU.with(|cpu| cpu.set(Some(0)));
        this
    }

    pub(super) fn occupy(&self, cpu: usize) -> OnCpu<'_> {
        let before = CPU.with(Cell::get);
        self.go(before, Some(cpu));
        OnCpu {
            cpus: self,
            cpu,
            before,
            not_send: PhantomData,
        }
    }

    /// The calling thread goes from one CPU to another.
    fn go(&self, from: Option<usize>, to: Option<usize>) {
        if let Some(cpu) = from {
            self.cpus[cpu].occupied.store(false, Ordering::Release);
        }
        if let Some(cpu) = to {
            let taken = self.cpus[cpu].occupied.swap(true, Ordering::AcqRel);
            assert!(!taken, "CPU {cpu} is another thread already");
        }
        CPU.with(|current| current.set(to));
    }

    /// How often an event was counted, on all CPUs together.
    pub fn counted(&self, counter: crate::stats::Counter) -> u64 {
        self.slots
            .iter()
            .map(|slot| slot.counters().get(counter))
            .sum()
    }
}

/// The calling thread is a CPU until this is dropped, and then again the one that it was before.
pub struct OnCpu<'c> {
    cpus: &'c FakeCpus,
    cpu: usize,
    before: Option<usize>,
    not_send: PhantomData<*const ()>,
}

impl Drop for OnCpu<'_> {
    fn drop(&mut self) {
        // A thread that failed may leave other threads where they are.
        if !std::thread::panicking() {
            self.cpus.go(Some(self.cpu), self.before);
        }
    }
}

/// Keeps a thread on its CPU: going to another one, and waiting, is a panic as long as it lives. So
/// is looking up the CPU without one. (The checkers have enough to do without.)
pub struct FakePin(PhantomData<*const ()>);

impl FakePin {
    fn new() -> Self {
        #[cfg(not(any(loom, shuttle)))]
        PINS.set(PINS.get() + 1);
        Self(PhantomData)
    }
}

impl Drop for FakePin {
    fn drop(&mut self) {
        #[cfg(not(any(loom, shuttle)))]
        PINS.set(PINS.get() - 1);
    }
}

fn assert_pinned(_is: bool) {
    #[cfg(not(any(loom, shuttle)))]
    assert_eq!(PINS.get() > 0, _is, "whether the thread is pinned");
}

// SAFETY: the slots are made once; `current` is the index of a CPU that `occupy` (or `new`, for the
// thread that made the machine) found in the same list and gave to this thread alone; threads keep
// their CPU for as long as they hold the token, which is not `Send`.
unsafe impl Cpus for FakeCpus {
    type Pinned<'c> = FakePin;

    fn pin(&self) -> FakePin {
        FakePin::new()
    }

    fn slots(&self) -> &[CpuSlot] {
        &self.slots
    }

    fn grace(&self) -> &Grace {
        &self.grace
    }

    fn vmids(&self) -> &VmidAllocator {
        &self.vmids
    }

    fn current(&self) -> usize {
        assert_pinned(true);
        current()
    }

    fn yield_now(&self) {
        assert_pinned(false);
        #[cfg(loom)]
        yield_every_other_time();
        #[cfg(shuttle)]
        shuttle::thread::yield_now();
        #[cfg(not(any(loom, shuttle)))]
        std::thread::yield_now();
    }
}
