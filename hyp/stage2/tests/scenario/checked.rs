//! Each breach of an environment's contract that `Checked` claims to see, and no other.

use stage2::fake::{FakeMachine, FakePin, FakeTableRef, FakeTlb, Setup};
use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::VmidAllocator;
use stage2::{
    Attributes, Checked, CopyPlan, Cpus, DirtyState, ENTRIES, Environment, Frames, GuestFrame, Ipa,
    IpaRange, Level, Observation, Observer, OutOfFrames, Owner, PAGE_SIZE, Pa, Stage2, TableFrame,
    TableMeta, TableWindow, Topic,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

type CheckedMachine = Checked<&'static Faulty>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    None,
    Misaligned,
    NotZero,
    GivenTwice,
    GivenToTwo,
    NoMeta,
    OneMetaForAll,
    MetaChanges,
    OverlooksTables,
    OneWindow,
    FillsElse,
    OtherFrames,
    OtherWindow,
    OtherTlb,
    OtherCpus,
    OtherSlots,
    OtherGrace,
    OtherVmids,
    OtherSlot,
    NoSuchCpu,
    OneCpuForAll,
    Moved,
    OrderRepeats,
    ObserverCalls,
}

/// A machine that breaks its contract in one way from when it is told to.
struct Faulty {
    machine: FakeMachine,
    /// What is handed out in the place of the machine's parts; it breaks nothing.
    other: Option<Box<Faulty>>,
    breach: Breach,
    is_broken: AtomicBool,
    first_frame: OnceLock<Pa>,
    first_table: OnceLock<TableFrame>,
    cpu: AtomicUsize,
    checked: OnceLock<&'static CheckedMachine>,
}

impl Faulty {
    fn new(breach: Breach, other: Option<Box<Faulty>>) -> Self {
        Self {
            machine: FakeMachine::new(Setup::default()),
            other,
            breach,
            is_broken: AtomicBool::new(false),
            first_frame: OnceLock::new(),
            first_table: OnceLock::new(),
            cpu: AtomicUsize::new(0),
            checked: OnceLock::new(),
        }
    }

    fn breaks(&self, breach: Breach) -> bool {
        self.breach == breach && self.is_broken.load(Ordering::Relaxed)
    }

    /// The part's owner: the other machine if that is how the contract is broken.
    fn part(&self, breach: Breach) -> &Faulty {
        if self.breaks(breach) {
            self.other.as_ref().expect("another machine")
        } else {
            self
        }
    }
}

/// A machine, checked, and a VM on it. They live until the test ends: the observer has to find
/// them.
fn machine(breach: Breach) -> (&'static Faulty, &'static CheckedMachine) {
    let other = Box::new(Faulty::new(Breach::None, None));
    let faulty: &Faulty = Box::leak(Box::new(Faulty::new(breach, Some(other))));
    let checked: &Checked<_> = Box::leak(Box::new(Checked::new(faulty)));
    assert!(faulty.checked.set(checked).is_ok());
    (faulty, checked)
}

fn vm(checked: &CheckedMachine) -> Stage2<&CheckedMachine> {
    Stage2::new(checked, checked.inner().machine.config(1)).unwrap()
}

// SAFETY: only in name. What is handed out wrongly makes `Checked` panic before it is used, and all
// memory is the fake machine's, which is safe to reach.
unsafe impl Frames for Faulty {
    fn allocate_tables(&self, order: u32) -> Result<Pa, OutOfFrames> {
        if self.breaks(Breach::GivenTwice) || self.breaks(Breach::GivenToTwo) {
            return Ok(self.first_frame.get().copied().unwrap());
        }
        let pa = self.machine.frames().allocate_tables(order)?;
        let _ = self.first_frame.set(pa);
        if self.breaks(Breach::NotZero) {
            self.machine.frames().corrupt(pa, ENTRIES - 1, 1 << 63);
        }
        let offset = u64::from(self.breaks(Breach::Misaligned)) * 8;
        Ok(pa.offset(offset))
    }

    fn free_tables(&self, first: TableFrame, order: u32) {
        self.machine.frames().free_tables(first, order);
    }

    fn table_meta(&self, pa: Pa) -> Option<&TableMeta> {
        let frames = self.machine.frames();
        if self.breaks(Breach::NoMeta) {
            return None;
        }
        if self.breaks(Breach::OneMetaForAll) {
            return frames.table_meta(*self.first_frame.get().unwrap());
        }
        let offset = u64::from(self.breaks(Breach::MetaChanges)) * PAGE_SIZE;
        frames.table_meta(pa.offset(offset))
    }

    fn holds_tables(&self, frame: &GuestFrame) -> bool {
        !self.breaks(Breach::OverlooksTables) && self.machine.frames().holds_tables(frame)
    }
}

// SAFETY: as above.
unsafe impl TableWindow for Faulty {
    type Ref<'a> = FakeTableRef<'a>;

