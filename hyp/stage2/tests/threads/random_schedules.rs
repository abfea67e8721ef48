//! The protocol in random schedules: tables of 512 entries, and more threads than the model checker
//! can follow.
//!
//! Two vCPUs of a VM touch its memory, a manager takes pages away and writes down what was written,
//! a compactor makes blocks and takes them apart, other VMs use up the VMIDs, and on each CPU a
//! walker walks whenever it likes, finding whatever it may find (`Walks::Any`). What a vCPU has
//! stored it must load again; whatever else goes wrong is a panic of the fake machine. Run by
//! shuttle, which says after a failure how to run that schedule again.

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, thread};
use stage2::fake::{FakeMachine, Guest, Setup, Walks};
use stage2::stats::Counter;
use stage2::{
    Access, Attributes, CopyPlan, DirtyGranule, DirtyState, ENTRIES, Environment, GuestFrame, Ipa,
    IpaRange, Level, MapError, PAGE_SIZE, Resolution, Stage2, Unmapped, unload,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The vCPUs' CPUs come first, then those of the manager, the compactor and the other VMs.
const VCPUS: usize = 2;
const CPUS: usize = VCPUS + 3;
/// Pages that are touched: few, at both ends of two regions.
const PAGES: [u64; 6] = [0, 1, 511, 512, 513, 1023];
const ACCESSES: usize = 20;
const SCHEDULES: usize = 500;

/// What must happen in one schedule or another, or this is no test of it.
const HAPPENS: [Counter; 8] = [
    Counter::PagesMapped,
    Counter::LeavesUnmapped,
    Counter::Invalidations,
    Counter::Migrations,
    Counter::Splits,
    Counter::CollapsesCopied,
    Counter::CollapsesInPlace,
    Counter::TablesFreed,
];

type Vm = Stage2<Arc<FakeMachine>>;

struct World {
    machine: Arc<FakeMachine>,
    vm: Vm,
    /// vCPUs that have not come to their end.
    running: AtomicUsize,
}

fn ipa(page: u64) -> Ipa {
    Ipa::new(page * PAGE_SIZE)
}

fn any_page() -> u64 {
    PAGES[thread_rng().gen_range(0..PAGES.len())]
}

fn any_region() -> IpaRange {
    IpaRange::entry(ipa(any_page()), Level::L2)
}

impl World {
    fn new() -> Self {
        let machine = Arc::new(FakeMachine::new(Setup {
            cpus: CPUS,
            table_frames: 32,
            data_pages: 6 * ENTRIES,
            vmid_bits: 3,
            hardware_dirty: thread_rng().gen_bool(0.5),
            direct_size_change: thread_rng().gen_bool(0.5),
            walks: Walks::Any,
            ..Setup::default()
        }));
        let vm = Stage2::new(machine.clone(), machine.config(1)).expect("a root");
        let world = Self {
            machine,
            vm,
            running: AtomicUsize::new(VCPUS),
        };
        world.map_block();
        world
    }

    /// The first region begins as a block, the second one empty.
    fn map_block(&self) {
        let block = self.machine.data().allocate(Level::L2).expect("a block");
        for page in 0..ENTRIES as u64 {
            let pa = block.pa().offset(page * PAGE_SIZE);
            self.machine.data().write(pa, 0);
        }
        let mapped = self
            .vm
            .map_block(ipa(0), block, Attributes::RAM, DirtyState::Clean);
        assert!(mapped.is_ok());
    }

    fn runs(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// Stores to pages of its own and loads them again: every `VCPUS`-th.
    fn vcpu(&self, cpu: usize) {
        let mut stored = [0; PAGES.len()];
        for round in 1..=ACCESSES as u64 {
            let guest = self.machine.enter(&self.vm);
            let own = cpu + VCPUS * thread_rng().gen_range(0..PAGES.len() / VCPUS);
            assert_eq!(self.load(&guest, PAGES[own]), stored[own], "page {own}");
            stored[own] = round << 8 | cpu as u64;
            self.store(&guest, PAGES[own], stored[own]);
        }
        let guest = self.machine.enter(&self.vm);
        for own in (cpu..PAGES.len()).step_by(VCPUS) {
            assert_eq!(self.load(&guest, PAGES[own]), stored[own], "page {own}");
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    fn load(&self, guest: &Guest<'_>, page: u64) -> u64 {
        loop {
            match guest.read(ipa(page)) {
                Ok(value) => return value,
                Err(_) => self.answer(page, Access::Read),
            }
        }
    }

    fn store(&self, guest: &Guest<'_>, page: u64, value: u64) {
        while guest.write(ipa(page), value).is_err() {
            self.answer(page, Access::Write);
        }
    }

    fn answer(&self, page: u64, access: Access) {
        match self.vm.resolve_fault(ipa(page), access, DirtyGranule::Leaf) {
            Resolution::Resolved => {}
            Resolution::Busy => thread::yield_now(),
            Resolution::Unmapped => self.map(page),
            other => panic!("a fault that nothing helps: {other:?}"),
        }
    }

    fn map(&self, page: u64) {
        let frame = self.page_of(0);
        let mapped = self
            .vm
            .map_page(ipa(page), frame, Attributes::RAM, DirtyState::Clean);
        if let Err(refused) = mapped {
            self.release(refused.frame);
            assert!(matches!(
                refused.reason,
                MapError::Occupied(_) | MapError::Busy
            ));
            thread::yield_now();
        }
    }

    fn page_of(&self, value: u64) -> GuestFrame {
        let frame = self.machine.data().allocate(Level::L3).expect("a page");
        self.machine.data().write(frame.pa(), value);
        frame
    }

    fn release(&self, frame: GuestFrame) {
        self.machine.data().release(frame);
    }

    /// Moves pages, ages them, makes stores trap, and frees what tables are empty.
    fn manager(&self) {
        while self.runs() {
            let page = any_page();
            match thread_rng().gen_range(0..5) {
                0 => self.migrate(page),
                1 => self.vm.age(any_region(), |_, _| {}),
                2 => self.vm.collect_dirty(any_region(), |_| {}),
                3 => drop(self.vm.free_empty_tables(self.vm.geometry().range())),
                _ => self.come_and_go(),
            }
        }
    }

    fn migrate(&self, page: u64) {
        let Some(entry) = self
            .vm
            .query(ipa(page))
            .filter(|entry| entry.level == Level::L3)
        else {
            return;
        };
        let from = entry.descriptor.output();
        let to = self.page_of(0);
        let mut copier = self.machine.data().copier();
        if let Err(refused) = self.vm.migrate_page(ipa(page), from, to, &mut copier) {
            self.release(refused.frame);
        }
    }

    /// Maps and unmaps a page that no vCPU touches, in a region of its own.
    fn come_and_go(&self) {
        const SPARE: u64 = 3 * ENTRIES as u64;
        self.map(SPARE);
        let range = IpaRange::entry(ipa(SPARE), Level::L3);
        let unmapped = self
            .vm
            .unmap(range, |leaf: Unmapped| self.release(leaf.frame));
        assert!(unmapped.is_ok());
    }

    fn compactor(&self) {
        while self.runs() {
            let start = any_region().start();
            match thread_rng().gen_range(0..3) {
                0 => drop(self.vm.split_block(start, Level::L2)),
                1 => drop(self.vm.collapse_in_place(start, Level::L2)),
                _ => self.collapse(start),
            }
            thread::yield_now();
        }
    }

    fn collapse(&self, start: Ipa) {
        let plan = CopyPlan {
            max_empty: ENTRIES,
            max_hot: 2,
            rounds: 1,
        };
        let Ok(block) = self.machine.data().allocate(Level::L2) else {
            return;
        };
        let mut copier = self.machine.data().copier();
        let collapsed = self.vm.collapse_by_copying(start, block, plan, &mut copier);
        if let Err(refused) = collapsed {
            self.release(refused.frame);
        }
    }

    /// Uses up the VMIDs: each of some VMs runs for a moment and sees that it has no memory.
    fn others(&self) {
        while self.runs() {
            let vms = [2, 3, 4].map(|owner| {
                let config = self.machine.config(owner);
                Stage2::new(self.machine.clone(), config).expect("a root")
            });
            for vm in &vms {
                let guest = self.machine.enter(vm);
                assert!(guest.read(ipa(any_page())).is_err(), "another VM's page");
            }
            unload(&*self.machine);
            for vm in vms {
                assert!(
                    vm.destroy(|leaf| panic!("{leaf:?} was never mapped"))
                        .is_ok()
                );
            }
        }
    }

    /// The walkers of all CPUs.
    fn walkers(&self) {
        while self.runs() {
            let cpu = thread_rng().gen_range(0..CPUS);
            self.machine.walk_on(cpu, ipa(any_page()));
            thread::yield_now();
        }
    }

    /// Adds up what happened.
    fn count(&self, happened: &Mutex<[u64; HAPPENS.len()]>) {
        let mut happened = happened.lock().unwrap();
        for (sum, counter) in happened.iter_mut().zip(HAPPENS) {
            *sum += self.machine.cpus().counted(counter);
        }
    }

    fn end(self) {
        let Self { machine, vm, .. } = self;
        machine.leave_all();
        let ended = vm.destroy(|leaf| machine.data().release(leaf.frame));
        assert!(ended.is_ok());
        assert_eq!(machine.frames().outstanding(), 0, "a table frame leaked");
        assert_eq!(machine.data().outstanding(), 0, "a page leaked");
    }
}

#[test]
fn everybody_at_once() {
    let mut config = Config::new();
    config.silence_warnings = true;
    config.stack_size = 1 << 18;
    config.max_steps = shuttle::MaxSteps::FailAfter(20_000_000);
    let happened = Arc::new(Mutex::new([0; HAPPENS.len()]));
    let counted = happened.clone();
    let scheduler = RandomScheduler::new(SCHEDULES);
    Runner::new(scheduler, config).run(move || {
        let world = Arc::new(World::new());
        let on_cpu = |cpu: usize, part: fn(&World, usize)| {
            let world = world.clone();
            thread::spawn(move || {
                let _cpu = world.machine.on_cpu(cpu);
                part(&world, cpu);
            })
        };
        let walkers = {
            let world = world.clone();
            thread::spawn(move || world.walkers())
        };
        let threads = [
            on_cpu(1, World::vcpu),
            on_cpu(VCPUS, |world, _| world.manager()),
            on_cpu(VCPUS + 1, |world, _| world.compactor()),
            on_cpu(VCPUS + 2, |world, _| world.others()),
            walkers,
        ];
        world.vcpu(0);
        for thread in threads {
            thread.join().unwrap();
        }
        let world = Arc::into_inner(world).expect("all threads were joined");
        world.count(&counted);
        world.end();
    });
    let happened = happened.lock().unwrap();
    println!("{:?}", HAPPENS.iter().zip(*happened).collect::<Vec<_>>());
    assert!(!happened.contains(&0));
}
