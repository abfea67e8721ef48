//! vCPU 0: keeps the others busy, and sees to the guest's lives.

use core::sync::atomic::Ordering::Relaxed;

use guest::{
    args::{Args, ArgsError},
    boot, catalogue,
    machine::Machine,
    println,
    psci::{self, AffinityState},
    random::Random,
    time,
};

use crate::places::Places;
use crate::tally::{self, DIGESTED, Kinds};
use crate::worker::{CHAOS, Chaos, take_step};
use crate::{canary, entry};

/// Steps of vCPU 0 from one look at the others to the next.
const STEPS_PER_LOOK: u64 = 8;

guest::main!(run);

/// What the boot arguments ask for.
struct Plan {
    seed: u64,
    lives: u64,
    seconds: u64,
}

impl Plan {
    fn new(machine: &Machine<'static>) -> Result<Self, ArgsError<'static>> {
        let args = Args::new(machine.arguments, &catalogue::CHAOS)?;
        Ok(Self {
            seed: args.number("seed", 1),
            lives: args.number("lives", 4).max(1),
            seconds: args.number("seconds", 4),
        })
    }
}

fn run(machine: &'static Machine<'static>) {
    let plan = Plan::new(machine).unwrap_or_else(|error| panic!("{error}"));
    // Where nobody tells the boots apart there is one life only.
    let life = machine.boot_count().map_or(plan.lives - 1, u64::from);
    let mut random = Random::new(plan.seed ^ life << 32);
    let chaos = CHAOS.call_once(|| Chaos {
        places: Places::new(machine),
        vcpus: machine.mpidrs().len(),
        seed: random.next(),
        entry: entry::address(),
    });
    let pool = boot::pool(machine);
    canary::set(pool, &chaos.places);
    let share = plan.seconds.saturating_mul(time::frequency()) / plan.lives;
    let length = share / 2 + random.below(1 + share as usize) as u64;
    let starts = live(machine, chaos, time::now().saturating_add(length));
    canary::check(pool, &chaos.places);
    report(life, starts);
    if life + 1 < plan.lives {
        // While the others are in the midst of it.
        psci::system_reset();
    }
}

/// Takes steps until `deadline`; returns how often a vCPU was switched on that was off.
fn live(machine: &Machine<'static>, chaos: &Chaos, deadline: u64) -> u64 {
    let mut starts = 0;
    let taken = &tally::of(0).steps;
    while time::now() < deadline || taken.load(Relaxed) < DIGESTED {
        if taken.load(Relaxed).is_multiple_of(STEPS_PER_LOOK) {
            starts += start_others(machine);
        }
        take_step(chaos, 0);
    }
    starts
}

/// Switches on the vCPUs that are off.
fn start_others(machine: &Machine<'static>) -> u64 {
    let off = |mpidr: &&u64| psci::affinity_info(**mpidr) == Ok(AffinityState::Off);
    let others = machine.mpidrs().iter().skip(1);
    let started = others.filter(off).filter(|&&mpidr| {
        // SAFETY: the vCPU is off; at its entry it takes its own stack and the runtime's tables.
        let result = unsafe { psci::cpu_on(mpidr, entry::address()) };
        // Another vCPU may have been faster.
        result.is_ok()
    });
    started.count() as u64
}

fn report(life: u64, starts: u64) {
    println!(
        "chaos: life {life}: {} steps, {} exceptions, {} interrupts, {starts} starts, digest {:#018x}",
        tally::sum(|tally| &tally.steps),
        tally::sum(|tally| &tally.exceptions),
        tally::sum(|tally| &tally.interrupts),
        tally::of(0).digest(),
    );
    println!("chaos: life {life}: {Kinds}");
}
