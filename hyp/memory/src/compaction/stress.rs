//! Compaction as an adversary: everything it can do, and its contrary, at random.
//!
//! Nothing that it does may be visible to the guest. It is there to make races frequent that would
//! be rare otherwise: regions are collapsed and split again at once, pages are moved under stores,
//! pages of zeros are unmapped while others fault them back, tables are emptied and taken away, and
//! stores are made to trap. Nor is anything lost of what dirty logging notes.

use super::collapse::{collapse_into, new_block};
use super::defragment::replace_frame;
use crate::page_copier::PageCopier;
use crate::{Fault, FaultKind, GuestMemory, Parts};
use stage2::{Access, CopyPlan, ENTRIES, EntryKind, GuestPage, Ipa, IpaRange, Level, PAGE_SIZE};

/// Pages that one action touches, where it works page by page.
const PAGES: u64 = 16;

/// Does one thing after the other to one VM's memory.
pub struct Stress {
    random: u64,
}

impl Stress {
    /// The same seed gives the same actions.
    pub const fn new(seed: u64) -> Self {
        Self { random: seed | 1 }
    }

    /// Does one thing to one region. Called outside read sections, with no lock held.
    pub fn step<P: Parts>(&mut self, memory: &GuestMemory<'_, P>) {
        let ram = memory.ram();
        let at = ram.start().offset(self.below(ram.pages()) * PAGE_SIZE);
        let region = IpaRange::entry(at, Level::L2);
        if !ram.covers(&region) {
            return;
        }
        let stage2 = memory.stage2();
        // Each call may find that there is nothing to do it to; that is an answer as well.
        match self.below(16) {
            // Once with all that is written meanwhile left to the end, once with little of it.
            0 => self.collapse(memory, region, ENTRIES, 0),
            1 => self.collapse(memory, region, 2, 2),
            2..=5 => drop(stage2.collapse_in_place(region.start(), Level::L2)),
            6..=8 => drop(stage2.split_block(region.start(), Level::L2)),
            9..=11 => self.each_page(memory, at, |ipa, pa| {
                let _ = replace_frame(memory, ipa, pa);
            }),
            12..=13 => self.unmap_zeros(memory, at),
            14 => {
                // Where nothing is, this leaves a table that is empty: the guest seldom does.
                let (access, kind) = (Access::Read, FaultKind::Translation(Level::L3));
                let ipa = at;
                let _ = memory.fault(Fault { ipa, access, kind });
                self.unmap_zeros(memory, at);
                stage2.free_empty_tables(ram);
            }
            _ => {
                stage2.trap_stores(region);
                stage2.age(region, |_, _| {});
            }
        }
    }

    fn collapse<P: Parts>(
        &mut self,
        memory: &GuestMemory<'_, P>,
        region: IpaRange,
        max_hot: usize,
        rounds: usize,
    ) {
        if let Some(block) = new_block(memory, region.start()) {
            let plan = CopyPlan {
                max_empty: ENTRIES - 1,
                max_hot,
                rounds,
            };
            let mut copier = PageCopier::new(memory.machine());
            let _ = collapse_into(memory, region, block, plan, &mut copier);
        }
    }

    /// Takes some pages from `at` on away that hold zeros only.
    fn unmap_zeros<P: Parts>(&self, memory: &GuestMemory<'_, P>, at: Ipa) {
        self.each_page(memory, at, |ipa, pa| {
            let mut copier = PageCopier::new(memory.machine());
            // An entry that is gone notes nothing. Asked behind the marker, for which the
            // beginning of logging waits.
            let zero = |page: GuestPage<'_>| {
                !memory.is_logging() && PageCopier::new(memory.machine()).is_zero(page)
            };
            let _ = memory.stage2().unmap_page_if(ipa, pa, zero, &mut copier);
        });
    }

    /// Calls `act` for some pages from `at` on, as far as they are mapped as pages.
    fn each_page<P: Parts>(
        &self,
        memory: &GuestMemory<'_, P>,
        at: Ipa,
        mut act: impl FnMut(Ipa, stage2::Pa),
    ) {
        for page in 0..PAGES {
            let ipa = at.offset(page * PAGE_SIZE);
            let entry = memory
                .stage2()
                .query(ipa)
                .filter(|entry| entry.level == Level::L3);
            if let Some(EntryKind::Leaf(pa)) = entry.map(|entry| entry.kind()) {
                act(ipa, pa);
            }
        }
    }

    /// A random number below `bound` (xorshift; good enough to spread).
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{guest, machine};
    use bootargs::HugePolicy;
    use stage2::stats::Counter;
    use stage2::{Cpus, Environment};

    #[test]
    fn tables_are_emptied_where_the_guest_touches_nothing() {
        let machine = machine();
        let memory = guest(&machine, HugePolicy::Never);
        let mut stress = Stress::new(0x9e37_79b9);
        (0..200).for_each(|_| stress.step(&memory));
        let slots = machine.cpus().slots().iter();
        let freed: u64 = slots
            .map(|slot| slot.counters().get(Counter::TablesFreed))
            .sum();
        assert!(freed > 4, "{freed}");
        memory.destroy();
    }
}
