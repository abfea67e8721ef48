//! This crate's tables.

use std::hint::black_box;

use stage2::{
    Attributes, Config, DirtyState, Format, Geometry, GuestFrame, Ipa, IpaRange, Level, Owner, Pa,
    SplitError, Stage2,
};

use crate::lean::Lean;
use crate::subject::{Operation, Subject, TABLES};

/// The page of the address that the guest knows it by.
#[inline(always)]
fn same(at: Ipa) -> GuestFrame {
    // SAFETY: the address is that of a page, and no guest runs.
    unsafe { GuestFrame::new(Pa::new(at.get()), Level::L3) }
}

/// This crate's tables.
pub(crate) struct Ours(Stage2<Lean>);

impl Ours {
    #[inline(always)]
    fn lock(&self, at: Ipa) {
        let reader = self.0.read();
        let table = reader.lock(at, Level::L3).expect("an address of the guest");
        black_box(table.expect("a table").get(at.index(Level::L3)));
    }

    #[inline(always)]
    fn unmap(&self, range: IpaRange) {
        let unmapped = self.0.unmap_runs(range, |run| {
            run.entries().iter().for_each(|entry| {
                black_box(*entry);
            });
        });
        unmapped.expect("no block to split");
    }
}

impl Subject for Ours {
    const NAME: &'static str = "stage2";
    const EXCLUSIVE: bool = false;

    fn new(cpus: usize) -> Self {
        let config = Config {
            geometry: Geometry::with_start(39, Level::L1).expect("a shape with three levels"),
            format: Format::default(),
            owner: Owner::new(1).expect("a number above 0"),
            direct_size_change: false,
        };
        Self(Stage2::new(Lean::new(cpus, TABLES), config).expect("a frame for the root"))
    }

    #[inline(always)]
    fn run(&self, operation: Operation, ipa: u64) {
        let at = Ipa::new(ipa);
        let page = IpaRange::entry(at, Level::L3);
        let region = IpaRange::entry(at, Level::L2);
        match operation {
            Operation::MapFirst | Operation::Map => {
                let mapped = self
                    .0
                    .map_page(at, same(at), Attributes::RAM, DirtyState::Dirty);
                mapped.expect("an empty entry");
            }
            Operation::Lock => self.lock(at),
            Operation::Walk => {
                black_box(self.0.query(at));
            }
            Operation::Unmap => self.unmap(page),
            Operation::MapRange => {
                let mapped = self
                    .0
                    .map_pages(region, same, Attributes::RAM, DirtyState::Dirty);
                mapped.expect("empty entries");
            }
            Operation::WalkRange => self.0.walk(region, |entry| {
                black_box(entry);
            }),
            Operation::UnmapRange => self.unmap(region),
            Operation::Collapse => {
                let collapsed = self.0.collapse_in_place(at, Level::L2);
                collapsed.expect("512 contiguous pages");
            }
            Operation::Split => {
                while let Err(error) = self.0.split_block(at, Level::L2) {
                    assert_eq!(error, SplitError::Busy);
                    std::hint::spin_loop();
                }
            }
        }
    }
}
