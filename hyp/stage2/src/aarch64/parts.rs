//! The simplest parts of an environment that do, and what puts parts together.

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, Pa};
use crate::env::{Cpus, Environment, Frames, OutOfFrames, Table, TableFrame, TableWindow, Tlb};
use crate::grace::{CpuSlot, Grace};
use crate::meta::TableMeta;
use crate::sync::Lock;
use crate::vmid::VmidAllocator;
use core::{fmt, ptr};

/// A linear map: the memory at physical address `x` is at the address `x + offset`, all of it and
/// at all times.
#[derive(Clone, Copy, Debug)]
pub struct LinearWindow {
    offset: u64,
}

impl LinearWindow {
    /// Memory appears at its physical address and so many bytes.
    ///
    /// # Safety
    ///
    /// It does: every frame that is given to [`Frames`](crate::Frames) of the same environment is
    /// mapped there, readable and writable, as Normal memory that is inner shareable and
    /// write-back.
    pub const unsafe fn new(offset: u64) -> Self {
        Self { offset }
    }
}

// SAFETY: as the maker of the value has promised.
unsafe impl TableWindow for LinearWindow {
    type Ref<'a> = &'a Table;

    #[inline(always)]
    fn table(&self, table: TableFrame) -> &Table {
        let address = table.pa().get().wrapping_add(self.offset);
        // SAFETY: a table frame is 4 KiB of memory, mapped here, aligned as `Table` is, and used as
        // a table only: all accesses to it are atomic. It is not freed while a read section lasts.
        unsafe { &*ptr::with_exposed_provenance(address as usize) }
    }
}

/// `N` frames for tables in memory of the program's own, with their metadata: enough for a small
/// hypervisor, or for the first steps of a large one.
///
/// Made in a `static`, so that its frames stay where they are. The program's memory is at its
/// physical address.
pub struct FramePool<const N: usize> {
    tables: [Table; N],
    metas: [TableMeta; N],
    /// Which frames are taken.
    taken: Lock<[bool; N]>,
}

impl<const N: usize> fmt::Debug for FramePool<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramePool")
            .field("frames", &N)
            .finish_non_exhaustive()
    }
}

impl<const N: usize> FramePool<N> {
    /// All frames free.
    #[cfg(not(any(loom, shuttle)))]
    #[allow(clippy::new_without_default)] // a static, made in place
    pub const fn new() -> Self {
        Self {
            tables: [const { Table::EMPTY }; N],
            metas: [const { TableMeta::new() }; N],
            taken: Lock::new([false; N]),
        }
    }

    /// How many frames are free.
    pub fn free(&'static self) -> usize {
        self.taken.lock().iter().filter(|taken| !**taken).count()
    }

    fn first(&self) -> u64 {
        self.tables.as_ptr().expose_provenance() as u64
    }

    /// The index of the frame at `pa`.
    fn index(&self, pa: Pa) -> Option<usize> {
        let index = pa.get().checked_sub(self.first())? >> PAGE_SHIFT;
        (index < N as u64).then_some(index as usize)
    }
}

// SAFETY: a frame is handed out once until it is given back, under the lock; it was zero at first,
// and is zeroed when it is given back. Runs are aligned by their address. Each frame has its own
// metadata, in a field that stays where it is.
unsafe impl<const N: usize> Frames for &'static FramePool<N> {
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        let count = 1usize << order;
        let bytes = PAGE_SIZE << order;
        let mut taken = self.taken.lock();
        let pa = |index: usize| Pa::new(self.first() + ((index as u64) << PAGE_SHIFT));
        let fits = |&index: &usize| {
            let run = taken.get(index..index + count);
            pa(index).get().is_multiple_of(bytes)
                && run.is_some_and(|run| run.iter().all(|taken| !taken))
        };
        let first = (0..N).find(fits).ok_or(OutOfFrames)?;
        taken[first..first + count].fill(true);
        Ok(pa(first))
    }

    fn free_tables(&self, first: TableFrame, order: u32) {
        let Some(first) = self.index(first.pa()) else {
            return;
        };
        let last = N.min(first + (1 << order));
        for table in &self.tables[first..last] {
            for entry in &table.entries {
                entry.store(0, crate::sync::Ordering::Relaxed);
            }
        }
        self.taken.lock()[first..last].fill(false);
    }

    #[inline]
    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        self.metas.get(self.index(pa)?)
    }
}

/// One CPU that runs one thread.
#[derive(Debug)]
pub struct OneCpu {
    slots: [CpuSlot; 1],
    grace: Grace,
    vmids: VmidAllocator,
}

impl OneCpu {
    /// The CPU, with VMIDs of so many bits.
    ///
    /// # Safety
    ///
    /// It is made once, and no other CPU or thread uses it; interrupt handlers may.
    pub unsafe fn new(vmid_bits: u8) -> Self {
        Self {
            slots: [CpuSlot::new()],
            grace: Grace::new(),
            vmids: VmidAllocator::new(vmid_bits.into()),
        }
    }
}

