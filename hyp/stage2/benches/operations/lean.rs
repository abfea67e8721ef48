//! A machine that costs next to nothing: frames from a counter, no TLB, CPUs that are threads.
//!
//! Unlike `stage2::fake` it checks nothing, so that what is measured is the table manager.

use std::ptr::with_exposed_provenance_mut;

use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::{Vmid, VmidAllocator};
use stage2::{
    Cpus, ENTRIES, Environment, Frames, IpaRange, Loaded, OutOfFrames, PAGE_SIZE, Pa, Published,
    Scope, Table, TableFrame, TableMeta, TableWindow, Tlb,
};

use crate::arena::{Arena, cpu};

/// A frame's metadata, on a cache line of its own as it is at EL2.
#[repr(align(64))]
struct Meta(TableMeta);

/// The machine.
pub(crate) struct Lean {
    tables: Arena<Table>,
    metas: Box<[Meta]>,
    slots: Box<[CpuSlot]>,
    grace: Grace,
    vmids: VmidAllocator,
}

impl Lean {
    /// A machine with room for so many tables for each CPU.
    pub(crate) fn new(cpus: usize, each: usize) -> Self {
        Self {
            tables: Arena::new(cpus, each, || Table::EMPTY),
            metas: (0..cpus * each).map(|_| Meta(TableMeta::new())).collect(),
            slots: (0..cpus).map(|_| CpuSlot::new()).collect(),
            grace: Grace::new(),
            vmids: VmidAllocator::new(16),
        }
    }
}

// SAFETY: a frame is in one store, or taken; each has one element of `metas`.
unsafe impl Frames for Lean {
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        assert_eq!(order, 0, "the tables here have one root");
        let address = self.tables.take(Table::EMPTY).ok_or(OutOfFrames)?;
        Ok(Pa::new(address as u64))
    }

    fn allocate_filled_table(&self) -> Result<Pa, OutOfFrames> {
        let address = self.tables.take_as_it_is().ok_or(OutOfFrames)?;
        Ok(Pa::new(address as u64))
    }

    fn free_tables(&self, table: TableFrame, _: u32) {
        self.tables.give(table.pa().get() as usize);
    }

    #[inline]
    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        let meta = self.metas.get(self.tables.index(pa.get() as usize));
        meta.map(|meta| &meta.0)
    }
}

// SAFETY: each frame has contents of its own.
unsafe impl TableWindow for Lean {
    type Ref<'a> = &'a Table;

    #[inline]
    fn table(&self, table: TableFrame) -> &Table {
        // SAFETY: it is a frame from `allocate_tables` that was not given back.
        unsafe { self.tables.get(table.pa().get() as usize) }
    }

    #[inline]
    fn fill(&self, table: TableFrame, first: u64, step: u64) {
        let entries = with_exposed_provenance_mut::<[u64; ENTRIES]>(table.pa().get() as usize);
        // SAFETY: the caller names a frame that he has taken and nobody else can reach.
        let entries = unsafe { &mut *entries };
        // With a step that is known it takes no multiplication.
        match step {
            PAGE_SIZE => store_sequence(entries, first, PAGE_SIZE),
            _ => store_sequence(entries, first, step),
        }
    }
}

#[inline(always)]
fn store_sequence(entries: &mut [u64; ENTRIES], first: u64, step: u64) {
    for (index, entry) in (0..).zip(entries) {
        *entry = first.wrapping_add(index * step);
    }
}

// SAFETY: there are no translation caches.
unsafe impl Tlb for Lean {
    fn load(&self, _: Option<Loaded>) {}
    fn publish(&self) {}
    fn finish_walks(&self) {}
    fn invalidate(&self, _: Published, _: Vmid, _: IpaRange, _: Scope) {}
    fn invalidate_local(&self, _: Vmid, _: IpaRange, _: Scope) {}
    fn invalidate_all(&self) {}
}

// SAFETY: `slots` never changes; each thread is a CPU of its own and stays it.
unsafe impl Cpus for Lean {
    type Pinned<'c> = ();

    fn pin(&self) {}

    #[inline]
    fn slots(&self) -> &[CpuSlot] {
        &self.slots
    }

    #[inline]
    fn grace(&self) -> &Grace {
        &self.grace
    }

    fn vmids(&self) -> &VmidAllocator {
        &self.vmids
    }

    #[inline]
    fn current(&self) -> usize {
        cpu()
    }

    fn yield_now(&self) {
        std::thread::yield_now();
    }
}

// SAFETY: all parts are the machine itself.
unsafe impl Environment for Lean {
    type Frames = Self;
    type TableWindow = Self;
    type Tlb = Self;
    type Cpus = Self;
    type Observer = ();

    #[inline]
    fn frames(&self) -> &Self {
        self
    }

    #[inline]
    fn window(&self) -> &Self {
        self
    }

    #[inline]
    fn tlb(&self) -> &Self {
        self
    }

    #[inline]
    fn cpus(&self) -> &Self {
        self
    }

    fn observer(&self) -> &() {
        &()
    }
}
