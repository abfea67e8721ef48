//! Table frames: an allocator that notices every misuse.
//!
//! A frame has a *life* from allocation to free, or until it is filled anew. A thread that reaches
//! a table's memory remembers the life in which it was found, and each use checks that this life
//! lasts. Under the model checker each use is announced to it as well, so that a use which merely
//! happened to come before the free, with nothing to order the two, is an error too.

use super::witness::Witness;
use crate::addr::{PAGE_SIZE, Pa};
use crate::env::{Frames, OutOfFrames, Table, TableFrame, TableWindow};
use crate::meta::TableMeta;
#[cfg(any(loom, shuttle))]
use crate::sync::Entry;
use crate::sync::{Lock, Ordering};
use core::ops::Deref;
use core::sync::atomic::AtomicU64 as PlainAtomicU64;

/// Aligned for any number of frames side by side at a root.
const BASE: u64 = 1 << 24;

/// What the entries of a free frame hold: nothing that a walk could take for a descriptor.
#[cfg(not(any(loom, shuttle)))]
const POISON: u64 = 0x0bad_0bad_0bad_0ba8;

struct Frame {
    table: Table,
    meta: TableMeta,
    /// Counts allocations and frees: odd while the frame is allocated. Detects errors only, so it
    /// is not the model checker's.
    life: PlainAtomicU64,
    witness: Witness,
}

struct Allocator {
    /// Allocations until one fails; 0 for never.
    fail_in: u64,
    attempts: u64,
}

/// The table frames of a [`FakeMachine`](super::FakeMachine), all of them in its window.
pub struct FakeFrames {
    frames: Box<[Frame]>,
    allocator: Lock<Allocator>,
}

impl FakeFrames {
    pub(super) fn new(count: usize) -> Self {
        let frame = |_| Frame {
            #[cfg(not(any(loom, shuttle)))]
            table: Table::EMPTY,
            #[cfg(any(loom, shuttle))]
            table: Table::empty(),
            meta: TableMeta::new(),
            life: PlainAtomicU64::new(0),
            witness: Witness::new(),
        };
        Self {
            frames: (0..count).map(frame).collect(),
            allocator: Lock::new(Allocator {
                fail_in: 0,
                attempts: 0,
            }),
        }
    }

    /// Makes the `n`-th allocation from now fail, once; 0 for none.
    pub fn fail_nth(&self, n: u64) {
        self.allocator.lock().fail_in = n;
    }

    /// How many allocations were asked for, failed ones included.
    pub fn attempts(&self) -> u64 {
        self.allocator.lock().attempts
    }

    /// How many frames are allocated.
    pub fn outstanding(&self) -> usize {
        self.frames.iter().filter(|frame| frame.lives()).count()
    }

    /// Puts these bits into an entry, past the table manager: what a broken DIMM or a stray store
    /// does.
    pub fn corrupt(&self, table: Pa, index: usize, bits: u64) {
        self.table(TableFrame::at(table)).entries[index].store(bits, Ordering::Release);
    }

    /// Whether there is a frame of this machine at `pa`, free or not.
    pub(super) fn contains(&self, pa: Pa) -> bool {
        self.frame(pa).is_some()
    }

    /// The table at `pa`, in the life in which an earlier user found it.
    pub(super) fn table_in(&self, pa: Pa, life: u64) -> FakeTableRef<'_> {
        FakeTableRef {
            frame: self.known(pa),
            pa,
            life,
        }
    }

    fn frame(&self, pa: Pa) -> Option<&Frame> {
        let offset = pa.get().checked_sub(BASE)?;
        self.frames.get((offset / PAGE_SIZE) as usize)
    }

    fn known(&self, pa: Pa) -> &Frame {
        self.frame(pa)
            .unwrap_or_else(|| panic!("no table frame at {pa:?}"))
    }

    fn run(&self, pa: Pa, order: u32) -> impl Iterator<Item = &Frame> {
        (0..1u64 << order).map(move |index| self.known(pa.offset(index * PAGE_SIZE)))
    }
}

impl Frame {
    fn lives(&self) -> bool {
        self.life.load(Ordering::Acquire) % 2 == 1
    }

    fn begin_life(&self) {
        self.witness.changed();
        for entry in &self.table.entries {
            entry.store(0, Ordering::Relaxed);
        }
        self.life.fetch_add(1, Ordering::AcqRel);
    }

