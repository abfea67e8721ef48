//! The CPUs, for the table manager.

use platform::board::MAX_CPUS;
use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::VmidAllocator;

use crate::{percpu, sched};

static GRACE: Grace = Grace::new();

/// The CPUs of the board.
pub(crate) struct Cpus {
    count: usize,
    vmids: VmidAllocator,
}

impl Cpus {
    /// So many, not more than [`MAX_CPUS`], with VMIDs of so many bits.
    pub(crate) fn new(count: usize, vmid_bits: u32) -> Self {
        Self {
            count: count.min(MAX_CPUS),
            vmids: VmidAllocator::new(vmid_bits),
        }
    }
}

// SAFETY: `slots` is a static, cut to the CPUs that there are, and `current` this CPU's number,
// which is below their count; there is one machine, which has one `Cpus` and so one allocator of
// VMIDs. EL2 runs with interrupts masked and switches threads only where a thread asks for it; the
// scheduler asserts that it is in no read section then. A thread that holds a table lock is in one,
// or lets a claim go, and calls nothing meanwhile that would let others run.
unsafe impl stage2::Cpus for Cpus {
    /// EL2's threads are not preempted.
    type Pinned<'c> = ();

    #[inline(always)]
    fn pin(&self) {}

    fn slots(&self) -> &[CpuSlot] {
        &percpu::slots()[..self.count]
    }

    fn grace(&self) -> &Grace {
        &GRACE
    }

    fn vmids(&self) -> &VmidAllocator {
        &self.vmids
    }

    #[inline]
    fn current(&self) -> usize {
        percpu::this().index()
    }

    // Asked at every fault.
    #[inline]
    fn slot(&self) -> &CpuSlot {
        // SAFETY: `Percpu` has no number above `MAX_CPUS`.
        unsafe { percpu::slots().get_unchecked(self.current()) }
    }

    fn yield_now(&self) {
        sched::yield_now();
    }

    fn cond_resched(&self) {
        sched::cond_resched();
    }
}
