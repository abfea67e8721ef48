//! The compaction thread: one for all VMs, beside their vCPUs.
//!
//! It sleeps most of the time, and gives way within its steps (see `memory::compaction`). While it
//! is in a VM's memory the VM is not taken down: it comes through
//! [`Vm::visit`](crate::vm::Vm::visit).

use bootargs::{BootArgs, Compaction};
use log::info;
use memory::compaction::{Compactor, Policy, Stress};
use platform::timer;
use spin::Once;

use crate::mm::{El2, Memory};
use crate::sched::{self, SpawnError};
use crate::vm::{self, MAX_VMS};

/// Things that the stress setting does before it sleeps.
const STRESS_ACTIONS: usize = 16;

/// What was asked for by boot arguments.
struct Plan {
    policy: Policy,
    stress: bool,
    period: u64,
}

static PLAN: Once<Plan> = Once::new();

/// What the thread keeps for one VM.
enum Worker {
    Compact(Compactor<'static, <El2 as memory::Parts>::Map>),
    Stress(Stress),
}

impl Worker {
    fn new(plan: &Plan, vm: usize) -> Self {
        if plan.stress {
            Self::Stress(Stress::new(timer::now() ^ (vm as u64) << 32))
        } else {
            Self::Compact(Compactor::new(plan.policy))
        }
    }

    fn step(&mut self, memory: &Memory) {
        match self {
            Self::Compact(compactor) => compactor.step(memory),
            Self::Stress(stress) => (0..STRESS_ACTIONS).for_each(|_| {
                stress.step(memory);
                memory.machine().cond_resched();
            }),
        }
    }
}

/// Starts the thread, unless the boot arguments switch it off.
///
/// # Errors
///
/// There is no room for another thread.
pub(crate) fn start(arguments: &BootArgs<'_>) -> Result<(), SpawnError> {
    if arguments.compaction == Compaction::Off {
        info!("compaction is switched off");
        return Ok(());
    }
    PLAN.call_once(|| Plan {
        policy: Policy {
            fill: arguments.collapse_fill as usize,
            step: arguments.compaction_step as usize,
            max_hot: Policy::MAX_HOT,
            rounds: Policy::ROUNDS,
        },
        stress: arguments.compaction == Compaction::Stress,
        period: u64::from(arguments.compaction_period) * timer::frequency() / 1000,
    });
    sched::spawn("compaction", run, 0, None).map(drop)
}

extern "C" fn run(_: usize) {
    let Some(plan) = PLAN.get() else { return };
    let mut workers: [Worker; MAX_VMS] = core::array::from_fn(|vm| Worker::new(plan, vm));
    loop {
        for (vm, worker) in vm::all().zip(&mut workers) {
            if vm.visit(|memory| worker.step(memory)).is_none() {
                // Lets a physical block go that was being emptied for a VM that is gone.
                *worker = Worker::new(plan, vm.index());
            }
        }
        sched::sleep_until(timer::now() + plan.period);
    }
}
