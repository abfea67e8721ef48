//! Which regions to collapse, and how.
//!
//! A region is the 2 MiB that one level-2 entry covers. If not enough of it is mapped it is left
//! alone until the next round. If its pages lie in their order in one 2 MiB frame, as those of a
//! reservation do, the rest of the reservation is mapped too, and it becomes a block where it is.
//! Else it is copied into a new block.

use super::defragment::Defragmenter;
use crate::guest_frames::of_data;
use crate::page_copier::PageCopier;
use crate::{GuestMemory, Parts};
use frames::{Fill, LinearMap, Use};
use stage2::{CollapseError, CopyPlan, ENTRIES, EntryKind, GuestFrame, Ipa, IpaRange, Level, Pa};

/// How much compaction does, and when it pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many of a region's 512 pages must be mapped for it to be copied into a block.
    pub fill: usize,
    /// Work of one step, in pages that are looked at or copied. A collapse that was begun is
    /// brought to its end.
    pub step: usize,
    /// Pages that may be copied while the guest is held up at the end of a collapse by copying.
    pub max_hot: usize,
    /// How often pages that the guest wrote meanwhile are copied again before that.
    pub rounds: usize,
}

impl Policy {
    /// With so few, guests are held up for less than it takes to copy 8 pages: what comes to these
    /// is a flush, and looking at 512 entries.
    pub const MAX_HOT: usize = 2;
    /// Pages that are written again in each of so many rounds will be in one more.
    pub const ROUNDS: usize = 3;
}

/// Goes round one VM's memory, a step at a time.
pub struct Compactor<'m, M: LinearMap> {
    policy: Policy,
    cursor: Option<Ipa>,
    defragmenter: Defragmenter<'m, M>,
}

/// What is mapped in a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Survey {
    pages: usize,
    /// A block, or something that is being worked on.
    other: bool,
    /// The frame of the region's first page, as long as all pages lie where it says.
    first: Option<Pa>,
    scattered: bool,
}

impl<'m, M: LinearMap> Compactor<'m, M> {
    /// Begins at the VM's first region.
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            cursor: None,
            defragmenter: Defragmenter::new(),
        }
    }

    /// Works for one step. Called outside read sections, with no lock held.
    ///
    /// Leaves memory alone whose dirt is logged: a block is noted as written as a whole, and would
    /// be split at the next store.
    pub fn step<P: Parts<Map = M>>(&mut self, memory: &GuestMemory<'m, P>) {
        if memory.is_logging() {
            self.defragmenter.give_up();
            return;
        }
        let ram = memory.ram();
        let mut budget = self.policy.step;
        while budget > 0
            && let Some(ahead) = self.regions_ahead(ram, budget)
        {
            // Most regions are out of the question, which their tables tell at a glance.
            let found = memory.stage2().find_filled(ahead, self.policy.fill);
            let region = found.map(|start| IpaRange::entry(start, Level::L2));
            let end = region.map_or(ahead.end(), |region| region.end());
            self.cursor = Some(end);
            let passed = (end.get() - ahead.start().get()) >> Level::L2.shift();
            let pages = region.map_or(0, |region| self.visit(memory, region));
            budget = budget.saturating_sub(passed as usize + pages);
            memory.machine().cond_resched();
        }
        if self.regions_ahead(ram, 1).is_none() {
            // A round is over: what it emptied, or the guest, is worth a look.
            memory.stage2().free_empty_tables(ram);
            self.cursor = None;
        }
    }

    /// The next regions of a round, as many as `budget` at most; none when it is over.
    fn regions_ahead(&self, ram: IpaRange, budget: usize) -> Option<IpaRange> {
        let size = Level::L2.size();
        let first = Ipa::new(ram.start().get().next_multiple_of(size));
        let start = self.cursor.unwrap_or(first);
        let most = (budget as u64).saturating_mul(size);
        let end = Ipa::new(start.get().saturating_add(most));
        IpaRange::new(start, end.min(ram.end().align_down(Level::L2)))
    }

    /// Looks at one region, in whose table there is enough, and collapses it if that pays; returns
    /// the pages that it took.
    fn visit<P: Parts<Map = M>>(&mut self, memory: &GuestMemory<'m, P>, region: IpaRange) -> usize {
        let survey = survey(memory, region);
        memory.machine().cond_resched();
        if survey.other || survey.pages == 0 {
            return 0;
        }
        if survey.pages < self.policy.fill {
            return survey.pages / 8;
        }
        if fill_up(memory, region, &survey) {
            // An error says that the region has changed: it will be seen again.
            let _ = memory.stage2().collapse_in_place(region.start(), Level::L2);
        } else {
            self.copy(memory, region);
        }
        ENTRIES
    }

    fn copy<P: Parts<Map = M>>(&mut self, memory: &GuestMemory<'m, P>, region: IpaRange) {
        let (vm, ipa) = (memory.vm(), region.start());
        let used = Use::Data { vm, ipa };
        let made = new_block(memory, ipa).or_else(|| {
            let emptied = self.defragmenter.step(memory, used, self.policy.step)?;
            // SAFETY: emptied to be used as this VM's data.
            Some(unsafe { of_data(emptied, Level::L2) })
        });
        let Some(block) = made else {
            return;
        };
        memory.machine().cond_resched();
        let plan = CopyPlan {
            max_empty: ENTRIES.saturating_sub(self.policy.fill),
            max_hot: self.policy.max_hot,
            rounds: self.policy.rounds,
        };
        let mut copier = PageCopier::new(memory.machine());
        // An error says that the region has changed, or changes all the time: it will be seen
        // again.
        let _ = collapse_into(memory, region, block, plan, &mut copier);
    }
}

