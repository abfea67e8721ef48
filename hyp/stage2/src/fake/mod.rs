//! A machine made of ordinary Rust values: memory, TLBs and CPUs for tests and examples.
//!
//! Owns [`FakeMachine`], an [`Environment`] that distrusts the table manager. What real hardware does
//! in silence is a panic here: the use of a table frame that was given back, a second free, a
//! walk that finds a translation at odds with a cached one (a broken break-before-make), a store
//! that lands in a page which was released.
//!
//! It works under the model checker too. What the CPUs would share is made of the checker's types;
//! bookkeeping that only detects errors is made of plain ones, which tell what has really happened
//! in the interleaving at hand.
//!
//! ```
//! # #[cfg(not(loom))] {
//! use stage2::fake::{FakeMachine, Fault, Setup};
//! use stage2::{Attributes, Ipa, Level, Stage2};
//!
//! let machine = FakeMachine::new(Setup::default());
//! let stage2 = Stage2::new(&machine, machine.config(1)).unwrap();
//! let guest = machine.enter(&stage2);
//! assert_eq!(guest.read(Ipa::new(0x1000)), Err(Fault::Translation(Level::L1)));
//!
//! let page = machine.data().allocate(Level::L3).unwrap();
//! let pa = page.pa();
//! stage2.map_page(Ipa::new(0x1000), page, Attributes::RAM, true).unwrap();
//! guest.write(Ipa::new(0x1000), 7).unwrap();
//! assert_eq!(machine.data().read(pa), 7);
//! # }
//! ```
//!
//! Lock order: the TLB of one CPU at a time, after all table locks; nothing is taken under it.

mod cpus;
mod data;
mod frames;
mod guest;
mod tlb;
mod witness;

pub use cpus::{FakeCpus, OnCpu};
pub use data::{Copier, FakeData, GARBAGE};
pub use frames::{FakeFrames, FakeTableRef};
pub use guest::{Fault, Guest};
pub use tlb::FakeTlb;

use crate::addr::{INDEX_BITS, Level};
use crate::descriptor::Format;
use crate::env::Environment;
use crate::geometry::Geometry;
use crate::meta::Owner;
use crate::stage2::{Config, Stage2};
use std::sync::Arc;

/// What a [`FakeMachine`] has.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Number of CPUs.
    pub cpus: usize,
    /// Frames for tables.
    pub table_frames: usize,
    /// Pages of guest memory.
    pub data_pages: usize,
    /// Width of guest addresses.
    pub ipa_bits: u32,
    /// Level of the root.
    pub start: Level,
    /// Width of VMIDs. There must be more VMIDs than CPUs, number 0 not counted.
    pub vmid_bits: u32,
    /// FEAT_HAFDBS: the hardware sets access flag and dirty state by itself.
    pub hardware_dirty: bool,
    /// FEAT_BBM level 2: a table and a block of the same addresses may follow each other directly.
    pub direct_size_change: bool,
}

impl Default for Setup {
    /// Two CPUs and three levels, with memory for four blocks of level 2.
    fn default() -> Self {
        Self {
            cpus: 2,
            table_frames: 16,
            data_pages: 4 << INDEX_BITS,
            ipa_bits: Level::L1.shift() + INDEX_BITS,
            start: Level::L1,
            vmid_bits: 8,
            hardware_dirty: false,
            direct_size_change: false,
        }
    }
}

/// A machine made of ordinary Rust values. The thread that makes it is its CPU 0.
pub struct FakeMachine {
    setup: Setup,
    frames: FakeFrames,
    data: FakeData,
    tlb: FakeTlb,
    cpus: FakeCpus,
}

impl FakeMachine {
    /// A machine with all of its memory free.
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            frames: FakeFrames::new(setup.table_frames),
            data: FakeData::new(setup.data_pages),
            tlb: FakeTlb::new(setup.cpus),
            cpus: FakeCpus::new(setup.cpus, setup.vmid_bits),
        }
    }

    /// How the tables of a VM on this machine are configured; `owner` is not 0.
    pub fn config(&self, owner: u32) -> Config {
        let Setup {
            ipa_bits, start, ..
        } = self.setup;
        Config {
            geometry: Geometry::with_start(ipa_bits, start).expect("a shape that can be"),
            format: Format {
                force_write_back: false,
                execute_never_by_level: true,
                hardware_dirty: self.setup.hardware_dirty,
            },
            owner: Owner::new(owner).expect("an owner's number"),
            direct_size_change: self.setup.direct_size_change,
        }
    }

    /// Pages of guest memory.
    pub fn data(&self) -> &FakeData {
        &self.data
    }

    /// Makes the calling thread the CPU of this index until the result is dropped. The CPU that it
    /// was before, if any, can be another thread meanwhile.
    pub fn on_cpu(&self, cpu: usize) -> OnCpu<'_> {
        self.cpus.occupy(cpu)
    }

    /// Loads a VM onto the calling thread's CPU: gives it a VMID, and the means of touching its memory.
    pub fn enter<E: Environment>(&self, stage2: &Stage2<E>) -> Guest<'_> {
        use crate::env::Cpus;
        self.enter_on(self.cpus.current(), stage2)
    }

    /// Loads a VM onto the CPU of this index, which no thread need be.
    pub fn enter_on<E: Environment>(&self, cpu: usize, stage2: &Stage2<E>) -> Guest<'_> {
        use crate::env::Cpus;
        let vmid = stage2.activate(cpu);
        self.cpus.slots()[cpu].vmid.set_loaded(Some(stage2.root()));
        Guest::new(self, cpu, vmid, stage2)
    }

    /// Has all CPUs forget what is loaded on them, so that it can be destroyed.
    pub fn leave_all(&self) {
        use crate::env::Cpus;
        for slot in self.cpus.slots() {
            slot.vmid.set_loaded(None);
        }
    }
}

// SAFETY: the parts are fields of the machine.
unsafe impl Environment for FakeMachine {
    type Frames = FakeFrames;
    type Window = FakeFrames;
    type Tlb = FakeTlb;
    type Cpus = FakeCpus;

    fn frames(&self) -> &FakeFrames {
        &self.frames
    }

    fn window(&self) -> &FakeFrames {
        &self.frames
    }

    fn tlb(&self) -> &FakeTlb {
        &self.tlb
    }

    fn cpus(&self) -> &FakeCpus {
        &self.cpus
    }
}

// SAFETY: as above; the machine stays where it is.
unsafe impl Environment for Arc<FakeMachine> {
    type Frames = FakeFrames;
    type Window = FakeFrames;
    type Tlb = FakeTlb;
    type Cpus = FakeCpus;

    fn frames(&self) -> &FakeFrames {
        &self.frames
    }

    fn window(&self) -> &FakeFrames {
        &self.frames
    }

    fn tlb(&self) -> &FakeTlb {
        &self.tlb
    }

    fn cpus(&self) -> &FakeCpus {
        &self.cpus
    }
}