// SAFETY: as the maker of the value has promised; the slot, the grace periods and the VMIDs are
// fields of it.
unsafe impl Cpus for OneCpu {
    type Pinned<'c> = ();

    fn pin(&self) {}

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
        0
    }

    /// There is nobody to yield to.
    fn yield_now(&self) {}
}

/// An environment of parts that are values, with nothing traced.
#[derive(Clone, Copy, Debug)]
pub struct Parts<F, W, T, C> {
    frames: F,
    window: W,
    tlb: T,
    cpus: C,
}

impl<F: Frames, W: TableWindow, T: Tlb, C: Cpus> Parts<F, W, T, C> {
    /// Puts the parts together.
    ///
    /// # Safety
    ///
    /// They are parts of one machine, and all environments of the machine have the same: the window
    /// leads to the frames, and the TLB is that of the CPUs.
    pub const unsafe fn new(frames: F, window: W, tlb: T, cpus: C) -> Self {
        Self {
            frames,
            window,
            tlb,
            cpus,
        }
    }
}

// SAFETY: the parts are fields, and those of one machine, as the maker of the value has promised.
unsafe impl<F, W, T, C> Environment for Parts<F, W, T, C>
where
    F: Frames + Sync,
    W: TableWindow + Sync,
    T: Tlb + Sync,
    C: Cpus + Sync,
{
    type Frames = F;
    type TableWindow = W;
    type Tlb = T;
    type Cpus = C;
    type Observer = ();

    #[inline(always)]
    fn frames(&self) -> &F {
        &self.frames
    }

    #[inline(always)]
    fn window(&self) -> &W {
        &self.window
    }

    #[inline(always)]
    fn tlb(&self) -> &T {
        &self.tlb
    }

    #[inline(always)]
    fn cpus(&self) -> &C {
        &self.cpus
    }

    #[inline(always)]
    fn observer(&self) -> &() {
        &()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    static POOL: FramePool<20> = FramePool::new();

    #[test]
    fn frames_are_zero_aligned_and_nobody_elses() {
        let frames = &&POOL;
        let root = frames.allocate_tables(2).unwrap();
        assert!(root.get().is_multiple_of(4 * PAGE_SIZE));
        let mut singles: Vec<_> = (0..16)
            .map(|_| frames.allocate_tables(0).unwrap())
            .collect();
        assert_eq!(
            (frames.allocate_tables(0), POOL.free()),
            (Err(OutOfFrames), 0)
        );
        singles.sort();
        singles.dedup();
        assert_eq!(singles.len(), 16);
        assert!(
            singles
                .iter()
                .all(|pa| !(0..4).any(|n| *pa == root.offset(n * PAGE_SIZE)))
        );
        // SAFETY: frames of the pool are at their address.
        let window = unsafe { LinearWindow::new(0) };
        window.table(TableFrame::at(singles[3])).entries[7]
            .store(1, crate::sync::Ordering::Relaxed);
        frames.free_tables(TableFrame::at(singles[3]), 0);
        assert_eq!(POOL.free(), 1);
        let again = frames.allocate_tables(0).unwrap();
        assert_eq!(again, singles[3]);
        let table = window.table(TableFrame::at(again));
        assert!(
            table
                .entries
                .iter()
                .all(|entry| entry.load(crate::sync::Ordering::Relaxed) == 0)
        );
        assert!(frames.table_meta(again).is_some() && frames.table_meta(Pa::new(0)).is_none());
    }

    /// A VM on the simplest environment there is.
    #[test]
    fn the_parts_make_an_environment() {
        use crate::aarch64::instructions::Silent;
        use crate::aarch64::{Abilities, El2Tlb};
        use crate::{
            Attributes, DirtyState, Format, Geometry, GuestFrame, Ipa, IpaRange, Level, Owner,
            Stage2,
        };

        static TABLES: FramePool<12> = FramePool::new();
        // SAFETY: frames of the pool are at their address.
        let window = unsafe { LinearWindow::new(0) };
        // SAFETY: it is made once, and this thread's.
        let cpu = unsafe { OneCpu::new(8) };
        // SAFETY: no guest runs, so that no TLB has anything.
        let parts =
            unsafe { Parts::new(&TABLES, window, El2Tlb::new(Silent, Abilities::NONE), cpu) };
        let config = crate::Config {
            geometry: Geometry::new(32, 40).unwrap(),
            format: Format::default(),
            owner: Owner::new(1).unwrap(),
            direct_size_change: false,
        };
        let vm = Stage2::new(parts, config).unwrap();
        let (ipa, page) = (
            Ipa::new(0x4000_0000),
            GuestFrame::of(Pa::new(0x1000), Level::L3),
        );
        vm.map_page(ipa, page, Attributes::RAM, DirtyState::Clean)
            .unwrap();
        assert_eq!(vm.query(ipa).unwrap().descriptor.output(), Pa::new(0x1000));
        let mut pages = 0;
        vm.unmap(IpaRange::entry(ipa, Level::L3), |_| pages += 1)
            .unwrap();
        assert_eq!(pages, 1);
        vm.destroy(|_| ()).unwrap();
        assert_eq!(TABLES.free(), 12);
    }
}
