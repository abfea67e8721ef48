//! What belongs to one CPU, reached through `TPIDR_EL2`.
//!
//! `TPIDR_EL2` holds the address of this CPU's [`PerCpu`] from the first instructions on (see
//! `boot::entry`) and never changes. The structures are statics, so a reference to one is good for
//! ever; what changes in them is atomic or written by its own CPU only, as each field says.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aarch64_cpu::registers::{Readable, TPIDR_EL2};
use platform::board::{MAX_CPUS, Mpidr};
use stage2::grace::CpuSlot;

use crate::el2::stacks;

/// The registers of a CPU whose EL2 took an exception, as the vectors save them.
#[repr(C)]
pub(crate) struct FatalFrame {
    /// x0 to x30.
    pub(crate) x: [u64; 31],
    /// The stack pointer that was in use.
    pub(crate) sp: u64,
    /// Which of the sixteen vectors was taken.
    pub(crate) vector: u64,
}

impl FatalFrame {
    /// Nothing saved yet.
    const EMPTY: Self = Self {
        x: [0; 31],
        sp: 0,
        vector: 0,
    };
}

/// The state of one CPU. Aligned so that no two CPUs share a cache line.
#[repr(C, align(64))]
pub(crate) struct PerCpu {
    /// Where the registers go when EL2 itself takes an exception; written by the vectors only.
    pub(crate) fatal: UnsafeCell<FatalFrame>,
    /// The stack that exceptions of EL2 itself are reported on: the one in use may be the trouble.
    pub(crate) emergency_stack_top: AtomicUsize,
    /// The stack this CPU starts on, which becomes its idle thread's.
    pub(crate) boot_stack_top: AtomicUsize,
    index: usize,
    mpidr: AtomicU64,
}

// SAFETY: Every field but `fatal` is atomic or never written. `fatal` is written by its own CPU's
// vectors, and read after that by the same CPU, which never leaves the handler.
unsafe impl Sync for PerCpu {}

/// Every CPU's state; the first is that of the CPU that the loader entered.
pub(crate) static PER_CPU: [PerCpu; MAX_CPUS] = [
    PerCpu::new(0),
    PerCpu::new(1),
    PerCpu::new(2),
    PerCpu::new(3),
    PerCpu::new(4),
    PerCpu::new(5),
    PerCpu::new(6),
    PerCpu::new(7),
];

impl PerCpu {
    const fn new(index: usize) -> Self {
        Self {
            fatal: UnsafeCell::new(FatalFrame::EMPTY),
            emergency_stack_top: AtomicUsize::new(0),
            boot_stack_top: AtomicUsize::new(0),
            index,
            mpidr: AtomicU64::new(0),
        }
    }

    /// The CPU's number: 0 is the first, and they are without gaps.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The CPU's affinity, by which firmware and interrupt controller name it.
    pub(crate) fn mpidr(&self) -> Mpidr {
        Mpidr::from_raw(self.mpidr.load(Ordering::Relaxed))
    }

    /// Says which hardware CPU this is and gives it its stacks, before it is started.
    pub(crate) fn prepare(&self, mpidr: Mpidr) {
        self.mpidr.store(mpidr.raw(), Ordering::Relaxed);
        self.boot_stack_top
            .store(stacks::boot_stack_top(self.index), Ordering::Relaxed);
        self.emergency_stack_top
            .store(stacks::emergency_stack_top(self.index), Ordering::Release);
    }
}

/// The state of the CPU that this runs on.
///
/// A thread that gives up its CPU may go on on another; the reference then names the old one.
pub(crate) fn this() -> &'static PerCpu {
    let address = TPIDR_EL2.get() as *const PerCpu;
    // SAFETY: The entry code set TPIDR_EL2 to an element of PER_CPU, and nothing else writes it.
    unsafe { &*address }
}

/// What the table manager keeps of each CPU.
static SLOTS: [CpuSlot; MAX_CPUS] = [const { CpuSlot::new() }; MAX_CPUS];

/// What the table manager keeps of each CPU there may be.
pub(crate) fn slots() -> &'static [CpuSlot; MAX_CPUS] {
    &SLOTS
}
