//! Stage-2 translation tables that many CPUs change at once.
//!
//! vCPUs take faults and map memory on demand; another thread collapses 512 pages to a block, moves
//! pages and frees emptied tables; a third takes pages away or logs what is written. All of it
//! happens to the same tables at the same time, and there is no lock for the whole. Each table has
//! its own.
//!
//! So nobody may take for granted that a table is there. Asking for one [can
//! fail](lookup::Slot::map), and says [why](lookup::Absent); [locking](lookup::Slot::lock) one
//! checks that it still is part of the tree; what was seen without a lock stays readable until the
//! [read section](Stage2::read) ends, and cannot be written through. Translations that may be stale
//! are values that must be flushed, and what they led to is not handed out before. (The protocol is
//! that of Linux's `pte_offset_map_lock()` with RCU added, at every level.)
//!
//! The tables are those of Arm's VMSAv8-64. *Arm ARM* is the Arm Architecture Reference Manual for
//! A-profile, DDI 0487: it is cited by register and by title of section, since the numbers differ
//! from issue to issue.
//!
//! The crate knows no board and no vCPU, has no globals and allocates nothing behind its caller's
//! back. How to use it in a hypervisor is told in [`embedding`]. The examples below run on a
//! machine made of ordinary values, the module `fake`, which the feature of that name adds.
//!
//! # Faults
//!
//! A fault is [resolved](Stage2::resolve_fault) if a leaf is there, and mapped if none is.
//!
//! ```
//! use stage2::fake::{FakeMachine, Setup};
//! use stage2::{Access, Attributes, DirtyGranule, DirtyState};
//! use stage2::{Ipa, IpaRange, Level, Resolution, Stage2};
//!
//! let machine = FakeMachine::new(Setup::default());
//! let vm = Stage2::new(&machine, machine.config(1)).unwrap();
//! let guest = machine.enter(&vm);
//! let ipa = Ipa::new(0x4000_0000);
//!
//! guest.write(ipa, 7).unwrap_err();
//! assert_eq!(vm.resolve_fault(ipa, Access::Write, DirtyGranule::Leaf), Resolution::Unmapped);
//! let page = machine.data().allocate(Level::L3).unwrap();
//! vm.map_page(ipa, page, Attributes::RAM, DirtyState::Dirty).unwrap();
//! guest.write(ipa, 7).unwrap();
//!
//! // What was mapped comes back when no translation of it is left.
//! let range = IpaRange::entry(ipa, Level::L3);
//! vm.unmap(range, |leaf| machine.data().release(leaf.frame)).unwrap();
//! guest.read(ipa).unwrap_err();
//! ```
//!
//! # Lookups that fail
//!
//! ```
//! use stage2::fake::{FakeMachine, Setup};
//! use stage2::lookup::Absent;
//! use stage2::{Attributes, DirtyState, Ipa, Level, Stage2};
//!
//! let machine = FakeMachine::new(Setup::default());
//! let vm = Stage2::new(&machine, machine.config(1)).unwrap();
//! let block = machine.data().allocate(Level::L2).unwrap();
//! vm.map_block(Ipa::new(0), block, Attributes::RAM, DirtyState::Dirty).unwrap();
//!
//! let reader = vm.read();
//! let root = reader.root(Ipa::new(0)).unwrap();
//! let blocks = root.slot(Ipa::new(0)).lock().unwrap();
//! assert!(matches!(blocks.slot(Ipa::new(0)).map(), Err(Absent::Block(_))));
//! let next = Ipa::new(Level::L2.size());
//! assert!(matches!(blocks.slot(next).map(), Err(Absent::Empty)));
//! ```
//!
//! # Blocks and pages
//!
//! What the guest sees is the same before, during and after.
//!
//! ```
//! use stage2::fake::{FakeMachine, Setup};
//! use stage2::{Attributes, CopyPlan, DirtyState, ENTRIES, Ipa, Level, PAGE_SIZE, Stage2};
//!
//! let machine = FakeMachine::new(Setup::default());
//! let vm = Stage2::new(&machine, machine.config(1)).unwrap();
//! let guest = machine.enter(&vm);
//! for index in 0..ENTRIES as u64 {
//!     let page = machine.data().allocate(Level::L3).unwrap();
//!     let ipa = Ipa::new(index * PAGE_SIZE);
//!     vm.map_page(ipa, page, Attributes::RAM, DirtyState::Dirty).unwrap();
//!     guest.write(ipa, index).unwrap();
//! }
//! let block = machine.data().allocate(Level::L2).unwrap();
//! let plan = CopyPlan { max_empty: 0, max_hot: 16, rounds: 1 };
//! let mut contents = machine.data().copier();
//! vm.collapse_by_copying(Ipa::new(0), block, plan, &mut contents).unwrap();
//! assert_eq!(vm.query(Ipa::new(0)).unwrap().level, Level::L2);
//! assert_eq!(guest.read(Ipa::new(5 * PAGE_SIZE)), Ok(5));
//!
//! // The emptied table was kept, so splitting the block again cannot run out of memory.
//! vm.split_block(Ipa::new(0), Level::L2).unwrap();
//! assert_eq!(guest.read(Ipa::new(5 * PAGE_SIZE)), Ok(5));
//! ```
//!
//! # Dirty logging
//!
//! ```
//! use stage2::fake::{FakeMachine, Setup};
//! use stage2::{Access, Attributes, DirtyGranule, DirtyState};
//! use stage2::{Ipa, IpaRange, Level, Resolution, Stage2};
//!
//! let machine = FakeMachine::new(Setup::default());
//! let vm = Stage2::new(&machine, machine.config(1)).unwrap();
//! let guest = machine.enter(&vm);
//! let block = machine.data().allocate(Level::L2).unwrap();
//! vm.map_block(Ipa::new(0), block, Attributes::RAM, DirtyState::Dirty).unwrap();
//! let memory = IpaRange::entry(Ipa::new(0), Level::L2);
//! vm.write_protect(memory);
//!
//! // The first store faults; under logging, blocks are split so that one store marks one page.
//! let ipa = Ipa::new(0x3000);
//! guest.write(ipa, 1).unwrap_err();
//! let resolution = vm.resolve_fault(ipa, Access::Write, DirtyGranule::Page);
//! assert_eq!(resolution, Resolution::MustSplit(Level::L2));
//! vm.split_for_store(ipa, Level::L2).unwrap();
//! guest.write(ipa, 1).unwrap();
//!
//! let mut dirty = Vec::new();
//! vm.collect_dirty(memory, |range| dirty.push(range));
//! assert_eq!(dirty, [IpaRange::entry(ipa, Level::L3)]);
//! ```
//!
//! # What holds on errors
//!
//! An error is a value and says that the guest's memory is as it was: blocks may have been split
//! and empty tables installed, which no guest can tell. (Of many pages that are [mapped by one
//! call](Stage2::map_pages) those before the one that could not be stay, and the error says which
//! that is.) Nothing panics because memory ran out or because of what a guest does.
//!
//! # What is checked, and how
//!
//! The protocol runs under a model checker (`--cfg loom`) from this same source, with tables of two
//! entries. With tables of full size it is compared with a reference model after every one of many
//! random operations, with every allocation failing in turn, and raced on real threads. For each
//! rule there is a patch that takes it out and a test that then fails.
#![cfg_attr(not(any(test, feature = "fake", loom)), no_std)]
#![deny(unsafe_code, missing_debug_implementations)]

