//! The same tables without a lock of their own, under one lock for the guest, as other hypervisors
//! guard theirs. Both variants do no more than they must, which is in their favour: they keep no
//! count of entries in use, no metadata that tells a table from another frame, and no statistics.
//!
//! - [`Exclusive`]: one reader-writer lock, as Xen. A thread that changes anything holds it for writing;
//!   looking takes it for reading.
//! - [`SideBySide`]: faults take the lock for reading and put entries in by compare-and-swap, as KVM's
//!   parallel faults do. What takes entries away holds it for writing, so that a thread that holds
//!   it for reading sees only tables that stay.

use std::hint::black_box;
use std::marker::PhantomData;
use std::ptr::with_exposed_provenance_mut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use stage2::{ENTRIES, Ipa, Level, PAGE_SIZE};

use crate::arena::Arena;
use crate::subject::{Operation, Subject, TABLES};

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const NORMAL_ALL: u64 = 0b1111 << 2 | 0b11 << 6 | 0b11 << 8 | 1 << 10;
const PAGE: u64 = NORMAL_ALL | TABLE_OR_PAGE | VALID;
const BLOCK: u64 = NORMAL_ALL | VALID;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// How faults take the lock.
pub(crate) trait Discipline: Sync {
    const NAME: &'static str;
    /// Whether faults run side by side.
    const SHARED: bool;
}

/// For writing.
pub(crate) struct Exclusive;

impl Discipline for Exclusive {
    const NAME: &'static str = "one reader-writer lock (as Xen)";
    const SHARED: bool = false;
}

/// For reading.
pub(crate) struct SideBySide;

impl Discipline for SideBySide {
    const NAME: &'static str = "read lock, compare-and-swap (as KVM)";
    const SHARED: bool = true;
}

#[repr(C, align(4096))]
struct Table([AtomicU64; ENTRIES]);

impl Table {
    fn empty() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }
}

/// One guest's tables under one lock.
pub(crate) struct Plain<D> {
    lock: RwLock<()>,
    tables: Arena<Table>,
    root: usize,
    discipline: PhantomData<D>,
}

/// The lock, held as faults hold it.
enum TableGuard<'p> {
    Read(#[expect(dead_code, reason = "kept to be dropped")] RwLockReadGuard<'p, ()>),
    Write(#[expect(dead_code, reason = "kept to be dropped")] RwLockWriteGuard<'p, ()>),
}

const WHOLE: &str = "nobody panics under the lock";

impl<D: Discipline> Plain<D> {
    #[inline(always)]
    fn for_faults(&self) -> TableGuard<'_> {
        if D::SHARED {
            TableGuard::Read(self.for_looks())
        } else {
            TableGuard::Write(self.for_changes())
        }
    }

    #[inline(always)]
    fn for_looks(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().expect(WHOLE)
    }

    #[inline(always)]
    fn for_changes(&self) -> RwLockWriteGuard<'_, ()> {
        self.lock.write().expect(WHOLE)
    }

    #[inline(always)]
    fn table(&self, address: usize) -> &Table {
        // SAFETY: an entry named it, or it is the root. It was taken before it was named, and is
        // given back under the lock that keeps everybody else out.
        unsafe { self.tables.get(address) }
    }

    /// The entry of `level` for an address; none if no table is there.
    #[inline(always)]
    fn entry(&self, at: Ipa, level: Level) -> Option<&AtomicU64> {
        let mut table = self.table(self.root);
        let mut here = Level::L1;
        while here < level {
            table = self.table(child(&table.0[at.index(here)])?);
            here = here.next()?;
        }
        Some(&table.0[at.index(level)])
    }

    /// As [`entry`](Self::entry); what is missing is made.
    #[inline(always)]
    fn entry_made(&self, at: Ipa, level: Level) -> &AtomicU64 {
        loop {
            if let Some(entry) = self.entry(at, level) {
                return entry;
            }
            self.make_table(at, level);
        }
    }

    #[cold]
    fn make_table(&self, at: Ipa, level: Level) {
        let mut above = Level::L1;
        while let Some(next) = above.next().filter(|next| *next <= level) {
            let entry = self.entry(at, above).expect("made before");
            if child(entry).is_none() {
                let table = self.tables.take(Table::empty()).expect("enough tables");
                if !self.fill(entry, named(table)) {
                    self.tables.give(table);
                }
            }
            above = next;
        }
    }

    /// Fills an empty entry; says whether nobody was faster.
    #[inline(always)]
    fn fill(&self, entry: &AtomicU64, new: u64) -> bool {
        if D::SHARED {
            return entry
                .compare_exchange(0, new, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        }
        let empty = entry.load(Ordering::Relaxed) == 0;
        if empty {
            entry.store(new, Ordering::Release);
        }
        empty
    }

    #[inline(always)]
    fn map(&self, at: Ipa) {
        let filled = self.fill(self.entry_made(at, Level::L3), at.get() | PAGE);
        assert!(filled, "an empty entry");
    }

    fn collapse(&self, at: Ipa) {
        let entry = self.entry(at, Level::L2).expect("a table");
        let table = child(entry).expect("512 pages");
        let entries = self.table(table).0.iter();
        for (page, entry) in entries.enumerate() {
            let expected = (at.get() + page as u64 * PAGE_SIZE) | PAGE;
            assert_eq!(entry.load(Ordering::Relaxed), expected, "contiguous pages");
        }
        // Break, flush (nothing here), make.
        entry.store(0, Ordering::Relaxed);
        entry.store(at.get() | BLOCK, Ordering::Release);
        self.tables.give(table);
    }

    fn split(&self, at: Ipa) {
        let entry = self.entry(at, Level::L2).expect("a table");
        let block = entry.load(Ordering::Relaxed);
        let table = self.tables.take_as_it_is().expect("enough tables");
        // SAFETY: the frame has just been taken, and nobody knows of it yet.
        let pages = unsafe { &mut *with_exposed_provenance_mut::<[u64; ENTRIES]>(table) };
        for (index, page) in (0..).zip(pages) {
            *page = ((block & ADDRESS) + index * PAGE_SIZE) | PAGE;
        }
        entry.store(0, Ordering::Relaxed);
        entry.store(named(table), Ordering::Release);
    }
}

