//! VMIDs with generations.
//!
//! Owns the assignment of the hardware's few VMIDs (8 or 16 bits) to any number of VMs. A VM keeps
//! its VMID for a generation; when all are taken a new generation begins, every TLB is emptied, and
//! VMs get a VMID anew when they next run.
//!
//! Invariants:
//! - VMID 0 is never a guest's.
//! - A VM that is running on some CPU while the generation changes keeps its number: it is reserved
//!   in the new generation, so no other VM gets it.
//! - The cell of a VM changes only under the allocator's lock.
//! - A CPU announces another VM as the one that it runs when the walks for the one before have
//!   ended.
//!
//! # Why a change that finds no VMID need not be flushed
//!
//! A changes an entry and looks for the VM's number; B gives the VM a number, first or anew after a
//! change of generation, and walks the tables under it. What must not be: A finds no number, or the
//! one before, and B's walk finds the old entry. It would stay in a TLB under a number for which
//! nobody invalidates it.
//!
//! | A, in `Stage2::flush` | B, in `activate` |
//! |---|---|
//! | stores the entry | stores the number |
//! | **DSB** ([`Tlb::publish`]) | **DSB** ([`Tlb::publish`]) |
//! | loads the number | loads VTTBR_EL2; walks |
//!
//! Each side needs its own. A walker is no CPU: A's entry is certain to be what walks find when a
//! DSB of A has completed, and not by any acquire, release or `dmb`. And B's walk is no access in
//! B's program: only a DSB keeps it from being made while B's store of the number is still on its
//! way to A. `ishst` is enough for both: what has to be complete are stores, and a DSB, unlike a
//! `dmb`, holds up all that follows it, loads and writes of registers included, until they are (Arm
//! ARM, "Data Synchronization Barrier"). A's load is possible only with the [`Published`] that its
//! DSB gave.
//!
//! A CPU that runs a VM which has its number already needs no DSB for this: it has loaded the
//! number, after the CPU that stored it, and VTTBR_EL2 is written with what was loaded. So its
//! walks come after A's look, if that missed the number, and with it after A's DSB.
//!
//! A's invalidation of a number that is no more does no harm: what was cached under it went when
//! its generation ended, and if it is another VM's by then that one loses translations which it
//! will find again. But nobody may *walk* the old VM's tables under it any more. So a CPU that goes
//! to another VM, or another number, first waits for the walks that it began for the one before
//! ([`Tlb::finish_walks`]), which new ones cannot follow while it is at EL2, and then announces the
//! next in its slot; as long as a slot has it, a number is reserved.
//!
//! Lock order: the allocator's lock is taken with no table lock held, and nothing is taken under
//! it.

use crate::addr::Pa;
use crate::env::Tlb;
use crate::flush::Published;
use crate::grace::CpuSlot;
use crate::sync::{AtomicU64, Lock, Ordering};
use core::sync::atomic::AtomicU64 as PlainAtomicU64;

/// As many as the architecture has. Threads of the model checker have no room for so many.
const NUMBER_BITS: u32 = if cfg!(loom) { 8 } else { 16 };
const NUMBERS: usize = 1 << NUMBER_BITS;
const NUMBER_MASK: u64 = NUMBERS as u64 - 1;
const FIRST_GENERATION: u64 = 1 << NUMBER_BITS;

/// A VMID as the hardware knows it (VTTBR_EL2.VMID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vmid(u16);

impl Vmid {
    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// A VMID that no allocator has given.
    #[cfg(feature = "fake")]
    pub(crate) const fn new(number: u16) -> Self {
        Self(number)
    }
}

/// The VMID of one VM, with its generation.
pub(crate) struct VmidCell(AtomicU64);

impl VmidCell {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The number last given to the VM; none before it first ran.
    ///
    /// Walks under any other number, and all walks if there is none, find what was stored before
    /// the DSB.
    #[inline]
    pub(crate) fn number(&self, _published: &Published) -> Option<Vmid> {
        let number = self.0.load(Ordering::Relaxed) & NUMBER_MASK;
        (number != 0).then_some(Vmid(number as u16))
    }
}

/// What each CPU runs, part of its slot.
pub(crate) struct ActiveVmid {
    /// The root that VTTBR_EL2 names, with [`LOADED`] set; 0 for none. The CPU's own to write.
    loaded: AtomicU64,
    /// Cell value of the VM that the CPU runs; 0 since a new generation began.
    active: AtomicU64,
    /// What it ran when the generation changed. Under the allocator's lock.
    reserved: PlainAtomicU64,
}

impl ActiveVmid {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            loaded: AtomicU64::new(0),
            active: AtomicU64::new(0),
            reserved: PlainAtomicU64::new(0),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            loaded: AtomicU64::new(0),
            active: AtomicU64::new(0),
            reserved: PlainAtomicU64::new(0),
        }
    }
}

/// Set in [`ActiveVmid::loaded`] when tables are.
const LOADED: u64 = 1;

impl ActiveVmid {
    /// VTTBR_EL2 has been written, and what it named before is not walked any more.
    #[inline]
    pub(crate) fn set_loaded(&self, root: Option<Pa>) {
        let word = root.map_or(0, |root| root.get() | LOADED);
        // Release: a CPU that sees that a root has gone comes after the last walk from it.
        self.loaded.store(word, Ordering::Release);
    }

    /// Whether VTTBR_EL2 names this root.
    pub(crate) fn has_loaded(&self, root: Pa) -> bool {
        self.loaded.load(Ordering::Acquire) == root.get() | LOADED
    }
}

