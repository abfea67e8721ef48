//! A reference model of a VM's memory, and a VM that is compared with it.
//!
//! The model knows nothing of tables: each page of a few regions of 2 MiB has a frame, attributes,
//! a value, and whether it was used and written. Of structure it knows one thing a region: nothing,
//! a table, or a block. [`Vm::check`] compares all of it with the tables, by walking them, and with
//! what a guest sees through TLBs that forget nothing by themselves.

mod apply;
mod check;
mod copying;
mod guest;
mod ops;
mod range;

pub(crate) use ops::{Op, Pages, Place};

use stage2::fake::{FakeMachine, Setup};
use stage2::{
    Attributes, Config, Environment, Execute, Format, Ipa, Level, MemoryType, Pa, Rights, Stage2,
};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Pages of a region.
pub(crate) const PAGES: usize = stage2::ENTRIES;

/// What a VM and its machine are like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) ipa_bits: u32,
    pub(crate) start: Level,
    pub(crate) hardware_dirty: bool,
    pub(crate) direct_size_change: bool,
    pub(crate) force_write_back: bool,
    pub(crate) execute_never_by_level: bool,
}

impl Shape {
    fn setup(self) -> Setup {
        Setup {
            cpus: CPUS,
            table_frames: 64,
            data_pages: 8 * PAGES,
            ipa_bits: self.ipa_bits,
            start: self.start,
            hardware_dirty: self.hardware_dirty,
            direct_size_change: self.direct_size_change,
            ..Setup::default()
        }
    }

    fn format(self) -> Format {
        Format {
            force_write_back: self.force_write_back,
            execute_never_by_level: self.execute_never_by_level,
            hardware_dirty: self.hardware_dirty,
        }
    }

    /// First addresses of the regions, in order: the first two of the VM, the two on both sides of
    /// the border between root tables (or in the middle of the only one), and the last.
    fn regions(self) -> [Ipa; REGIONS] {
        let size = Level::L2.size();
        let end = 1 << self.ipa_bits;
        let roots = 1 << self.ipa_bits.saturating_sub(self.start.shift() + 9);
        let border = if roots > 1 { end / roots } else { end / 2 };
        [0, size, border - size, border, end - size].map(Ipa::new)
    }
}

pub(crate) const CPUS: usize = 2;
pub(crate) const REGIONS: usize = 5;

/// A page that the guest has.
#[derive(Clone, Copy, Debug)]
struct Page {
    pa: Pa,
    attributes: Attributes,
    value: u64,
    accessed: bool,
    /// Written since this was last collected: must be reported.
    dirty: bool,
    /// May be reported, because stores go through, or did to the block that the page was part of.
    maybe_dirty: bool,
}

/// How a region is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapped {
    Nothing,
    Table,
    Block,
}

struct Region {
    base: Ipa,
    mapped: Mapped,
    pages: Vec<Option<Page>>,
}

impl Region {
    fn ipa(&self, index: usize) -> Ipa {
        self.base.offset(index as u64 * Level::L3.size())
    }

    /// The pages that share a leaf with the one of this index.
    fn leaf_of(&self, index: usize) -> core::ops::Range<usize> {
        match self.mapped {
            Mapped::Block => 0..PAGES,
            _ => index..index + 1,
        }
    }

    fn is_empty(&self) -> bool {
        self.pages.iter().all(Option::is_none)
    }
}

/// A VM, and what it should be like.
pub(crate) struct Vm {
    shape: Shape,
    machine: Arc<FakeMachine>,
    stage2: Stage2<Arc<FakeMachine>>,
    regions: RefCell<Vec<Region>>,
    /// The region that is being copied, whose table stays where it is.
    claimed: Cell<Option<usize>>,
    next_value: Cell<u64>,
    /// For choosing pages to look at.
    step: Cell<usize>,
}

impl Vm {
    pub(crate) fn new(shape: Shape) -> Self {
        let machine = Arc::new(FakeMachine::new(shape.setup()));
        let config = Config {
            format: shape.format(),
            ..machine.config(1)
        };
        let stage2 = Stage2::new(machine.clone(), config).unwrap();
        let region = |base| Region {
            base,
            mapped: Mapped::Nothing,
            pages: vec![None; PAGES],
        };
        // The VM runs on all CPUs from the beginning, so that every invalidation counts.
        for cpu in 0..CPUS {
            machine.enter_on(cpu, &stage2);
        }
        Self {
            shape,
            machine,
            stage2,
            regions: RefCell::new(shape.regions().map(region).into()),
            claimed: Cell::new(None),
            next_value: Cell::new(1),
            step: Cell::new(0),
        }
    }

    /// Does an operation while the `n`-th allocation of a table fails (0 for none), and says
    /// whether the operation ran out of frames for that.
    pub(crate) fn apply_failing(&self, op: &Op, n: u64) -> bool {
        self.machine.frames().fail_nth(n);
        let result = self.apply(op);
        self.machine.frames().fail_nth(0);
        assert!(n > 0 || result.is_ok(), "there are frames enough");
        result.is_err()
    }

    /// A value that no page has yet.
    fn value(&self) -> u64 {
        self.next_value.replace(self.next_value.get() + 1)
    }

    /// What a mapping with these rights gives on this CPU: without FEAT_XNX a right for one
    /// exception level is one for none.
    fn effective(&self, rights: Rights) -> Rights {
        let by_level = matches!(rights.execute, Execute::User | Execute::Kernel);
        if by_level && !self.shape.execute_never_by_level {
            Rights {
                execute: Execute::Never,
                ..rights
            }
        } else {
            rights
        }
    }

    fn page(&self, region: usize, index: usize) -> Option<Page> {
        self.regions.borrow()[region].pages[index]
    }

    fn mapped(&self, region: usize) -> Mapped {
        self.regions.borrow()[region].mapped
    }

    fn ipa(&self, region: usize, index: usize) -> Ipa {
        self.regions.borrow()[region].ipa(index)
    }

    /// Which page of which region an address belongs to.
    fn place(&self, ipa: Ipa) -> (usize, usize) {
        let base = ipa.align_down(Level::L2);
        let regions = self.regions.borrow();
        let region = regions.iter().position(|region| region.base == base);
        let region = region.unwrap_or_else(|| panic!("nothing should be mapped at {ipa:?}"));
        (region, ipa.index(Level::L3))
    }

    fn set_mapped(&self, region: usize, mapped: Mapped) {
        self.regions.borrow_mut()[region].mapped = mapped;
    }

    /// Changes the pages of a leaf.
    fn update(
        &self,
        region: usize,
        pages: core::ops::Range<usize>,
        mut change: impl FnMut(&mut Page),
    ) {
        let region = &mut self.regions.borrow_mut()[region];
        region.pages[pages]
            .iter_mut()
            .flatten()
            .for_each(&mut change);
    }
}

fn is_movable(page: Page) -> bool {
    !page.attributes.pinned && page.attributes.memory != MemoryType::Device
}
