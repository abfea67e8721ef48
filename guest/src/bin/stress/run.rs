//! vCPU 0: starts the others, works like them, waits for them, checks what they share, and judges.

use guest::{
    boot,
    machine::Machine,
    println,
    psci::{self, AffinityState},
    time,
};
use plural::count;
use spin::Once;

use crate::{
    counters, handover,
    plan::Plan,
    progress::{self, Activity, Progress},
    report, worker,
};

/// A vCPU hangs when nothing it counts has changed for so long.
const PATIENCE_SECONDS: u64 = 20;

static PLAN: Once<Plan> = Once::new();

guest::main!(run);

fn run(machine: &'static Machine<'static>) {
    let plan = match Plan::new(machine) {
        Ok(plan) => PLAN.call_once(|| plan),
        Err(error) => panic!("{error}"),
    };
    println!(
        "stress: {}, {} MiB, {}, seed {}",
        count(plan.vcpus, "vcpu", "vcpus"),
        plan.pool.pages() / 256,
        count(plan.seconds, "second", "seconds"),
        plan.seed
    );
    for vcpu in 1..plan.vcpus {
        boot::start_vcpu(machine, vcpu, start_worker);
    }
    worker::run(plan, 0);
    for (vcpu, &mpidr) in machine.mpidrs().iter().enumerate().skip(1) {
        wait_for(vcpu, mpidr);
    }
    counters::check_sums(plan, 0);
    handover::check_rest(plan, 0);
    judge(plan);
}

fn start_worker(vcpu: usize) {
    if let Some(plan) = PLAN.get() {
        worker::run(plan, vcpu);
    }
}

/// Waits until the vCPU has finished and turned itself off; panics if it makes no progress any
/// more.
fn wait_for(vcpu: usize, mpidr: u64) {
    let progress = progress::of(vcpu);
    let patience = PATIENCE_SECONDS * time::frequency();
    let mut seen = (0, 0);
    let mut since = time::now();
    while !(progress.is_finished() && psci::affinity_info(mpidr) == Ok(AffinityState::Off)) {
        let now = (
            progress.counted(Activity::Step),
            progress.counted(Activity::Check),
        );
        if now != seen {
            (seen, since) = (now, time::now());
        }
        assert!(
            time::now() - since < patience,
            "vcpu {vcpu} hangs: {}, after {} steps, last at IPA {:#x}",
            if progress.is_finished() {
                "it does not turn off"
            } else {
                "no progress"
            },
            now.0,
            progress.last_ipa(),
        );
        core::hint::spin_loop();
    }
}

fn judge(plan: &Plan) {
    let total = Progress::new();
    for vcpu in 0..plan.vcpus {
        let progress = progress::of(vcpu);
        println!("stress: vcpu {vcpu}: {progress}");
        total.add(progress);
    }
    println!("stress: total: {total}");
    let mismatches = report::mismatches();
    assert!(mismatches == 0, "{mismatches} mismatches");
}
