//! A small VM on a fake machine, and what its vCPUs do.
//!
//! Tables have two entries here. The VM has one root table of level 2, so two regions of two pages:
//! pages 0 and 1 below the root's entry 0, pages 2 and 3 below its entry 1.

use stage2::fake::{FakeMachine, Guest, Setup, Walks};
use stage2::stats::Counter;
use stage2::vmid::Vmid;
use stage2::{
    Access, Attributes, CollapseError, CopyPlan, Cpus, DirtyGranule, DirtyState, Entry, EntryKind,
    Environment, GuestFrame, Ipa, IpaRange, Level, MapError, MigrateError, PAGE_SIZE, Pa, Refused,
    Resolution, Stage2,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often a thread is interrupted in the middle of its work, at most, in the interleavings that
/// are explored. Two show every race here with its rule taken out; the rest is for what nobody has
/// thought of. A quick run asks for two (LOOM_MAX_PREEMPTIONS), which take a hundredth of
/// the time.
const PREEMPTIONS: usize = 3;

/// Explores the interleavings of `model` with up to [`PREEMPTIONS`], weak memory included.
pub(crate) fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_with(PREEMPTIONS, model);
}

/// As [`explore`], with up to so many preemptions.
pub(crate) fn explore_with(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let most = builder.preemption_bound.unwrap_or(preemptions);
    builder.preemption_bound = Some(preemptions.min(most));
    // More than any of these models needs: one that goes beyond spins without end.
    builder.max_branches = 5_000;
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} interleavings", count.load(Ordering::Relaxed));
}

/// The `n`-th page of the VM.
pub(crate) fn page(n: u64) -> Ipa {
    Ipa::new(n * PAGE_SIZE)
}

/// The `n`-th page, as a range.
pub(crate) fn only(n: u64) -> IpaRange {
    IpaRange::entry(page(n), Level::L3)
}

/// Pages 0 and 1: what the root's first entry covers.
pub(crate) fn region() -> IpaRange {
    IpaRange::entry(page(0), Level::L2)
}

/// The machine of most models.
pub(crate) fn small() -> Setup {
    Setup {
        cpus: 2,
        table_frames: 4,
        data_pages: 8,
        ipa_bits: Level::L1.shift(),
        start: Level::L2,
        ..Setup::default()
    }
}

/// The same with walkers that are as late as they may be.
pub(crate) fn late() -> Setup {
    Setup {
        walks: Walks::Oldest,
        ..small()
    }
}

/// A plan that lets every collapse through which is allowed at all.
pub(crate) const ANYTHING: CopyPlan = CopyPlan {
    max_empty: 1,
    max_hot: 2,
    rounds: 0,
};

/// Collapses pages 0 and 1 where they are; says whether that was possible.
pub(crate) fn collapse_in_place(world: &World) -> bool {
    world.vm.collapse_in_place(page(0), Level::L2).is_ok()
}

/// Frees the table of pages 0 and 1 if it is empty; says how many were freed.
pub(crate) fn free_tables(world: &World) -> usize {
    world.vm.free_empty_tables(region())
}

/// One VM and its machine, as all threads of a model see them.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) machine: Arc<FakeMachine>,
    pub(crate) vm: Arc<Stage2<Arc<FakeMachine>>>,
}

impl World {
    /// An empty VM.
    pub(crate) fn new(setup: Setup) -> Self {
        Self::beside(&Arc::new(FakeMachine::new(setup)), 1)
    }

    /// An empty VM of this owner's number on a machine that others may use too.
    pub(crate) fn beside(machine: &Arc<FakeMachine>, owner: u32) -> Self {
        let machine = machine.clone();
        let vm = Stage2::new(machine.clone(), machine.config(owner)).expect("a frame for the root");
        Self {
            machine,
            vm: Arc::new(vm),
        }
    }

