//! A machine made of ordinary Rust values: memory, TLBs and CPUs for tests and examples.
//!
//! Owns [`FakeMachine`], an [`Environment`] that distrusts the table manager. What real hardware
//! does in silence is a panic here: the use of a table frame that was given back, a second free, a
//! walk that finds a translation at odds with a cached one (a broken break-before-make), a store
//! that lands in a page which was released. On each CPU there is a walker, which may walk any
//! address at any moment in the tables that the CPU has loaded, and caches what it finds; after a
//! reset the TLBs are full of rubbish.
//!
//! It works under the model checker (`--cfg loom`) and in random schedules (`--cfg shuttle`) too.
//! There walkers are late as well, as far as the architecture lets them: see `memory`. What the
//! CPUs would share is made of the checker's types; bookkeeping that only detects errors is made of
//! plain ones, which tell what has really happened in the interleaving at hand.
//!
//! ```
//! # #[cfg(not(any(loom, shuttle)))] {
//! use stage2::fake::{FakeMachine, Fault, Setup};
//! use stage2::{Attributes, DirtyState, Ipa, Level, Stage2};
//!
//! let machine = FakeMachine::new(Setup::default());
//! let stage2 = Stage2::new(&machine, machine.config(1)).unwrap();
//! let guest = machine.enter(&stage2);
//! assert_eq!(guest.read(Ipa::new(0x1000)), Err(Fault::Translation(Level::L1)));
//!
//! let page = machine.data().allocate(Level::L3).unwrap();
//! let pa = page.pa();
//! stage2.map_page(Ipa::new(0x1000), page, Attributes::RAM, DirtyState::Dirty).unwrap();
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
#[cfg(any(loom, shuttle))]
mod memory;
mod tlb;
mod walker;
mod witness;

pub use cpus::{FakeCpus, FakePin, OnCpu};
pub use data::{Copier, FakeData, GARBAGE};
pub use frames::{FakeFrames, FakeTableRef};
pub use guest::{Fault, Guest};
#[cfg(any(loom, shuttle))]
pub(crate) use memory::Entry;
pub use tlb::FakeTlb;

use crate::addr::{INDEX_BITS, Ipa, Level};
use crate::descriptor::Format;
use crate::env::{Environment, Loaded};
use crate::geometry::Geometry;
use crate::meta::Owner;
use crate::stage2::{Config, Stage2};
use walker::Walker;

/// What walkers find of an entry, among what they may find. Without a checker it is what is in
/// memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walks {
    /// What was stored last: every store is seen at once.
    Newest,
    /// What was stored first: a store is seen when a DSB has completed it, and not before.
    Oldest,
    /// Of level 3 what was stored first, and else what was stored last: new tables with old
    /// contents.
    OldestLeaves,
    /// Anything, as the random schedule has it; walks begin anywhere in the walk cache, too.
    Any,
}

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
    /// What walkers find.
    pub walks: Walks,
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
            walks: Walks::Newest,
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
            tlb: booted(&setup),
            cpus: FakeCpus::new(setup.cpus, setup.vmid_bits),
        }
    }

    /// How the tables of a VM on this machine are configured; `owner` is not 0.
    pub fn config(&self, owner: u32) -> Config {
        Config {
            geometry: self.geometry(),
            format: Format {
                force_write_back: false,
                execute_never_by_level: true,
                hardware_dirty: self.setup.hardware_dirty,
            },
            owner: Owner::new(owner).expect("an owner's number"),
            direct_size_change: self.setup.direct_size_change,
        }
    }

    /// The shape of the tables of all VMs, as VTCR_EL2 has it.
    fn geometry(&self) -> Geometry {
        let Setup {
            ipa_bits, start, ..
        } = self.setup;
        Geometry::with_start(ipa_bits, start).expect("a shape that can be")
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

    /// Loads a VM onto the calling thread's CPU: gives it a VMID, and the means of touching its
    /// memory.
    pub fn enter<E: Environment>(&self, stage2: &Stage2<E>) -> Guest<'_> {
        self.enter_on(cpus::current(), stage2)
    }

    /// Loads a VM onto the CPU of this index, which the calling thread is for that time.
    pub fn enter_on<E: Environment>(&self, cpu: usize, stage2: &Stage2<E>) -> Guest<'_> {
        let _cpu = (cpu != cpus::current()).then(|| self.on_cpu(cpu));
        let vmid = stage2.load();
        let root = stage2.root();
        Guest::new(self, cpu, Loaded { root, vmid })
    }

    /// Has all CPUs forget what is loaded on them, so that it can be destroyed.
    pub fn leave_all(&self) {
        use crate::env::Cpus;
        for (cpu, slot) in self.cpus.slots().iter().enumerate() {
            self.tlb.end_walks(cpu);
            slot.vmid.set_loaded(None);
        }
    }

    /// Has the walker of the CPU of this index walk for `ipa`, as the hardware may at any time, in
    /// the tables of the VM that is loaded there, if one is; what it finds is cached.
    pub fn walk_on(&self, cpu: usize, ipa: Ipa) {
        if let Some(mut walker) = Walker::of(self, cpu) {
            // What the walk ends in is of no consequence: nobody made an access.
            let _ = walker.walk(ipa, true);
        }
    }
}

/// TLBs after each CPU has emptied its own, as it has to when it comes up.
fn booted(setup: &Setup) -> FakeTlb {
    let tlb = FakeTlb::new(setup);
    (0..setup.cpus).for_each(|cpu| tlb.forget(cpu));
    tlb
}

// SAFETY: the parts are fields of the machine.
unsafe impl Environment for FakeMachine {
    type Frames = FakeFrames;
    type TableWindow = FakeFrames;
    type Tlb = FakeTlb;
    type Cpus = FakeCpus;
    type Observer = ();

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

    fn observer(&self) -> &() {
        &()
    }
}
