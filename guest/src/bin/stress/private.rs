//! Pages that one vCPU owns: only it writes to them, so it knows what they hold.

use core::sync::atomic::Ordering::Relaxed;

use guest::{
    areas::{self, BLOCK_PAGES},
    hypervisor,
    pool::{PAGE_SIZE, Page},
    random::{Random, Walk},
    stamp::Stamp,
};

use crate::{
    plan::Plan,
    progress::{self, Activity},
    report,
};

/// Most pages that are given back at once, if it is not a block.
const RELEASED_AT_MOST: usize = 64;
/// One in so many times it is a block.
const BLOCK_RELEASES: usize = 4;

/// One vCPU's use of its private pages. Two walks go over them, each through all of them in an
/// order of its own: one writes, one only looks.
pub(crate) struct Private {
    plan: &'static Plan,
    vcpu: usize,
    writes: Walk,
    checks: Walk,
}

impl Private {
    /// All of `vcpu`'s pages, none touched yet.
    pub(crate) fn new(plan: &'static Plan, vcpu: usize) -> Self {
        let pages = plan.areas.private.len();
        Self {
            plan,
            vcpu,
            writes: Walk::new(pages),
            checks: Walk::new(pages),
        }
    }

    /// Checks the next page of the one walk and stamps it anew.
    pub(crate) fn write_next(&mut self, random: &mut Random) {
        let index = loop {
            let index = self.writes.next(random);
            if self.owns(index) {
                break index;
            }
        };
        let (page, stamp) = self.page(index);
        let progress = progress::of(self.vcpu);
        if stamp.generation == 0 {
            progress.count(Activity::FirstTouch);
        }
        report::check(self.vcpu, page, stamp);
        let next = Stamp {
            generation: stamp.generation + 1,
            ..stamp
        };
        report::fill(page, next);
        self.plan
            .generations()
            .word(index)
            .store(next.generation, Relaxed);
        progress.count(Activity::Write);
    }

    /// Checks the next page of the other walk that has been written to.
    pub(crate) fn check_next(&mut self, random: &mut Random) {
        let index = self.checks.next(random);
        self.check_written(index);
    }

    /// Checks every page that has been written to.
    pub(crate) fn check_all(&self) {
        for index in 0..self.plan.areas.private.len() {
            self.check_written(index);
        }
    }

    /// Gives pages back to the hypervisor: a few from the one on that the checking walk comes to,
    /// or all of that page's block. From then on they are pages that were never touched.
    pub(crate) fn release_next(&mut self, random: &mut Random) {
        let found = self.checks.next(random);
        let in_block = self.page_number(found) % BLOCK_PAGES;
        let (first, most) = match found.checked_sub(in_block) {
            Some(first) if random.below(BLOCK_RELEASES) == 0 => (first, BLOCK_PAGES),
            _ => (found, 1 + random.below(RELEASED_AT_MOST)),
        };
        let start = self.page_number(first);
        let last = self.plan.areas.private.len().min(first + most);
        // The pool has a hole, so pages that follow each other need not be neighbours.
        let follows = |&index: &usize| self.page_number(index) == start + index - first;
        let count = (first..last)
            .take_while(|index| self.owns(*index) && follows(index))
            .count();
        if count == 0 || !release(start, count) {
            return;
        }
        for index in first..first + count {
            self.plan.generations().word(index).store(0, Relaxed);
            progress::of(self.vcpu).count(Activity::Release);
        }
    }

    fn check_written(&self, index: usize) {
        if !self.owns(index) {
            return;
        }
        let (page, stamp) = self.page(index);
        if stamp.generation != 0 {
            report::check(self.vcpu, page, stamp);
            progress::of(self.vcpu).count(Activity::Check);
        }
    }

    fn owns(&self, index: usize) -> bool {
        areas::owner(self.page_number(index), self.plan.vcpus) == self.vcpu
    }

    /// The number of a private page among all that the guest could address.
    fn page_number(&self, index: usize) -> usize {
        (self.plan.pool.ipa(self.plan.areas.private.start + index) / PAGE_SIZE) as usize
    }

    /// A page with the stamp it must carry.
    fn page(&self, index: usize) -> (&'static Page, Stamp) {
        let number = self.plan.areas.private.start + index;
        let ipa = self.plan.pool.ipa(number);
        progress::of(self.vcpu).at(ipa);
        let stamp = Stamp {
            ipa,
            generation: self.plan.generations().word(index).load(Relaxed),
            writer: self.vcpu,
        };
        (self.plan.pool.page(number), stamp)
    }
}

/// Gives pages from number `start` on back; says whether the hypervisor took them.
fn release(start: usize, pages: usize) -> bool {
    let address = |number: usize| number as u64 * PAGE_SIZE;
    // SAFETY: the pages are the calling vCPU's own, which checks nothing of them meanwhile and
    // afterwards expects zeros.
    unsafe { hypervisor::release_memory(address(start)..address(start + pages)) }
}
