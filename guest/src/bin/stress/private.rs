//! Pages that one vCPU owns: only it writes to them, so it knows what they hold.

use core::sync::atomic::Ordering::Relaxed;

use guest::{
    areas,
    pool::Page,
    random::{Random, Walk},
    stamp::Stamp,
};

use crate::{
    plan::Plan,
    progress::{self, Activity},
    report,
};

/// One vCPU's use of its private pages. Two walks go over them, each through all of them in an order of
/// its own: one writes, one only looks.
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
        areas::owner(index, self.plan.vcpus) == self.vcpu
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