#[cfg(feature = "alloc")]
extern crate alloc;

// Where there are threads that may be preempted, a waiter gives the CPU away: see `sync`.
#[cfg(any(unix, windows))]
extern crate std;

#[cfg(feature = "aarch64")]
pub mod aarch64;
mod addr;
#[cfg(all(feature = "alloc", not(any(loom, shuttle))))]
#[allow(unsafe_code)] // implements the traits of `env`
mod checked;
mod collapse;
mod copy;
mod debug;
mod deposit;
mod descriptor;
mod destroy;
mod detached;
pub mod embedding;
mod empty_tables;
#[allow(unsafe_code)] // declares traits whose contracts the implementer vouches for
mod env;
#[cfg(feature = "fake")]
#[allow(unsafe_code)] // implements the traits of `env`
pub mod fake;
mod fault;
mod flush;
#[allow(unsafe_code)] // declares what the making of a frame promises
mod frame;
mod geometry;
pub mod grace;
mod guard;
pub mod lookup;
mod map;
mod meta;
mod migrate;
#[cfg(loom)]
mod modelled;
mod observer;
mod protect;
mod query;
mod range;
mod split;
mod stage2;
pub mod stats;
mod sync;
mod unmap;
pub mod vmid;

pub use addr::{ENTRIES, INDEX_BITS, Ipa, IpaRange, Level, PAGE_SHIFT, PAGE_SIZE, Pa};
#[cfg(all(feature = "alloc", not(any(loom, shuttle))))]
pub use checked::{Checked, CheckedPin};
pub use collapse::{CollapseError, CopyPlan};
pub use copy::{CopyPages, Unreadable};
pub use descriptor::{
    Attributes, Descriptor, DirtyState, EntryKind, Execute, Format, Marker, MemoryType, Operation,
    Privilege, Rights,
};
pub use destroy::StillLoaded;
pub use env::{
    Cpus, Environment, Frames, Loaded, OutOfFrames, Scope, Table, TableFrame, TableWindow, Tlb,
};
pub use fault::{Access, DirtyGranule, Resolution};
pub use flush::Published;
pub use frame::{GuestFrame, GuestPage, Refused};
pub use geometry::{Geometry, GeometryError};
pub use map::{MapError, MapWithError, MappedInPart};
pub use meta::{Owner, TableMeta};
pub use migrate::MigrateError;
pub use observer::{CollapseStep, Observation, Observer, Topic};
pub use query::Entry;
pub use split::SplitError;
pub use stage2::{Config, Stage2, unload};
pub use unmap::{Unmapped, UnmappedRun};