    fn table(&self, table: TableFrame) -> FakeTableRef<'_> {
        let first = *self.first_table.get_or_init(|| table);
        let led_to = if self.breaks(Breach::OneWindow) {
            first
        } else {
            table
        };
        self.machine.frames().table(led_to)
    }

    fn fill(&self, table: TableFrame, first: u64, step: u64) {
        let step = step + u64::from(self.breaks(Breach::FillsElse)) * PAGE_SIZE;
        self.machine.frames().fill(table, first, step);
    }
}

// SAFETY: as above.
unsafe impl Cpus for Faulty {
    type Pinned<'c> = FakePin;

    fn pin(&self) -> FakePin {
        self.machine.cpus().pin()
    }
    fn slots(&self) -> &[CpuSlot] {
        self.part(Breach::OtherSlots).machine.cpus().slots()
    }
    fn grace(&self) -> &Grace {
        self.part(Breach::OtherGrace).machine.cpus().grace()
    }
    fn vmids(&self) -> &VmidAllocator {
        self.part(Breach::OtherVmids).machine.cpus().vmids()
    }
    fn current(&self) -> usize {
        if self.breaks(Breach::NoSuchCpu) {
            return self.slots().len();
        }
        if self.breaks(Breach::OneCpuForAll) || self.breaks(Breach::Moved) {
            return self.cpu.load(Ordering::Relaxed);
        }
        self.machine.cpus().current()
    }
    fn slot(&self) -> &CpuSlot {
        let other = usize::from(self.breaks(Breach::OtherSlot));
        &self.slots()[self.current() + other]
    }
    fn yield_now(&self) {
        self.machine.cpus().yield_now();
    }
}

impl Observer for Faulty {
    fn traces(&self, _topic: Topic) -> bool {
        true
    }
    fn trace(&self, _owner: Owner, _what: Observation) {
        if self.breaks(Breach::ObserverCalls) {
            let _pinned = self.checked.get().unwrap().pin();
        }
    }
    fn next_order(&self) -> u64 {
        static ORDER: AtomicUsize = AtomicUsize::new(1);
        let step = usize::from(!self.breaks(Breach::OrderRepeats));
        ORDER.fetch_add(step, Ordering::SeqCst) as u64 + step as u64
    }
}

// SAFETY: as above.
unsafe impl Environment for Faulty {
    type Frames = Faulty;
    type TableWindow = Faulty;
    type Tlb = FakeTlb;
    type Cpus = Faulty;
    type Observer = Faulty;

    fn frames(&self) -> &Faulty {
        self.part(Breach::OtherFrames)
    }
    fn window(&self) -> &Faulty {
        self.part(Breach::OtherWindow)
    }
    fn tlb(&self) -> &FakeTlb {
        self.part(Breach::OtherTlb).machine.tlb()
    }
    fn cpus(&self) -> &Faulty {
        self.part(Breach::OtherCpus)
    }
    fn observer(&self) -> &Faulty {
        self
    }
}

/// What a use of the tables panics with.
fn complaint(use_tables: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(use_tables)).expect_err("nothing was noticed");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(other) => (*other.downcast::<&str>().unwrap()).to_owned(),
    }
}

/// What a VM that is used in all ways that reach the environment complains of, when the contract is
/// broken before.
fn complaint_of(breach: Breach) -> String {
    let (faulty, checked) = machine(breach);
    let vm = vm(checked);
    use_all(faulty, &vm);
    faulty.is_broken.store(true, Ordering::Relaxed);
    complaint(|| use_all(faulty, &vm))
}

