//! What a guest does: accesses, and the faults that they take.

use super::ops::{Pages, Place};
use super::{Mapped, Page, Vm};
use crate::support::dirty_granule;
use stage2::fake::Fault;
use stage2::{Access, DirtyGranule, Level, OutOfFrames, Resolution, SplitError};

/// How often an access may fault before it must succeed: for the access flag, to split a block,
/// for the right to store.
const MOST_FAULTS: usize = 3;

impl Vm {
    /// One access to a page, with all the faults that it takes.
    pub(super) fn access(
        &self,
        cpu: usize,
        place @ (region, index): Place,
        access: Access,
        split_blocks: bool,
    ) -> Result<(), OutOfFrames> {
        let value = self.value();
        for _ in 0..=MOST_FAULTS {
            let seen = self.try_access(cpu, place, access, value);
            let page = self.page(region, index);
            if page.is_some() && self.shape.hardware_dirty {
                self.mark_accessed(place);
            }
            match seen {
                Ok(seen) => {
                    let page = page.expect("a stale translation was used");
                    assert!(allows(page, access), "a stale right was used");
                    assert!(page.accessed || self.shape.hardware_dirty);
                    assert!(
                        seen.is_none_or(|seen| seen == page.value),
                        "{seen:?}, not {page:?}"
                    );
                    if access.stores() {
                        self.mark_written(place);
                        self.update(region, index..index + 1, |page| {
                            page.value = value;
                            page.dirty = true;
                        });
                    }
                    return Ok(());
                }
                Err(fault) => {
                    let translation = matches!(fault, Fault::Translation(_));
                    assert_eq!(translation, page.is_none(), "{fault:?} for {page:?}");
                    if !self.resolve(cpu, place, access, split_blocks)? {
                        return Ok(());
                    }
                }
            }
        }
        panic!("{access:?} faults again and again");
    }

    /// What the guest loads; nothing for a store.
    fn try_access(
        &self,
        cpu: usize,
        (region, index): Place,
        access: Access,
        value: u64,
    ) -> Result<Option<u64>, Fault> {
        let guest = self.machine.enter_on(cpu, &self.stage2);
        let ipa = self.ipa(region, index);
        match access {
            Access::Read => guest.read(ipa).map(Some),
            Access::Execute(level) => guest.fetch_at(ipa, level).map(Some),
            Access::Write => guest.write(ipa, value).map(|()| None),
            Access::Update => guest.update(ipa, value).map(|()| None),
        }
    }

    /// Answers a fault on the CPU that took it; says whether the access is worth another try.
    fn resolve(
        &self,
        cpu: usize,
        place @ (region, index): Place,
        access: Access,
        split_blocks: bool,
    ) -> Result<bool, OutOfFrames> {
        let _cpu = (cpu != 0).then(|| self.machine.on_cpu(cpu));
        let ipa = self.ipa(region, index);
        let page = self.page(region, index);
        let mut told = None;
        let answer =
            self.stage2
                .resolve_fault_with(ipa, access, dirty_granule(split_blocks), |level| {
                    told = Some(level)
                });
        let is_first = access.stores() && page.is_some_and(|page| !page.maybe_dirty);
        let written = (answer == Resolution::Resolved && is_first).then(|| self.leaf_level(region));
        assert_eq!(told, written, "{answer:?}");
        match answer {
            Resolution::Unmapped => assert!(page.is_none()),
            Resolution::Denied => assert!(page.is_some_and(|page| !allows(page, access))),
            Resolution::Resolved => {
                assert!(page.is_some_and(|page| allows(page, access)));
                self.mark_accessed(place);
                if access.stores() {
                    self.mark_written(place);
                }
                return Ok(true);
            }
            Resolution::MustSplit(level) => {
                assert_eq!((level, self.mapped(region)), (Level::L2, Mapped::Block));
                assert!(split_blocks && access.stores());
                match self.stage2.split_for_store(ipa, level) {
                    Err(SplitError::OutOfFrames) => return Err(OutOfFrames),
                    result => assert_eq!(result, Ok(())),
                }
                self.set_mapped(region, Mapped::Table);
                self.mark_accessed(place);
                self.mark_written(place);
                return Ok(true);
            }
            Resolution::Busy => panic!("nobody else is at work"),
            Resolution::OutOfRange => panic!("an address of the VM"),
        }
        Ok(false)
    }

    /// Walks that the hardware makes on a whim.
    pub(super) fn prefetch(&self, cpu: usize, pages: Pages) {
        let (region, first) = pages.from;
        let guest = self.machine.enter_on(cpu, &self.stage2);
        for index in first..(first + pages.count).min(super::PAGES) {
            guest.prefetch(self.ipa(region, index));
            if self.shape.hardware_dirty {
                self.mark_accessed((region, index));
            }
        }
    }

    /// While a page or its region is being replaced, a guest gets nothing and is told to wait.
    pub(super) fn check_is_busy(&self, place @ (region, index): Place) {
        let fault = self.try_access(1, place, Access::Write, 0);
        assert!(
            matches!(fault, Err(Fault::Translation(_))),
            "{fault:?} between break and make"
        );
        let answer =
            self.stage2
                .resolve_fault(self.ipa(region, index), Access::Write, DirtyGranule::Leaf);
        assert_eq!(answer, Resolution::Busy);
    }

    /// The level of what is mapped in the region.
    fn leaf_level(&self, region: usize) -> Level {
        match self.mapped(region) {
            Mapped::Block => Level::L2,
            _ => Level::L3,
        }
    }

    fn mark_accessed(&self, (region, index): Place) {
        let leaf = self.regions.borrow()[region].leaf_of(index);
        self.update(region, leaf, |page| page.accessed = true);
    }

    /// Stores to the leaf go through.
    fn mark_written(&self, (region, index): Place) {
        let leaf = self.regions.borrow()[region].leaf_of(index);
        self.update(region, leaf, |page| page.maybe_dirty = true);
    }
}

fn allows(page: Page, access: Access) -> bool {
    let rights = page.attributes.rights;
    match access {
        Access::Read => rights.read,
        Access::Write => rights.write,
        Access::Update => rights.read && rights.write,
        Access::Execute(level) => rights.execute.allows(level),
    }
}
