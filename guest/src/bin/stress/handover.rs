//! Pages that go from one vCPU to another.
//!
//! Each has a state word that says whether it is free or full and what it holds. Who moves it to
//! busy by compare-and-swap has the page alone until it stores the next state; so contents pass
//! from vCPU to vCPU with acquire and release and nothing else. Nobody waits: a page that is not in
//! the wanted state is passed over.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use guest::{pool::Page, random::Random, stamp::Stamp};

use crate::{
    plan::Plan,
    progress::{self, Activity},
    report,
};

/// Pages looked at for one in the wanted state.
const TRIES: usize = 4;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Phase {
    Free = 0,
    Full = 1,
    Busy = 2,
}

/// A state word: bits 1:0 phase, 5:2 the last writer, the rest the generation.
#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    writer: usize,
    generation: u64,
}

impl State {
    const fn from_word(word: u64) -> Self {
        Self {
            phase: match word & 3 {
                0 => Phase::Free,
                1 => Phase::Full,
                _ => Phase::Busy,
            },
            writer: (word >> 2 & 0xf) as usize,
            generation: word >> 6,
        }
    }

    const fn word(self) -> u64 {
        self.generation << 6 | (self.writer as u64) << 2 | self.phase as u64
    }

    const fn stamp(self, ipa: u64) -> Stamp {
        Stamp {
            ipa,
            generation: self.generation,
            writer: self.writer,
        }
    }
}

/// A page that this vCPU has made busy, and so has alone.
struct Claim {
    state: State,
    word: &'static AtomicU64,
    page: &'static Page,
    ipa: u64,
}

impl Claim {
    /// Ends the claim: who sees the new state sees the page as it is now.
    fn release(self, state: State) {
        self.word.store(state.word(), Release);
    }
}

/// Stamps a free page and makes it full. What the last round left in it must still be there.
pub(crate) fn put(plan: &Plan, vcpu: usize, random: &mut Random) {
    let Some(claim) = claim(plan, vcpu, random, |state| state.phase == Phase::Free) else {
        return;
    };
    report::check(vcpu, claim.page, claim.state.stamp(claim.ipa));
    let state = State {
        phase: Phase::Full,
        writer: vcpu,
        generation: claim.state.generation + 1,
    };
    report::fill(claim.page, state.stamp(claim.ipa));
    claim.release(state);
    progress::of(vcpu).count(Activity::Put);
}

/// Checks a page that another vCPU filled (any, if this is the only one) and makes it free.
pub(crate) fn take(plan: &Plan, vcpu: usize, random: &mut Random) {
    let from_others =
        |state: State| state.phase == Phase::Full && (state.writer != vcpu || plan.vcpus == 1);
    let Some(claim) = claim(plan, vcpu, random, from_others) else {
        return;
    };
    report::check(vcpu, claim.page, claim.state.stamp(claim.ipa));
    let state = State {
        phase: Phase::Free,
        ..claim.state
    };
    claim.release(state);
    progress::of(vcpu).count(Activity::Take);
}

fn claim(
    plan: &Plan,
    vcpu: usize,
    random: &mut Random,
    wanted: impl Fn(State) -> bool,
) -> Option<Claim> {
    (0..TRIES).find_map(|_| {
        let index = random.below(plan.areas.slots.len());
        let word = plan.slot_states().word(index);
        let seen = word.load(Relaxed);
        let state = State::from_word(seen);
        let busy = State {
            phase: Phase::Busy,
            ..state
        };
        if !wanted(state)
            || word
                .compare_exchange(seen, busy.word(), Acquire, Relaxed)
                .is_err()
        {
            return None;
        }
        let number = plan.areas.slots.start + index;
        let ipa = plan.pool.ipa(number);
        progress::of(vcpu).at(ipa);
        Some(Claim {
            state,
            word,
            page: plan.pool.page(number),
            ipa,
        })
    })
}

/// Checks every page that was ever put. For when every vCPU has stopped.
pub(crate) fn check_rest(plan: &Plan, vcpu: usize) {
    for (index, number) in plan.areas.slots.clone().enumerate() {
        let state = State::from_word(plan.slot_states().word(index).load(Acquire));
        if state.generation != 0 {
            let ipa = plan.pool.ipa(number);
            report::check(vcpu, plan.pool.page(number), state.stamp(ipa));
        }
    }
}