/// Whether all pages of a region lie in one 2 MiB frame, in their order, after those were mapped
/// that are still reserved for it: zeroing these is less than copying all others.
fn fill_up<P: Parts>(memory: &GuestMemory<'_, P>, region: IpaRange, survey: &Survey) -> bool {
    let missing = ENTRIES - survey.pages;
    match survey.first {
        Some(block) if !survey.scattered => {
            missing == 0 || memory.fill_up(region, block) == missing
        }
        _ => false,
    }
}

/// A free 2 MiB block, if there is one.
pub(super) fn new_block<P: Parts>(memory: &GuestMemory<'_, P>, ipa: Ipa) -> Option<GuestFrame> {
    memory
        .machine()
        .alloc_for(memory.vm(), ipa, Level::L2, Fill::Dirty)
        .ok()
}

/// Copies a region into `block`. If it could not be done, the block is freed.
pub(super) fn collapse_into<P: Parts>(
    memory: &GuestMemory<'_, P>,
    region: IpaRange,
    block: GuestFrame,
    plan: CopyPlan,
    contents: &mut impl stage2::CopyPages,
) -> Result<(), CollapseError> {
    let stage2 = memory.stage2();
    let collapsed = stage2.collapse_by_copying(region.start(), block, plan, contents);
    memory.given_back(collapsed)?;
    memory.machine().cond_resched();
    // The frames that the region's reservation has left will not be asked for any more.
    memory.give_up_reservation(region.start());
    Ok(())
}

/// Looks at a region, without locks: a hint.
fn survey<P: Parts>(memory: &GuestMemory<'_, P>, region: IpaRange) -> Survey {
    let mut survey = Survey::default();
    memory
        .stage2()
        .walk(region, |entry| match (entry.kind(), entry.level) {
            (EntryKind::Leaf(pa), Level::L3) => survey.add(entry.ipa, region, pa),
            (EntryKind::Table(_), _) => {}
            _ => survey.other = true,
        });
    survey
}

impl Survey {
    fn add(&mut self, ipa: Ipa, region: IpaRange, pa: Pa) {
        self.pages += 1;
        let at = ipa.get() - region.start().get();
        let first = Pa::new(pa.get().wrapping_sub(at));
        let expected = *self.first.get_or_insert(first);
        self.scattered |= first != expected || !first.is_aligned(Level::L2);
    }
}
