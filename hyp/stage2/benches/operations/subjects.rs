//! What is compared: this crate, this crate under one reader-writer lock (as Xen guards a guest's
//! tables), and `aarch64-paging` with one lock round it, which is what its `&mut self` asks for.

use std::hint::black_box;
use std::sync::{Mutex, RwLock};

use aarch64_paging::descriptor::Stage2Attributes;
use aarch64_paging::linearmap::LinearMap;
use aarch64_paging::paging::{MemoryRegion, Stage2 as Regime};
use stage2::{
    Attributes, Config, Format, Geometry, Ipa, IpaRange, Level, Owner, PAGE_SIZE, Pa, Stage2,
};

use crate::lean::Lean;

/// What is done to a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Map,
    Walk,
    Unmap,
}

/// One guest's tables.
pub(crate) trait Subject: Sync {
    /// Does it to the page at this guest address.
    fn page(&self, operation: Operation, ipa: u64);
}

/// This crate's tables.
pub(crate) struct Ours<'m>(Stage2<&'m Lean>);

impl<'m> Ours<'m> {
    pub(crate) fn new(machine: &'m Lean) -> Self {
        let config = Config {
            geometry: Geometry::with_start(39, Level::L1).expect("a shape with three levels"),
            format: Format::default(),
            owner: Owner::new(1).expect("a number above 0"),
            direct_size_change: false,
        };
        Self(Stage2::new(machine, config).expect("a frame for the root"))
    }
}

impl Subject for Ours<'_> {
    fn page(&self, operation: Operation, ipa: u64) {
        let (at, end) = (Ipa::new(ipa), Ipa::new(ipa + PAGE_SIZE));
        match operation {
            Operation::Map => {
                let mapped = self.0.map_page(at, Pa::new(ipa), Attributes::RAM, true);
                mapped.expect("an empty entry");
            }
            Operation::Walk => {
                black_box(self.0.query(at));
            }
            Operation::Unmap => {
                let page = IpaRange::new(at, end).expect("a page");
                let unmapped = self.0.unmap(page, |leaf| {
                    black_box(leaf);
                });
                unmapped.expect("no block to split");
            }
        }
    }
}

/// This crate's tables under one reader-writer lock.
pub(crate) struct OneReaderWriterLock<'m>(RwLock<Ours<'m>>);

impl<'m> OneReaderWriterLock<'m> {
    pub(crate) fn new(machine: &'m Lean) -> Self {
        Self(RwLock::new(Ours::new(machine)))
    }
}

impl Subject for OneReaderWriterLock<'_> {
    fn page(&self, operation: Operation, ipa: u64) {
        const WHOLE: &str = "nobody panics under the lock";
        match operation {
            Operation::Walk => self.0.read().expect(WHOLE).page(operation, ipa),
            _ => self.0.write().expect(WHOLE).page(operation, ipa),
        }
    }
}

/// The tables of `aarch64-paging` under one lock.
pub(crate) struct Paging(Mutex<LinearMap<Regime>>);

impl Paging {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LinearMap::new(1, 0, Regime)))
    }
}

const PAGE: Stage2Attributes = Stage2Attributes::VALID
    .union(Stage2Attributes::MEMATTR_NORMAL_INNER_WB)
    .union(Stage2Attributes::MEMATTR_NORMAL_OUTER_WB)
    .union(Stage2Attributes::S2AP_ACCESS_RW)
    .union(Stage2Attributes::SH_INNER)
    .union(Stage2Attributes::ACCESS_FLAG);

impl Subject for Paging {
    fn page(&self, operation: Operation, ipa: u64) {
        let page = MemoryRegion::new(ipa as usize, (ipa + PAGE_SIZE) as usize);
        let mut tables = self.0.lock().expect("nobody panics under the lock");
        let done = match operation {
            Operation::Map => tables.map_range(&page, PAGE),
            Operation::Walk => tables.walk_range(&page, &mut |region, entry, level| {
                black_box((region, entry, level));
                Ok(())
            }),
            Operation::Unmap => tables.map_range(&page, Stage2Attributes::empty()),
        };
        done.expect("an address that can be mapped");
    }
}
