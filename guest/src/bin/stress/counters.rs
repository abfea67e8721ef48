//! Counters that all vCPUs add to. Each vCPU keeps what it added to each, so that at the end the
//! sums tell which counter is wrong.

use core::{
    arch::asm,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use aarch64_cpu::registers::{ID_AA64ISAR0_EL1, Readable};
use guest::{areas::COUNTERS_PER_PAGE, random::Random, stamp::WORDS};

use crate::{
    plan::Plan,
    progress::{self, Activity},
    report,
};

/// Words from one counter to the next.
const SPACING: usize = WORDS / COUNTERS_PER_PAGE;

/// Adds something to some counter, in one of the ways there are.
pub(crate) fn add(plan: &Plan, vcpu: usize, random: &mut Random) {
    let index = random.below(count(plan));
    let page = plan.areas.counters.start + index / COUNTERS_PER_PAGE;
    progress::of(vcpu).at(plan.pool.ipa(page));
    let counter = &plan.pool.page(page).0[index % COUNTERS_PER_PAGE * SPACING];
    let amount = random.next();
    match amount % 4 {
        0 => compare_and_swap(counter, amount),
        1 if has_lse() => add_lse(counter, amount),
        _ => {
            counter.fetch_add(amount, Relaxed);
        }
    }
    let added = plan.additions().word(vcpu * count(plan) + index);
    added.store(added.load(Relaxed).wrapping_add(amount), Relaxed);
    progress::of(vcpu).count(Activity::Addition);
}

fn count(plan: &Plan) -> usize {
    plan.areas.counters.len() * COUNTERS_PER_PAGE
}

fn compare_and_swap(counter: &AtomicU64, amount: u64) {
    let mut seen = counter.load(Relaxed);
    while let Err(now) =
        counter.compare_exchange_weak(seen, seen.wrapping_add(amount), Relaxed, Relaxed)
    {
        seen = now;
    }
}

/// FEAT_LSE, by `ID_AA64ISAR0_EL1.Atomic`.
fn has_lse() -> bool {
    const ATOMIC: u64 = 20;
    ID_AA64ISAR0_EL1.get() >> ATOMIC & 0xf >= 2
}

/// One instruction that reads and writes, which the compiler does not use for this target.
fn add_lse(counter: &AtomicU64, amount: u64) {
    // SAFETY: an atomic addition to a word that is atomic; the CPU has the instruction.
    unsafe {
        asm!(
            ".arch_extension lse",
            "stadd {amount}, [{counter}]",
            amount = in(reg) amount,
            counter = in(reg) counter.as_ptr(),
            options(nostack),
        );
    }
}

/// Compares every counter with the sum of what was added to it, and the words between with zero.
/// For when every vCPU has stopped.
pub(crate) fn check_sums(plan: &Plan, vcpu: usize) {
    for (nth, number) in plan.areas.counters.clone().enumerate() {
        let (page, ipa) = (plan.pool.page(number), plan.pool.ipa(number));
        for (word, found) in page.0.iter().enumerate() {
            let expected = if word.is_multiple_of(SPACING) {
                sum(plan, nth * COUNTERS_PER_PAGE + word / SPACING)
            } else {
                0
            };
            report::compare(vcpu, ipa + 8 * word as u64, expected, found.load(Relaxed));
        }
    }
}

fn sum(plan: &Plan, index: usize) -> u64 {
    (0..plan.vcpus)
        .map(|vcpu| {
            plan.additions()
                .word(vcpu * count(plan) + index)
                .load(Relaxed)
        })
        .fold(0, u64::wrapping_add)
}
