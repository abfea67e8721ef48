//! What all vCPUs know and none changes: how memory is divided, the seed, and when to stop.

use guest::{
    areas::Areas,
    args::{Args, ArgsError},
    boot, catalogue,
    machine::Machine,
    pool::{Array, Pool},
    time,
};

/// The plan of the run.
pub(crate) struct Plan {
    pub(crate) pool: Pool,
    pub(crate) areas: Areas,
    pub(crate) vcpus: usize,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    /// CNTVCT at which the vCPUs stop.
    pub(crate) deadline: u64,
}

impl Plan {
    /// Divides the machine's memory; the time begins to run now.
    pub(crate) fn new(machine: &Machine<'static>) -> Result<Self, ArgsError<'static>> {
        let args = Args::new(machine.arguments, &catalogue::STRESS)?;
        let pool = boot::pool(machine);
        let vcpus = machine.mpidrs().len();
        let seconds = args.number("seconds", 2);
        Ok(Self {
            pool,
            areas: Areas::new(pool.pages(), vcpus).expect("stress needs at least 32 MiB of RAM"),
            vcpus,
            seconds,
            seed: args.number("seed", 1),
            deadline: time::now().saturating_add(seconds.saturating_mul(time::frequency())),
        })
    }

    /// The generation of each private page.
    pub(crate) fn generations(&self) -> Array {
        self.pool.array(self.areas.generations.start)
    }

    /// What each vCPU added to each counter.
    pub(crate) fn additions(&self) -> Array {
        self.pool.array(self.areas.additions.start)
    }

    /// The state of each page that is handed over.
    pub(crate) fn slot_states(&self) -> Array {
        self.pool.array(self.areas.slot_states.start)
    }
}
