//! Comparing the tables and the machine with the model.

use super::apply::nth;
use super::{CPUS, Mapped, PAGES, Page, REGIONS, Vm};
use stage2::{
    Access, Descriptor, ENTRIES, Entry, EntryKind, Environment, Ipa, IpaRange, Level, PAGE_SIZE,
};

/// Pages that are read through the TLBs after each operation.
const LOOKS: usize = 4;

impl Vm {
    /// Compares everything.
    pub(crate) fn check(&self) {
        self.check_walk();
        self.check_contents();
        self.look_around();
    }

    /// A leaf of the tables, or one taken out of them, is what the model says; `index` tells which
    /// part of it the page is.
    pub(super) fn compare(&self, page: Page, leaf: Descriptor, index: usize) {
        assert_eq!(page.pa, nth(leaf.output(), index));
        assert_eq!(leaf.rights(), page.attributes.rights);
        assert_eq!(leaf.memory(), page.attributes.memory);
        assert_eq!(leaf.is_pinned(), page.attributes.pinned);
        assert_eq!(leaf.is_accessed(), page.accessed);
        assert!(!page.dirty || leaf.is_written(), "dirt was lost");
        assert!(page.maybe_dirty || !leaf.is_written(), "false dirt");
    }

    /// The leaves are the model's, in order, each once, and there is nothing else.
    fn check_walk(&self) {
        let mut seen = [0; REGIONS];
        let mut last = None;
        let end = Ipa::new(1 << self.shape.ipa_bits);
        let everything = IpaRange::new(Ipa::new(0), end).unwrap();
        self.stage2.walk(everything, |entry| match entry.kind() {
            EntryKind::Table(_) => {}
            EntryKind::Leaf(_) => {
                assert!(last < Some(entry.ipa));
                last = Some(entry.ipa);
                let (region, count) = self.check_leaf(entry);
                seen[region] += count;
            }
            kind => panic!("{kind:?} at {:?}", entry.ipa),
        });
        for (region, seen) in self.regions.borrow().iter().zip(seen) {
            assert_eq!(region.pages.iter().flatten().count(), seen);
            let entry = self.stage2.query(region.base).unwrap();
            let mapped = match (entry.level, entry.kind()) {
                (Level::L3, _) => Mapped::Table,
                (Level::L2, EntryKind::Leaf(_)) => Mapped::Block,
                _ => Mapped::Nothing,
            };
            assert_eq!(mapped, region.mapped);
            let range = IpaRange::entry(region.base, Level::L2);
            let filled = |least| self.stage2.find_filled(range, least);
            let is_table = mapped == Mapped::Table;
            assert_eq!(filled(seen), is_table.then_some(region.base));
            assert_eq!(filled(seen + 1), None);
        }
        self.check_fullest(everything, &seen);
    }

    /// The first region whose table has the most entries in use is found among all.
    fn check_fullest(&self, everything: IpaRange, seen: &[usize]) {
        let regions = self.regions.borrow();
        let tables = || {
            let regions = regions.iter().zip(seen);
            regions.filter(|(region, _)| region.mapped == Mapped::Table)
        };
        let Some(most) = tables().map(|(_, &seen)| seen).max() else {
            return assert_eq!(self.stage2.find_filled(everything, 0), None);
        };
        let fullest = tables().filter(|&(_, &seen)| seen == most);
        let first = fullest.map(|(region, _)| region.base).min();
        assert_eq!(self.stage2.find_filled(everything, most), first);
        assert_eq!(self.stage2.find_filled(everything, most + 1), None);
    }

    fn check_leaf(&self, entry: Entry) -> (usize, usize) {
        let (region, first) = self.place(entry.ipa);
        let count = (entry.level.size() / PAGE_SIZE) as usize;
        let is_block = self.mapped(region) == Mapped::Block;
        assert_eq!(entry.level, if is_block { Level::L2 } else { Level::L3 });
        for index in first..first + count {
            let page = self.page(region, index);
            let page = page.unwrap_or_else(|| panic!("{entry:?} should not be mapped"));
            self.compare(page, entry.descriptor, index - first);
        }
        (region, count)
    }

    /// Every page holds its value, and there are no more pages than that.
    fn check_contents(&self) {
        let data = self.machine.data();
        let mut count = 0;
        for page in self
            .regions
            .borrow()
            .iter()
            .flat_map(|region| &region.pages)
            .flatten()
        {
            assert_eq!(data.read(page.pa), page.value);
            count += 1;
        }
        assert_eq!(data.outstanding(), count, "guest memory was lost");
    }

    /// Reads a few pages through the TLB of each CPU.
    fn look_around(&self) {
        for look in 0..LOOKS {
            let step = self.step.replace(self.step.get() + 1);
            // Pages that operations prefer in turn with others: the stride has nothing in common
            // with the number of pages, so it reaches them all.
            let index = if look % 2 == 0 {
                step / 2 % 5
            } else {
                step * 211
            };
            let place = (step / 4 % REGIONS, (index + PAGES - 1) % PAGES);
            let read = self.access(look % CPUS, place, Access::Read, false);
            assert_eq!(read, Ok(()));
        }
    }

    /// After a failure blocks may have been split that were not asked for.
    pub(super) fn adopt_structure(&self) {
        for region in self.regions.borrow_mut().iter_mut() {
            let entry = self.stage2.query(region.base).unwrap();
            if entry.level == Level::L3 {
                region.mapped = Mapped::Table;
            }
        }
    }

    /// Unmaps everything and takes the tables down: no frame is left over.
    pub(crate) fn finish(self) {
        let everything = self.stage2.geometry().range();
        let mut unmapped = Vec::new();
        self.stage2
            .unmap(everything, |leaf| unmapped.push(leaf))
            .unwrap();
        unmapped.into_iter().for_each(|leaf| self.take_away(leaf));
        self.check_contents();
        self.stage2.free_empty_tables(everything);
        let roots = 1 << self.stage2.geometry().root_order();
        let frames = self.machine.frames();
        assert_eq!(frames.outstanding(), roots, "tables were left over");
        self.machine.leave_all();
        self.stage2
            .destroy(|leaf| panic!("{leaf:?} was left over"))
            .unwrap();
        assert_eq!(self.machine.frames().outstanding(), 0);
    }

    /// Takes the tables down with all that is mapped.
    pub(crate) fn destroy(self) {
        let Self {
            machine,
            stage2,
            regions,
            ..
        } = self;
        let mut leaves = 0;
        machine.leave_all();
        stage2
            .destroy(|leaf| {
                leaves += leaf.level().size() as usize / PAGE_SIZE as usize;
                machine.data().release(leaf.frame);
            })
            .unwrap();
        let regions = regions.into_inner();
        assert_eq!(
            leaves,
            regions
                .iter()
                .flat_map(|region| &region.pages)
                .flatten()
                .count()
        );
        assert_eq!(machine.frames().outstanding(), 0);
        assert_eq!(machine.data().outstanding(), 0);
    }
}

const _: () = assert!(ENTRIES == PAGES);