    fn end_life(&self, pa: Pa) {
        assert!(self.lives(), "the table frame at {pa:?} was freed twice");
        assert!(
            !self.meta.is_table(),
            "the frame at {pa:?} was freed while it is a table"
        );
        self.witness.changed();
        self.life.fetch_add(1, Ordering::AcqRel);
        // The model checker's witness sees more than poison shows, and costs it nothing. In random
        // schedules each store is a chance for other threads.
        #[cfg(not(any(loom, shuttle)))]
        for entry in &self.table.entries {
            entry.store(POISON, Ordering::Relaxed);
        }
    }
}

// SAFETY: a frame is handed out only while its life count is even, and made odd under the
// allocator's lock; the metadata is a field of the frame and stays where it is.
unsafe impl Frames for FakeFrames {
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        let mut allocator = self.allocator.lock();
        allocator.attempts += 1;
        if allocator.fail_in > 0 {
            allocator.fail_in -= 1;
            if allocator.fail_in == 0 {
                return Err(OutOfFrames);
            }
        }
        let count = 1 << order;
        // The lowest free frame: the one freed last is soon used again, which is where errors show.
        let is_free = |frames: &[Frame]| frames.iter().all(|frame| !frame.lives());
        let first = (0..self.frames.len())
            .step_by(count)
            .find(|&first| self.frames.get(first..first + count).is_some_and(is_free))
            .ok_or(OutOfFrames)?;
        let pa = Pa::new(BASE + first as u64 * PAGE_SIZE);
        self.run(pa, order).for_each(Frame::begin_life);
        Ok(pa)
    }

    fn allocate_filled_table(&self) -> Result<Pa, OutOfFrames> {
        let pa = self.allocate_tables(0)?;
        // Nothing that a walk should take for an entry. The checkers have enough to do without.
        #[cfg(not(any(loom, shuttle)))]
        for entry in &self.known(pa).table.entries {
            entry.store(POISON, Ordering::Relaxed);
        }
        Ok(pa)
    }

    fn free_tables(&self, first: TableFrame, order: u32) {
        let (_allocator, pa) = (self.allocator.lock(), first.pa());
        self.run(pa, order).for_each(|frame| frame.end_life(pa));
    }

    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        self.frame(pa).map(|frame| &frame.meta)
    }
}

// SAFETY: the reference that is handed out leads to the table of the frame at `pa`, and to no
// other.
unsafe impl TableWindow for FakeFrames {
    type Ref<'a> = FakeTableRef<'a>;

    fn table(&self, table: TableFrame) -> FakeTableRef<'_> {
        let pa = table.pa();
        let frame = self.known(pa);
        assert!(frame.lives(), "the table frame at {pa:?} is free");
        FakeTableRef {
            frame,
            pa,
            life: frame.life.load(Ordering::Acquire),
        }
    }

    fn fill(&self, table: TableFrame, first: u64, step: u64) {
        // Nobody else can reach the table, and an environment may fill it by plain stores: a reader
        // that found it before must not look again.
        self.known(table.pa()).life.fetch_add(2, Ordering::AcqRel);
        let mut value = first;
        for entry in &self.table(table).entries {
            entry.store(value, Ordering::Relaxed);
            value = value.wrapping_add(step);
        }
    }
}

/// The way to the memory of a table, for as long as the frame lives.
pub struct FakeTableRef<'f> {
    frame: &'f Frame,
    pa: Pa,
    life: u64,
}

impl FakeTableRef<'_> {
    /// Where the table is.
    pub(super) fn pa(&self) -> Pa {
        self.pa
    }

    /// In which life of the frame this was made.
    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// An entry, for a walker that may be late: it need not be ordered behind the making of the
    /// table.
    #[cfg(any(loom, shuttle))]
    pub(super) fn entry(&self, index: usize) -> &Entry {
        self.check_life();
        &self.frame.table.entries[index]
    }

    fn check_life(&self) {
        assert_eq!(
            self.frame.life.load(Ordering::Acquire),
            self.life,
            "the table at {:?} was used after it had been freed, or filled anew",
            self.pa
        );
    }
}

impl Deref for FakeTableRef<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        self.check_life();
        self.frame.witness.used();
        &self.frame.table
    }
}