    /// Runs both sides at once, `a` as CPU 0 and `b` as CPU 1.
    pub(crate) fn race<A, B: 'static>(
        &self,
        a: impl FnOnce(&World) -> A,
        b: impl FnOnce(&World) -> B + 'static,
    ) -> (A, B) {
        let world = self.clone();
        let b = loom::thread::spawn(move || {
            let _cpu = world.machine.on_cpu(1);
            b(&world)
        });
        let a = a(self);
        (a, b.join().unwrap())
    }

    /// Loads the VM onto the calling thread's CPU; says under which number.
    pub(crate) fn enter(&self) -> Vmid {
        self.machine.enter(&self.vm).vmid()
    }

    /// A page of memory that holds `value`.
    pub(crate) fn memory(&self, value: u64) -> GuestFrame {
        let frame = self.machine.data().allocate(Level::L3).expect("a page");
        self.machine.data().write(frame.pa(), value);
        frame
    }

    /// Memory for a block of level 2, with garbage in it.
    pub(crate) fn block(&self) -> GuestFrame {
        self.machine.data().allocate(Level::L2).expect("a block")
    }

    /// Memory for a block of level 2 that holds 10 in its first and 11 in its second page.
    pub(crate) fn filled_block(&self) -> GuestFrame {
        let block = self.block();
        for n in 0..2 {
            self.machine
                .data()
                .write(block.pa().offset(n * PAGE_SIZE), 10 + n);
        }
        block
    }

    /// Maps the `n`-th page of the VM, where nothing is mapped, to fresh memory that holds `value`.
    pub(crate) fn map(&self, n: u64, value: u64) -> Pa {
        let frame = self.memory(value);
        let pa = frame.pa();
        match self.map_when_free(n, frame) {
            Ok(()) => pa,
            Err(refused) => panic!("page {n} cannot be mapped: {:?}", refused.reason),
        }
    }

    /// Maps the `n`-th page of the VM to a frame, after all work on it has ended.
    pub(crate) fn map_when_free(
        &self,
        n: u64,
        mut frame: GuestFrame,
    ) -> Result<(), Refused<MapError>> {
        loop {
            match self
                .vm
                .map_page(page(n), frame, Attributes::RAM, DirtyState::Dirty)
            {
                Err(refused) if refused.reason == MapError::Busy => frame = refused.frame,
                result => return result,
            }
            self.yield_now();
        }
    }

    /// Releases the frame that a call which was refused has given back.
    pub(crate) fn given_back<R>(&self, result: Result<(), Refused<R>>) -> Result<(), R> {
        result.map_err(|Refused { reason, frame }| {
            self.machine.data().release(frame);
            reason
        })
    }

    /// Maps pages 0 and 1 to the two halves of a filled block's memory, which could be one block.
    pub(crate) fn map_contiguous(&self) -> Pa {
        let block = self.filled_block();
        let pa = block.pa();
        for (n, frame) in (0..).zip(block.into_parts()) {
            let mapped = self
                .vm
                .map_page(page(n), frame, Attributes::RAM, DirtyState::Dirty);
            assert_eq!(mapped, Ok(()));
        }
        pa
    }

    /// Maps pages 0 and 1 by one call to memory that holds 20 and 21, where nothing is mapped;
    /// where another thread was faster for one of them, that one stays.
    pub(crate) fn map_both(&self) -> [Pa; 2] {
        let frames = [20, 21].map(|value| self.memory(value));
        let memory = frames.each_ref().map(GuestFrame::pa);
        let (mut frames, mut from) = (frames.map(Some), page(0));
        while let Some(rest) = IpaRange::new(from, page(2)) {
            let place = |ipa: Ipa| (ipa.get() / PAGE_SIZE) as usize;
            let frame = |ipa| frames[place(ipa)].take().expect("asked for once");
            let Err(stopped) = self
                .vm
                .map_pages(rest, frame, Attributes::RAM, DirtyState::Dirty)
            else {
                break;
            };
            from = stopped.end;
            let frame = stopped.frame.expect("the frame of that page");
            match stopped.reason {
                MapError::Occupied(_) => {
                    self.machine.data().release(frame);
                    from = from.offset(PAGE_SIZE);
                }
                MapError::Busy => {
                    frames[place(from)] = Some(frame);
                    self.yield_now();
                }
                error => panic!("pages from {from:?} on cannot be mapped: {error:?}"),
            }
        }
        memory
    }

    /// Maps pages 0 and 1 as one block.
    pub(crate) fn map_block(&self) -> Pa {
        let block = self.filled_block();
        let pa = block.pa();
        let mapped = self
            .vm
            .map_block(page(0), block, Attributes::RAM, DirtyState::Dirty);
        assert_eq!(mapped, Ok(()));
        pa
    }

    /// Collapses pages 0 and 1 by copying, as far as `plan` allows it.
    pub(crate) fn collapse(&self, plan: CopyPlan) -> Result<(), CollapseError> {
        let to = self.block();
        let data = self.machine.data();
        let result = self
            .vm
            .collapse_by_copying(page(0), to, plan, &mut data.copier());
        self.given_back(result)
    }

    /// Moves the `n`-th page to fresh memory, if it is where it is expected to be.
    pub(crate) fn migrate(&self, n: u64, from: Pa) -> Result<(), MigrateError> {
        let data = self.machine.data();
        let to = data.allocate(Level::L3).expect("a page");
        let result = self.vm.migrate_page(page(n), from, to, &mut data.copier());
        self.given_back(result)
    }

    /// Unmaps a range and releases its memory.
    pub(crate) fn unmap(&self, range: IpaRange) {
        let unmapped = self.vm.unmap(range, |leaf| {
            self.machine.data().release(leaf.frame);
        });
        assert_eq!(unmapped, Ok(()));
    }

    /// A guest's load, and what the hypervisor does until it succeeds: unmapped pages read 0.
    pub(crate) fn load(&self, guest: &Guest<'_>, n: u64) -> u64 {
        loop {
            match guest.read(page(n)) {
                Ok(value) => return value,
                Err(_) => self.answer(page(n), Access::Read),
            }
        }
    }

    /// A guest's store, and what the hypervisor does until it succeeds.
    pub(crate) fn store(&self, guest: &Guest<'_>, n: u64, value: u64) {
        while guest.write(page(n), value).is_err() {
            self.answer(page(n), Access::Write);
        }
    }

    fn answer(&self, ipa: Ipa, access: Access) {
        match self.vm.resolve_fault(ipa, access, DirtyGranule::Leaf) {
            Resolution::Resolved => {}
            Resolution::Busy => self.yield_now(),
            Resolution::Unmapped => self.map_on_demand(ipa),
            other => panic!("a fault that nothing helps: {other:?}"),
        }
    }

    fn map_on_demand(&self, ipa: Ipa) {
        let frame = self.memory(0);
        let result = self
            .vm
            .map_page(ipa, frame, Attributes::RAM, DirtyState::Dirty);
        match self.given_back(result) {
            Ok(()) | Err(MapError::Occupied(_)) => {}
            Err(MapError::Busy) => self.yield_now(),
            Err(error) => panic!("no page on demand: {error:?}"),
        }
    }

    /// Lets other threads go on.
    pub(crate) fn yield_now(&self) {
        self.machine.cpus().yield_now();
    }

    /// The entry for the `n`-th page at this moment.
    pub(crate) fn entry(&self, n: u64) -> Entry {
        self.vm.query(page(n)).expect("an address of the VM")
    }

    /// Where the `n`-th page is mapped at this moment.
    pub(crate) fn where_is(&self, n: u64) -> Option<Pa> {
        let entry = self.entry(n);
        match entry.kind() {
            EntryKind::Leaf(pa) => Some(pa.offset(page(n).get() - entry.ipa.get())),
            _ => None,
        }
    }

    /// How often an event was counted.
    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        self.machine.cpus().counted(counter)
    }

    /// Maps both regions of the VM, and destroys it.
    pub(crate) fn fill_and_end(self) {
        self.map(0, 1);
        self.map(2, 2);
        let vm = Arc::into_inner(self.vm).expect("nobody else has it");
        let ended = vm.destroy(|leaf| self.machine.data().release(leaf.frame));
        assert!(ended.is_ok());
    }

    /// Destroys the VM, and checks that no frame of it is left anywhere.
    pub(crate) fn end(self) {
        let World { machine, vm } = self;
        let vm = Arc::into_inner(vm).expect("all threads were joined");
        machine.leave_all();
        let ended = vm.destroy(|leaf| machine.data().release(leaf.frame));
        assert!(ended.is_ok());
        assert_eq!(machine.frames().outstanding(), 0, "a table frame leaked");
        assert_eq!(machine.data().outstanding(), 0, "a page leaked");
    }
}