/// The descriptor of the table at this address.
fn named(table: usize) -> u64 {
    table as u64 | TABLE_OR_PAGE | VALID
}

/// The address of the table that an entry of level 1 or 2 names.
#[inline(always)]
fn child(entry: &AtomicU64) -> Option<usize> {
    let value = entry.load(Ordering::Acquire);
    let is_table = value & (TABLE_OR_PAGE | VALID) == TABLE_OR_PAGE | VALID;
    is_table.then_some((value & ADDRESS) as usize)
}

impl<D: Discipline> Subject for Plain<D> {
    const NAME: &'static str = D::NAME;
    const EXCLUSIVE: bool = !D::SHARED;

    fn new(cpus: usize) -> Self {
        let tables = Arena::new(cpus, TABLES, Table::empty);
        Self {
            lock: RwLock::new(()),
            root: tables.take(Table::empty()).expect("a root"),
            tables,
            discipline: PhantomData,
        }
    }

    #[inline(always)]
    fn run(&self, operation: Operation, ipa: u64) {
        let at = Ipa::new(ipa);
        let pages = || (0..ENTRIES as u64).map(|index| at.offset(index * PAGE_SIZE));
        let look = |at| {
            black_box(
                self.entry(at, Level::L3)
                    .map(|entry| entry.load(Ordering::Acquire)),
            );
        };
        let unmap = |at| {
            let entry = self.entry(at, Level::L3).expect("a table");
            black_box(entry.swap(0, Ordering::AcqRel));
        };
        match operation {
            Operation::MapFirst | Operation::Map => {
                let _held = self.for_faults();
                self.map(at);
            }
            Operation::Lock => {
                let _held = self.for_faults();
                look(at);
            }
            Operation::Walk => {
                let _held = self.for_looks();
                look(at);
            }
            Operation::Unmap => {
                let _held = self.for_changes();
                unmap(at);
            }
            Operation::MapRange => {
                let _held = self.for_faults();
                pages().for_each(|at| self.map(at));
            }
            Operation::WalkRange => {
                let _held = self.for_looks();
                pages().for_each(look);
            }
            Operation::UnmapRange => {
                let _held = self.for_changes();
                pages().for_each(unmap);
            }
            Operation::Collapse => {
                let _held = self.for_changes();
                self.collapse(at);
            }
            Operation::Split => {
                let _held = self.for_changes();
                self.split(at);
            }
        }
    }
}
