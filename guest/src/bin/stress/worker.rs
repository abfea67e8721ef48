//! What each vCPU does until the time is up.

use guest::{random::Random, time};

use crate::{
    code::Code,
    counters, handover,
    plan::Plan,
    private::Private,
    progress::{self, Activity},
    registers::Registers,
};

/// Additions in a step.
const ADDITIONS: usize = 4;
/// Steps from one new function to the next, from one look at the registers to the next.
const STEPS_PER_FUNCTION: u64 = 16;
const STEPS_PER_REGISTER_CHECK: u64 = 64;
/// Steps from one stretch of memory that is given back to the next.
const STEPS_PER_RELEASE: u64 = 32;

/// Runs vCPU `vcpu`'s part from start to end.
pub(crate) fn run(plan: &'static Plan, vcpu: usize) {
    let mut random = Random::new(plan.seed.wrapping_mul(16).wrapping_add(vcpu as u64));
    let mut private = Private::new(plan, vcpu);
    let mut code = Code::new(plan, vcpu);
    let mut registers = Registers::new(vcpu, &mut random);
    let progress = progress::of(vcpu);
    let mut now = time::now();
    while now < plan.deadline {
        private.write_next(&mut random);
        private.check_next(&mut random);
        for _ in 0..ADDITIONS {
            counters::add(plan, vcpu, &mut random);
        }
        handover::put(plan, vcpu, &mut random);
        handover::take(plan, vcpu, &mut random);
        code.call_again(&mut random);
        let step = progress.counted(Activity::Step);
        if step.is_multiple_of(STEPS_PER_FUNCTION) {
            code.renew(&mut random);
        }
        if step.is_multiple_of(STEPS_PER_RELEASE) {
            private.release_next(&mut random);
        }
        if step.is_multiple_of(STEPS_PER_REGISTER_CHECK) {
            registers.check_and_renew(&mut random);
        }
        progress.count(Activity::Step);
        now = later_than(now, vcpu);
    }
    private.check_all();
    registers.check_and_renew(&mut random);
    progress.finish();
}

/// The time, which must not be before `before`, wherever this vCPU has run in the meantime.
fn later_than(before: u64, vcpu: usize) -> u64 {
    let now = time::now();
    assert!(
        now >= before,
        "vcpu {vcpu}: the counter went back from {before} to {now}"
    );
    now
}