/// Maps, splits, unmaps, loads, collapses by copying and frees.
fn use_all(faulty: &Faulty, vm: &Stage2<&CheckedMachine>) {
    let machine = &faulty.machine;
    let (block, pages) = (Ipa::new(0), Ipa::new(Level::L2.size()));
    let guest = machine.enter(vm);
    let frame = machine.data().allocate(Level::L2).unwrap();
    vm.map_block(block, frame, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    vm.split_block(block, Level::L2).unwrap();
    for index in 0..ENTRIES as u64 {
        let page = machine.data().allocate(Level::L3).unwrap();
        let ipa = pages.offset(index * PAGE_SIZE);
        vm.map_page(ipa, page, Attributes::RAM, DirtyState::Dirty)
            .unwrap();
    }
    guest.write(pages, 7).unwrap();
    let into = machine.data().allocate(Level::L2).unwrap();
    let plan = CopyPlan {
        max_empty: 0,
        max_hot: 16,
        rounds: 1,
    };
    let mut copier = machine.data().copier();
    vm.collapse_by_copying(pages, into, plan, &mut copier)
        .unwrap();
    assert_eq!(guest.read(pages), Ok(7));
    vm.query(block).unwrap();
    for start in [block, pages] {
        let range = IpaRange::entry(start, Level::L2);
        vm.unmap(range, |leaf| machine.data().release(leaf.frame))
            .unwrap();
    }
    vm.free_empty_tables(IpaRange::entry(Ipa::new(0), Level::L1));
    vm.synchronize();
}

#[test]
fn an_environment_that_keeps_its_contract_is_not_complained_of() {
    let (faulty, checked) = machine(Breach::None);
    let vm = vm(checked);
    faulty.is_broken.store(true, Ordering::Relaxed);
    use_all(faulty, &vm);
    use_all(faulty, &vm);
    faulty.machine.leave_all();
    vm.destroy(|_| unreachable!("all was unmapped")).unwrap();
    assert_eq!(faulty.machine.frames().outstanding(), 0);
}

#[test]
fn each_breach_is_named() {
    let expected = [
        (Breach::Misaligned, "Frames::allocate_tables: "),
        (Breach::NotZero, "is not zero"),
        (Breach::GivenTwice, "was given twice"),
        (Breach::MetaChanges, "is not the same at all times"),
        (Breach::OneWindow, "from two frames"),
        (Breach::FillsElse, "TableWindow::fill: "),
        (Breach::OtherFrames, "Environment::frames: "),
        (Breach::OtherWindow, "Environment::window: "),
        (Breach::OtherTlb, "Environment::tlb: "),
        (Breach::OtherCpus, "Environment::cpus: "),
        (Breach::OtherSlots, "Cpus::slots: "),
        (Breach::OtherGrace, "Cpus::grace: "),
        (Breach::OtherVmids, "Cpus::vmids: "),
        (Breach::OtherSlot, "Cpus::slot: "),
        (Breach::NoSuchCpu, "Cpus::current: 2 of 2"),
        (Breach::OrderRepeats, "Observer::next_order: "),
        (Breach::ObserverCalls, "Observer::trace: "),
    ];
    for (breach, part) in expected {
        let message = complaint_of(breach);
        assert!(message.contains(part), "{breach:?}: {message}");
    }
}

#[test]
fn a_table_frame_has_metadata_of_its_own() {
    let expected = [
        (Breach::NoMeta, "has none"),
        (Breach::OneMetaForAll, "two frames have the same metadata"),
    ];
    for (breach, part) in expected {
        let (faulty, checked) = machine(breach);
        faulty.is_broken.store(true, Ordering::Relaxed);
        let message = complaint(|| {
            let _ = [checked.allocate_tables(0), checked.allocate_tables(0)];
        });
        assert!(message.contains(part), "{breach:?}: {message}");
    }
}

/// Two allocators that do not know of each other.
#[test]
fn a_frame_that_is_another_machines_table_is_not_taken() {
    let (faulty, checked) = machine(Breach::GivenToTwo);
    let _first = vm(checked);
    faulty.is_broken.store(true, Ordering::Relaxed);
    let second = Checked::new(faulty);
    let config = faulty.machine.config(2);
    let message = complaint(|| {
        let _ = Stage2::new(&second, config);
    });
    assert!(message.contains("is a table"), "{message}");
}

#[test]
fn a_table_that_is_overlooked_is_not_mapped() {
    let (faulty, checked) = machine(Breach::OverlooksTables);
    let vm = vm(checked);
    faulty.is_broken.store(true, Ordering::Relaxed);
    // SAFETY: no guest runs, and it is not mapped.
    let root = unsafe { GuestFrame::new(vm.root(), Level::L3) };
    let message = complaint(|| {
        let _ = vm.map_page(Ipa::new(0), root, Attributes::RAM, DirtyState::Dirty);
    });
    assert!(message.contains("Frames::holds_tables: "), "{message}");
}

#[test]
fn a_thread_that_is_moved_while_it_is_pinned_is_noticed() {
    let (faulty, checked) = machine(Breach::Moved);
    faulty.is_broken.store(true, Ordering::Relaxed);
    let pinned = checked.pin();
    faulty.cpu.store(1, Ordering::Relaxed);
    let message = complaint(|| drop(pinned));
    assert!(message.contains("was moved"), "{message}");
}

#[test]
fn two_threads_on_one_cpu_are_noticed() {
    let (faulty, checked) = machine(Breach::OneCpuForAll);
    faulty.is_broken.store(true, Ordering::Relaxed);
    let _pinned = checked.pin();
    let other = || complaint(|| drop(checked.pin()));
    let message = std::thread::scope(|scope| scope.spawn(other).join().unwrap());
    assert!(message.contains("two threads run on CPU 0"), "{message}");
}

/// Nothing that may wait is called in a read section or with a lock held.
#[test]
fn calls_that_may_wait_are_not_made_by_a_pinned_thread() {
    let (_, checked) = machine(Breach::None);
    type Wait = fn(&CheckedMachine);
    let waits: [(&str, Wait); 4] = [
        ("Cpus::yield_now: ", |checked| checked.yield_now()),
        ("Cpus::cond_resched: ", |checked| checked.cond_resched()),
        ("Frames::allocate_tables: ", |checked| {
            let _ = checked.allocate_tables(0);
        }),
        ("Frames::allocate_filled_table: ", |checked| {
            let _ = checked.allocate_filled_table();
        }),
    ];
    for (call, wait) in waits {
        let pinned = checked.pin();
        let message = complaint(|| wait(checked));
        assert!(message.contains(call), "{message}");
        drop(pinned);
        wait(checked);
    }
}
