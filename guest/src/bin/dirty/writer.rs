//! Those who store to the area: each to pages of its own. They rest when they are asked to.

use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use guest::{hypervisor, pool::PAGE_SIZE, random::Random, stamp::WORDS, tables};

use crate::area::{Area, PAGES};

/// Steps from one page that is given back to the next.
const STEPS_PER_RELEASE: u64 = 16;

/// Stores to the area by all vCPUs.
pub(crate) static STORES: AtomicU64 = AtomicU64::new(0);
/// Pages that were given back, and that the hypervisor did not take.
pub(crate) static RELEASED: AtomicU64 = AtomicU64::new(0);
pub(crate) static REFUSED: AtomicU64 = AtomicU64::new(0);

static REST: AtomicBool = AtomicBool::new(false);
static AT_REST: AtomicUsize = AtomicUsize::new(0);
static END: AtomicBool = AtomicBool::new(false);

/// One vCPU's part of the area: every page whose number leaves `number` when divided by `of`.
pub(crate) struct Writer {
    area: Area,
    number: usize,
    of: usize,
    random: Random,
    steps: u64,
}

impl Writer {
    pub(crate) fn new(area: Area, number: usize, of: usize, seed: u64) -> Self {
        let random = Random::new(seed.wrapping_mul(16).wrapping_add(number as u64));
        Self {
            area,
            number,
            of,
            random,
            steps: 0,
        }
    }

    /// Stores a word, a zero every other time, and now and then gives a page back.
    pub(crate) fn step(&mut self) {
        let page = self.own_page();
        self.steps += 1;
        let value = if self.steps.is_multiple_of(2) {
            self.steps
        } else {
            0
        };
        let word = self.random.below(4) * (WORDS / 4);
        self.area.page(page).0[word].store(value, Relaxed);
        STORES.fetch_add(1, Relaxed);
        if self.steps.is_multiple_of(STEPS_PER_RELEASE) {
            self.release();
        }
    }

    fn release(&mut self) {
        let page = self.own_page();
        let ipa = self.area.ipa(page);
        // SAFETY: only this vCPU writes to the page, and does not now; the compactor, which may
        // copy it meanwhile, copies what was there or zeros, and looks again if it is told to.
        let taken = unsafe { hypervisor::release_memory(ipa..ipa + PAGE_SIZE) };
        let count = if taken { &RELEASED } else { &REFUSED };
        count.fetch_add(1, Relaxed);
    }

    fn own_page(&mut self) -> usize {
        self.random.below(PAGES / self.of) * self.of + self.number
    }

    /// Steps until it is told to end, but for rests.
    pub(crate) fn run(&mut self) {
        while !END.load(SeqCst) {
            if REST.load(SeqCst) {
                AT_REST.fetch_add(1, SeqCst);
                while REST.load(SeqCst) {
                    tables::yield_cpu();
                }
                AT_REST.fetch_sub(1, SeqCst);
            }
            self.step();
        }
    }
}

/// Returns when so many writers rest.
pub(crate) fn rest(writers: usize) {
    REST.store(true, SeqCst);
    wait_for(writers);
}

/// Has them go on, and returns when none rests.
pub(crate) fn go_on() {
    REST.store(false, SeqCst);
    wait_for(0);
}

/// Has them end.
pub(crate) fn end() {
    END.store(true, SeqCst);
}

fn wait_for(writers: usize) {
    while AT_REST.load(SeqCst) != writers {
        tables::yield_cpu();
    }
}