/// Gives VMIDs to VMs. One a machine: see [`Cpus::vmids`](crate::Cpus::vmids).
pub struct VmidAllocator {
    generation: AtomicU64,
    lock: Lock,
    /// Which numbers are taken in this generation. Under the lock.
    taken: [PlainAtomicU64; NUMBERS / 64],
    numbers: usize,
}

impl VmidAllocator {
    /// An allocator of VMIDs with this many bits: 8 or 16 (ID_AA64MMFR1_EL1.VMIDBits).
    #[cfg(not(loom))]
    pub const fn new(bits: u32) -> Self {
        Self {
            generation: AtomicU64::new(FIRST_GENERATION),
            lock: Lock::new(()),
            taken: [const { PlainAtomicU64::new(0) }; NUMBERS / 64],
            numbers: if bits >= NUMBER_BITS {
                NUMBERS
            } else {
                1 << bits
            },
        }
    }

    /// An allocator of VMIDs with this many bits.
    #[cfg(loom)]
    pub fn new(bits: u32) -> Self {
        Self {
            generation: AtomicU64::new(FIRST_GENERATION),
            lock: Lock::new(()),
            taken: [const { PlainAtomicU64::new(0) }; NUMBERS / 64],
            numbers: 1 << bits.min(NUMBER_BITS),
        }
    }

    /// The VMID under which this CPU, of index `cpu`, is about to run the VM of `cell`; called at
    /// EL2, before the VM is loaded onto the CPU, whose VTTBR_EL2 then keeps the number until
    /// another is loaded.
    ///
    /// # Panics
    ///
    /// See [`Stage2::load`](crate::Stage2::load).
    pub(crate) fn activate<T: Tlb>(
        &self,
        tlb: &T,
        slots: &[CpuSlot],
        cpu: usize,
        cell: &VmidCell,
    ) -> Vmid {
        let active = &slots[cpu].vmid.active;
        let value = cell.0.load(Ordering::Relaxed);
        let old = active.load(Ordering::Relaxed);
        if old != value {
            // From the exchange on, what the CPU has run is not reserved any more.
            tlb.finish_walks();
        }
        // A new generation first swaps every `active` for 0: the exchange fails if that came first.
        let current = old != 0
            && generation(value) == self.generation.load(Ordering::Acquire)
            && active
                .compare_exchange(old, value, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        let value = if current {
            value
        } else {
            self.activate_slowly(tlb, slots, cpu, cell)
        };
        Vmid((value & NUMBER_MASK) as u16)
    }

    #[cold]
    fn activate_slowly<T: Tlb>(
        &self,
        tlb: &T,
        slots: &[CpuSlot],
        cpu: usize,
        cell: &VmidCell,
    ) -> u64 {
        assert!(
            self.numbers >= slots.len() + 2,
            "{} VMIDs are too few for {} CPUs",
            self.numbers,
            slots.len()
        );
        tlb.finish_walks();
        let _guard = self.lock.lock();
        let mut value = cell.0.load(Ordering::Relaxed);
        if generation(value) != self.generation.load(Ordering::Relaxed) {
            value = self.assign(tlb, slots, value);
            cell.0.store(value, Ordering::Relaxed);
        }
        slots[cpu].vmid.active.store(value, Ordering::Release);
        // Before the CPU walks under the number, every CPU that looks for it finds it.
        tlb.publish();
        value
    }

    /// A value of the current generation for a VM whose last was `old`. Under the lock.
    fn assign<T: Tlb>(&self, tlb: &T, slots: &[CpuSlot], old: u64) -> u64 {
        let number = (old & NUMBER_MASK) as usize;
        if number != 0 {
            let kept = self.generation.load(Ordering::Relaxed) | number as u64;
            if replace_reserved(slots, old, kept) || self.take(number) {
                return kept;
            }
        }
        let free = self.take_any().unwrap_or_else(|| {
            self.begin_generation(tlb, slots);
            self.take_any()
                .expect("each CPU has reserved one number at most")
        });
        self.generation.load(Ordering::Relaxed) | free as u64
    }

    fn begin_generation<T: Tlb>(&self, tlb: &T, slots: &[CpuSlot]) {
        self.generation
            .fetch_add(FIRST_GENERATION, Ordering::AcqRel);
        for word in &self.taken {
            word.store(0, Ordering::Relaxed);
        }
        for slot in slots {
            let mut running = slot.vmid.active.swap(0, Ordering::AcqRel);
            if running == 0 {
                running = slot.vmid.reserved.load(Ordering::Relaxed);
            }
            slot.vmid.reserved.store(running, Ordering::Relaxed);
            let number = (running & NUMBER_MASK) as usize;
            if number != 0 {
                self.take(number);
            }
        }
        tlb.invalidate_all();
    }

    /// Takes a number; says whether it was free.
    fn take(&self, number: usize) -> bool {
        let word = &self.taken[number / 64];
        let taken = word.load(Ordering::Relaxed);
        let bit = 1 << (number % 64);
        word.store(taken | bit, Ordering::Relaxed);
        taken & bit == 0
    }

    fn take_any(&self) -> Option<usize> {
        let free = (1..self.numbers)
            .find(|n| self.taken[n / 64].load(Ordering::Relaxed) >> (n % 64) & 1 == 0)?;
        self.take(free);
        Some(free)
    }
}

fn generation(value: u64) -> u64 {
    value & !NUMBER_MASK
}

/// Renames `old` to `new` wherever a CPU has it reserved; says whether one has.
fn replace_reserved(slots: &[CpuSlot], old: u64, new: u64) -> bool {
    let mut found = false;
    for slot in slots {
        if slot.vmid.reserved.load(Ordering::Relaxed) == old {
            slot.vmid.reserved.store(new, Ordering::Relaxed);
            found = true;
        }
    }
    found
}
