//! vCPU 0: one migration after the other.

use core::sync::atomic::Ordering::Relaxed;

use guest::{
    args::{Args, ArgsError},
    boot, catalogue,
    machine::Machine,
    println,
    psci::{self, AffinityState},
    tables, time,
};
use spin::Once;

use crate::{
    area::Area,
    writer::{self, REFUSED, RELEASED, STORES, Writer},
};

/// Rounds of a migration in which others write.
const ROUNDS: usize = 4;
/// Stores by this vCPU in each round, and as many between migrations.
const STORES_A_ROUND: usize = 64;

/// What all vCPUs know.
struct Plan {
    area: Area,
    vcpus: usize,
    seed: u64,
    /// CNTVCT at which no other migration begins.
    deadline: u64,
}

static PLAN: Once<Plan> = Once::new();

guest::main!(run);

impl Plan {
    fn new(machine: &Machine<'static>) -> Result<Self, ArgsError<'static>> {
        let args = Args::new(machine.arguments, &catalogue::DIRTY)?;
        let seconds = args.number("seconds", 2);
        Ok(Self {
            area: Area::new(boot::pool(machine)),
            vcpus: machine.mpidrs().len(),
            seed: args.number("seed", 1),
            deadline: time::now().saturating_add(seconds.saturating_mul(time::frequency())),
        })
    }

    fn writer(&self, vcpu: usize) -> Writer {
        Writer::new(self.area, vcpu, self.vcpus, self.seed)
    }
}

fn run(machine: &'static Machine<'static>) {
    assert!(
        tables::are_there(),
        "the hypervisor has no calls for tables; it takes the boot argument table-calls=on"
    );
    let plan = match Plan::new(machine) {
        Ok(plan) => PLAN.call_once(|| plan),
        Err(error) => panic!("{error}"),
    };
    for vcpu in 1..plan.vcpus {
        boot::start_vcpu(machine, vcpu, write);
    }
    let mut own = plan.writer(0);
    let (mut migrations, mut told) = (0, 0);
    while migrations == 0 || time::now() < plan.deadline {
        told += migrate(plan, &mut own);
        migrations += 1;
    }
    writer::end();
    for &mpidr in &machine.mpidrs()[1..] {
        while psci::affinity_info(mpidr) != Ok(AffinityState::Off) {
            tables::yield_cpu();
        }
    }
    println!(
        "dirty: {migrations} migrations, {} stores, {told} pages told, {} pages given back, {} not taken",
        STORES.load(Relaxed),
        RELEASED.load(Relaxed),
        REFUSED.load(Relaxed),
    );
}

fn write(vcpu: usize) {
    if let Some(plan) = PLAN.get() {
        plan.writer(vcpu).run();
    }
}

/// Copies the area while it is written to; returns how many pages were told to be written.
fn migrate(plan: &Plan, own: &mut Writer) -> u64 {
    let write = |own: &mut Writer| (0..STORES_A_ROUND).for_each(|_| own.step());
    let area = plan.area;
    write(own);
    assert!(tables::log(true), "dirty logging cannot be switched on");
    area.clean();
    area.copy_all();
    let mut told = 0;
    for _ in 0..ROUNDS {
        write(own);
        told += area.copy_dirty();
    }
    write(own);
    writer::rest(plan.vcpus - 1);
    told += area.copy_dirty();
    let differences = area.differences();
    assert!(
        differences == 0,
        "{differences} pages were written, and not told"
    );
    assert!(tables::log(false), "dirty logging cannot be switched off");
    writer::go_on();
    told
}
