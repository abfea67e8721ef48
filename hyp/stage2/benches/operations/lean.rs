//! A machine that costs next to nothing: frames from a counter, no TLB, CPUs that are threads.
//!
//! Unlike `stage2::fake` it checks nothing, so that what is measured is the table manager.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::Vmid;
use stage2::{
    Cpus, Environment, Frames, IpaRange, OutOfFrames, PAGE_SIZE, Pa, Scope, Table, TableMeta, Tlb,
    Window,
};

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Makes the current thread this CPU of every machine. Each thread is another one.
pub(crate) fn be_cpu(cpu: usize) {
    CPU.set(cpu);
}

/// A frame's metadata, on a cache line of its own as it is at EL2.
#[repr(align(64))]
struct Meta(TableMeta);

/// The machine.
pub(crate) struct Lean {
    tables: Box<[Table]>,
    metas: Box<[Meta]>,
    used: AtomicUsize,
    slots: Box<[CpuSlot]>,
    grace: Grace,
}

impl Lean {
    /// A machine with room for so many tables, which are never given back.
    pub(crate) fn new(cpus: usize, tables: usize) -> Self {
        Self {
            tables: (0..tables).map(|_| Table::empty()).collect(),
            metas: (0..tables).map(|_| Meta(TableMeta::new())).collect(),
            used: AtomicUsize::new(0),
            slots: (0..cpus).map(|_| CpuSlot::new()).collect(),
            grace: Grace::new(),
        }
    }
}

fn index(pa: Pa) -> usize {
    (pa.get() / PAGE_SIZE) as usize
}

// SAFETY: the counter hands each range of frames out once, and each frame has one element of `metas`.
unsafe impl Frames for Lean {
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        let count = 1 << order;
        // Aligned to their size only where there is one, or where they are the first.
        let first = self.used.fetch_add(count, Ordering::Relaxed);
        if first + count > self.tables.len() {
            return Err(OutOfFrames);
        }
        Ok(Pa::new(first as u64 * PAGE_SIZE))
    }

    fn free_tables(&self, _: Pa, _: u32) {}

    #[inline]
    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        self.metas.get(index(pa)).map(|meta| &meta.0)
    }
}

// SAFETY: each frame has one element of `tables`.
unsafe impl Window for Lean {
    type Ref<'a> = &'a Table;

    #[inline]
    fn table(&self, pa: Pa) -> &Table {
        &self.tables[index(pa)]
    }
}

// SAFETY: there are no translation caches.
unsafe impl Tlb for Lean {
    fn invalidate(&self, _: Vmid, _: IpaRange, _: Scope) {}
    fn invalidate_local(&self, _: Vmid, _: IpaRange, _: Scope) {}
    fn publish(&self) {}
}

// SAFETY: `slots` never changes; each thread is a CPU of its own and stays it.
unsafe impl Cpus for Lean {
    #[inline]
    fn slots(&self) -> &[CpuSlot] {
        &self.slots
    }

    #[inline]
    fn grace(&self) -> &Grace {
        &self.grace
    }

    #[inline]
    fn current(&self) -> usize {
        CPU.get()
    }

    fn relax(&self) {
        std::thread::yield_now();
    }
}

impl Environment for Lean {
    type Frames = Self;
    type Window = Self;
    type Tlb = Self;
    type Cpus = Self;

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
}
