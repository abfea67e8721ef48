//! What an environment that watches is told: enough to build the tables anew, each topic on its
//! own, and as it was.

use stage2::fake::{FakeCpus, FakeFrames, FakeMachine, FakeTlb, Setup};
use stage2::{
    Access, Attributes, CollapseError, CollapseStep, CopyPlan, Descriptor, DirtyGranule,
    DirtyState, ENTRIES, EntryKind, Environment, GuestPage, Ipa, IpaRange, Level, MapError,
    Observation, Observer, Owner, PAGE_SIZE, Pa, Resolution, Rights, Stage2, Topic,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const TOPICS: [Topic; 6] = [
    Topic::Maps,
    Topic::Changes,
    Topic::Races,
    Topic::Frees,
    Topic::Invalidations,
    Topic::Protocol,
];

/// A fake machine that writes down what it is told of some topics.
struct Watched {
    machine: FakeMachine,
    topics: Vec<Topic>,
    told: Mutex<Vec<Observation>>,
    order: AtomicU64,
    clock: AtomicU64,
    /// Where CPU 1 looks ahead while the next entry is written.
    look: Mutex<Option<Ipa>>,
}

impl Watched {
    fn new(topics: &[Topic]) -> Self {
        Self::with(Setup::default(), topics)
    }

    fn with(setup: Setup, topics: &[Topic]) -> Self {
        Self {
            machine: FakeMachine::new(setup),
            topics: topics.to_vec(),
            told: Mutex::new(Vec::new()),
            order: AtomicU64::new(1),
            clock: AtomicU64::new(0),
            look: Mutex::new(None),
        }
    }

    fn vm(&self) -> Stage2<&Watched> {
        Stage2::new(self, self.machine.config(1)).unwrap()
    }

    /// What was told since the last call.
    fn told(&self) -> Vec<Observation> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

// SAFETY: the parts are the machine's.
unsafe impl Environment for Watched {
    type Frames = FakeFrames;
    type TableWindow = FakeFrames;
    type Tlb = FakeTlb;
    type Cpus = FakeCpus;
    type Observer = Self;

    fn frames(&self) -> &FakeFrames {
        self.machine.frames()
    }
    fn window(&self) -> &FakeFrames {
        self.machine.window()
    }
    fn tlb(&self) -> &FakeTlb {
        self.machine.tlb()
    }
    fn cpus(&self) -> &FakeCpus {
        self.machine.cpus()
    }
    fn observer(&self) -> &Self {
        self
    }
}

impl Observer for Watched {
    fn traces(&self, topic: Topic) -> bool {
        self.topics.contains(&topic)
    }
    fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }
    fn trace(&self, owner: Owner, what: Observation) {
        assert_eq!(owner.number(), 1);
        assert!(
            self.topics.contains(&topic(&what)),
            "{what:?} was not asked for"
        );
        self.told.lock().unwrap().push(what);
        if matches!(what, Observation::EntryWritten { .. })
            && let Some(ipa) = self.look.lock().unwrap().take()
        {
            self.machine.walk_on(1, ipa);
        }
    }
    fn clock(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

fn topic(what: &Observation) -> Topic {
    use Observation::*;
    match what {
        Mapped { .. } | NotMapped { .. } | Unmapped { .. } => Topic::Maps,
        Split { .. } | Collapse { .. } | Migrated { .. } => Topic::Changes,
        MarkerMet { .. } | Retried { .. } | LockAwaited { .. } => Topic::Races,
        Detached { .. } | GraceAwaited { .. } | TableFreed { .. } => Topic::Frees,
        Invalidated { .. } => Topic::Invalidations,
        _ => Topic::Protocol,
    }
}

/// The number of an observation for a checker.
fn order(what: &Observation) -> Option<u64> {
    use Observation::*;
    match *what {
        EntryWritten { order, .. }
        | Published { order }
        | TableLocked { order, .. }
        | TableUnlocked { order, .. }
        | TableMade { order, .. }
        | GraceBegun { order, .. }
        | GraceEnded { order, .. }
        | TreeEnded { order }
        | TableEnded { order, .. } => Some(order),
        _ => None,
    }
}

const REGION: Ipa = Ipa::new(0x4000_0000);
const BLOCK: Ipa = Ipa::new(0x4020_0000);

const PLAN: CopyPlan = CopyPlan {
    max_empty: ENTRIES,
    max_hot: ENTRIES,
    rounds: 1,
};

fn page(index: u64) -> Ipa {
    REGION.offset(index * PAGE_SIZE)
}

fn pages(from: u64, count: u64) -> IpaRange {
    IpaRange::new(page(from), page(from + count)).unwrap()
}

type Vm<'w> = Stage2<&'w Watched>;

fn map(traced: &Watched, vm: &Vm<'_>, ipa: Ipa, level: Level) -> Pa {
    let frame = traced.machine.data().allocate(level).unwrap();
    let pa = frame.pa();
    let mapped = match level {
        Level::L3 => vm.map_page(ipa, frame, Attributes::RAM, DirtyState::Clean),
        _ => vm.map_block(ipa, frame, Attributes::RAM, DirtyState::Clean),
    };
    mapped.unwrap();
    pa
}

type Step = fn(&Watched, &Vm<'_>);

/// Every kind of change, one after the other.
const STEPS: &[(&str, Step)] = &[
    ("map a page", |traced, vm| {
        map(traced, vm, page(0), Level::L3);
    }),
    ("map some pages", |traced, vm| {
        let data = traced.machine.data();
        let frame = |_| data.allocate(Level::L3).unwrap();
        vm.map_pages(pages(1, 6), frame, Attributes::RAM, DirtyState::Dirty)
            .unwrap();
    }),
    ("map a block", |traced, vm| {
        map(traced, vm, BLOCK, Level::L2);
    }),
    ("take rights away", |_, vm| {
        vm.protect(pages(0, 2), Rights::READ).unwrap();
    }),
    ("give rights back", |_, vm| {
        vm.protect(pages(0, 2), Attributes::RAM.rights).unwrap();
    }),
    ("move a page", |traced, vm| {
        let data = traced.machine.data();
        let from = vm.query(page(3)).unwrap().descriptor.output();
        let to = data.allocate(Level::L3).unwrap();
        vm.migrate_page(page(3), from, to, &mut data.copier())
            .unwrap();
    }),
    ("unmap a page", |traced, vm| {
        vm.unmap(pages(4, 1), |leaf| {
            traced.machine.data().release(leaf.frame)
        })
        .unwrap();
    }),
    ("unmap a page that may go", |traced, vm| {
        let from = vm.query(page(5)).unwrap().descriptor.output();
        let mut copier = traced.machine.data().copier();
        let gone = vm.unmap_page_if(page(5), from, |_| true, &mut copier);
        assert_eq!(gone, Ok(true));
    }),
    ("split", |_, vm| vm.split_block(BLOCK, Level::L2).unwrap()),
    ("collapse in place", |_, vm| {
        vm.collapse_in_place(BLOCK, Level::L2).unwrap();
    }),
    ("split for a store", |_, vm| {
        vm.split_for_store(BLOCK.offset(5 * PAGE_SIZE), Level::L2)
            .unwrap();
    }),
    ("collapse by copying", |traced, vm| {
        let data = traced.machine.data();
        let block = data.allocate(Level::L2).unwrap();
        vm.collapse_by_copying(REGION, block, PLAN, &mut data.copier())
            .unwrap();
    }),
    ("log stores", |_, vm| vm.write_protect(pages(0, 1024))),
    ("unmap some pages", |traced, vm| {
        let some = IpaRange::new(BLOCK, BLOCK.offset(9 * PAGE_SIZE)).unwrap();
        let data = traced.machine.data();
        vm.unmap(some, |leaf| data.release(leaf.frame)).unwrap();
    }),
    ("unmap all", |traced, vm| {
        let data = traced.machine.data();
        vm.unmap(pages(0, 1024), |leaf| data.release(leaf.frame))
            .unwrap();
    }),
    ("free what is empty", |_, vm| {
        vm.free_empty_tables(vm.geometry().range());
    }),
];

/// The tables as a checker knows them.
#[derive(Default)]
struct Shadow {
    entries: BTreeMap<u64, Descriptor>,
    tables: BTreeSet<u64>,
    locked: BTreeSet<u64>,
    last: u64,
}

impl Shadow {
    fn hear(&mut self, told: Vec<Observation>) {
        let mut told: Vec<_> = told
            .into_iter()
            .filter_map(|what| Some((order(&what)?, what)))
            .collect();
        told.sort_by_key(|&(order, _)| order);
        for (order, what) in told {
            assert!(order > self.last, "{what:?} has the number of another");
            self.last = order;
            self.hear_one(what);
        }
    }

    fn hear_one(&mut self, what: Observation) {
        match what {
            Observation::EntryWritten {
                entry, old, new, ..
            } => {
                let table = entry.align_down(Level::L3).get();
                assert!(self.tables.contains(&table), "{what:?} is in no table");
                if let Some(before) = self.entries.insert(entry.get(), new) {
                    assert_eq!(before, old, "{what:?} does not follow");
                }
            }
            Observation::TableMade { table, .. } => {
                // A table that was kept from a collapse is made anew.
                self.tables.insert(table.get());
                let entries = table.get()..table.offset(PAGE_SIZE).get();
                self.entries.retain(|entry, _| !entries.contains(entry));
            }
            Observation::TableEnded { table, .. } => assert!(self.tables.remove(&table.get())),
            Observation::TableLocked { table, .. } => assert!(self.locked.insert(table.get())),
            Observation::TableUnlocked { table, .. } => assert!(self.locked.remove(&table.get())),
            _ => {}
        }
    }

    /// All entries that are not empty below a table, tables before what is in them.
    fn walk(&self, table: Pa, level: Level, base: Ipa, found: &mut Vec<(Ipa, Level, Descriptor)>) {
        for index in 0..ENTRIES as u64 {
            let entry = table.offset(8 * index).get();
            let Some(&value) = self.entries.get(&entry) else {
                continue;
            };
            if value == Descriptor::EMPTY {
                continue;
            }
            let ipa = base.offset(index * level.size());
            found.push((ipa, level, value));
            if let (EntryKind::Table(below), Some(next)) = (value.kind(level), level.next()) {
                self.walk(below, next, ipa, found);
            }
        }
    }
}

/// After every change, the entries that were told of are those in memory; and at the end no table
/// and no lock is left.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn what_is_told_rebuilds_the_tables() {
    let traced = Watched::new(&TOPICS);
    let vm = traced.vm();
    let mut shadow = Shadow::default();
    shadow.hear(traced.told());
    for (name, step) in STEPS {
        step(&traced, &vm);
        shadow.hear(traced.told());
        assert!(shadow.locked.is_empty(), "after: {name}");
        let (mut told, mut there) = (Vec::new(), Vec::new());
        let start = vm.geometry().start();
        shadow.walk(vm.root(), start, Ipa::new(0), &mut told);
        vm.walk(vm.geometry().range(), |entry| {
            there.push((entry.ipa, entry.level, entry.descriptor))
        });
        there.retain(|&(_, _, descriptor)| descriptor != Descriptor::EMPTY);
        assert_eq!(told, there, "after: {name}");
    }
    vm.destroy(|leaf| panic!("{leaf:?} was unmapped")).unwrap();
    shadow.hear(traced.told());
    assert_eq!((shadow.tables.len(), shadow.locked.len()), (0, 0));
    assert_eq!(traced.machine.frames().outstanding(), 0);
}

/// An observer of one topic is told what an observer of all is told of it, and nothing else.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn each_topic_is_told_on_its_own() {
    let run = |topics: &[Topic]| {
        let traced = Watched::new(topics);
        let vm = traced.vm();
        // It has a number then, so that what has changed is invalidated.
        let _guest = traced.machine.enter(&vm);
        STEPS.iter().for_each(|(_, step)| step(&traced, &vm));
        traced.machine.leave_all();
        vm.destroy(|_| {}).unwrap();
        traced.told()
    };
    let all = run(&TOPICS);
    for wanted in TOPICS {
        let of_it = |what: &&Observation| topic(what) == wanted;
        let expected: Vec<_> = all.iter().filter(of_it).copied().collect();
        // Nobody was in the way.
        assert_eq!(expected.is_empty(), wanted == Topic::Races, "{wanted:?}");
        assert_eq!(run(&[wanted]), expected, "{wanted:?}");
    }
}

/// Who wants to know of some topics is asked once for several, and nobody is asked in vain.
#[test]
fn several_topics_are_asked_for_at_once() {
    let traced = &Watched::new(&[Topic::Maps]);
    for (topics, any) in [
        ([Topic::Maps, Topic::Races], true),
        ([Topic::Frees, Topic::Maps], true),
        ([Topic::Frees, Topic::Races], false),
    ] {
        assert_eq!(traced.traces_any(topics), any);
        assert_eq!((&traced).observer().traces_any(topics), any);
    }
    // Who does not watch needs no clock, nor numbers for what nobody is told.
    let machine = &traced.machine;
    assert!(!machine.observer().traces_any(TOPICS));
    assert_eq!(
        (machine.observer().next_order(), machine.observer().clock()),
        (0, 0)
    );
}

/// Each operation on its own, by what it says of leaves, sizes and places.
#[test]
fn each_operation_says_what_it_did() {
    let traced = Watched::new(&[Topic::Maps, Topic::Changes]);
    let vm = traced.vm();
    let data = traced.machine.data();
    let (ipa, level) = (page(0), Level::L3);
    let pa = map(&traced, &vm, ipa, level);
    assert_eq!(traced.told(), [Observation::Mapped { ipa, pa, level }]);

    let frame = data.allocate(level).unwrap();
    let entry = vm.query(ipa).unwrap().descriptor;
    let refused = vm
        .map_page(ipa, frame, Attributes::RAM, DirtyState::Clean)
        .unwrap_err();
    let error = MapError::Occupied(entry);
    assert_eq!(refused.reason, error);
    let not_mapped = Observation::NotMapped { ipa, level, error };
    assert_eq!(traced.told(), [not_mapped]);

    let to = refused.frame.pa();
    vm.migrate_page(ipa, pa, refused.frame, &mut data.copier())
        .unwrap();
    assert_eq!(traced.told(), [Observation::Migrated { ipa, to }]);

    let kept = vm.unmap_page_if(ipa, to, |_| false, &mut data.copier());
    assert_eq!((kept, traced.told()), (Ok(false), Vec::new()));

    vm.unmap(pages(0, 1), |leaf| data.release(leaf.frame))
        .unwrap();
    let range = pages(0, 1);
    assert_eq!(traced.told(), [Observation::Unmapped { range, level }]);

    map(&traced, &vm, page(1), level);
    map(&traced, &vm, page(2), level);
    traced.told();
    vm.unmap(pages(0, 9), |leaf| data.release(leaf.frame))
        .unwrap();
    let range = pages(1, 2);
    assert_eq!(traced.told(), [Observation::Unmapped { range, level }]);

    let (ipa, level) = (BLOCK, Level::L2);
    let pa = map(&traced, &vm, ipa, level);
    assert_eq!(traced.told(), [Observation::Mapped { ipa, pa, level }]);
    vm.split_block(ipa, level).unwrap();
    assert_eq!(traced.told(), [Observation::Split { ipa, level }]);
    vm.collapse_in_place(ipa, level).unwrap();
    let collapse = |step| Observation::Collapse { ipa, level, step };
    assert!(traced.told().contains(&collapse(CollapseStep::Done)));

    let ipa = REGION;
    let block = data.allocate(level).unwrap();
    let refused = vm
        .collapse_by_copying(
            ipa,
            block,
            CopyPlan {
                max_empty: 0,
                ..PLAN
            },
            &mut data.copier(),
        )
        .unwrap_err();
    assert_eq!(refused.reason, CollapseError::TooEmpty);
    let step = CollapseStep::GivenUp(CollapseError::TooEmpty);
    let given_up = Observation::Collapse { ipa, level, step };
    assert_eq!(traced.told().last(), Some(&given_up));
}

/// A checker learns where the walks begin, and when what was written is what they find.
#[test]
fn a_checker_is_told_of_roots_and_barriers() {
    let setup = Setup {
        ipa_bits: 40,
        ..Setup::default()
    };
    let traced = Watched::with(setup, &[Topic::Protocol]);
    let vm = traced.vm();
    let made: Vec<_> = traced
        .told()
        .into_iter()
        .filter_map(|what| match what {
            Observation::TableMade {
                table, level, root, ..
            } => Some((table, level, root)),
            _ => None,
        })
        .collect();
    let half = Ipa::new(Level::L0.size());
    let second = vm.root().offset(PAGE_SIZE);
    assert_eq!(
        made,
        [
            (vm.root(), Level::L1, Some(Ipa::new(0))),
            (second, Level::L1, Some(half))
        ]
    );
    let last = |traced: &Watched| {
        let told = traced.told();
        let written = |what: &Observation| matches!(what, Observation::EntryWritten { .. });
        let published = |what: &Observation| matches!(what, Observation::Published { .. });
        let written = told
            .iter()
            .rposition(written)
            .expect("an entry was written");
        told[written..].iter().any(published)
    };
    map(&traced, &vm, page(0), Level::L3);
    assert!(last(&traced));
    vm.age(pages(0, 1), |_, _| {});
    traced.told();
    assert_eq!(
        vm.resolve_fault(page(0), Access::Read, DirtyGranule::Leaf),
        Resolution::Resolved
    );
    assert!(last(&traced));
    vm.unmap(pages(0, 1), |_| {}).unwrap();
    assert!(last(&traced));
}

/// An operation that meets a marker reports it, at the level where it stands.
#[test]
fn a_marker_that_is_met_is_told() {
    let traced = Watched::new(&[Topic::Races]);
    let vm = traced.vm();
    let data = traced.machine.data();
    let (ipa, level) = (page(3), Level::L3);
    let pa = map(&traced, &vm, ipa, level);
    let mut marker = None;
    let look = |_: GuestPage<'_>| {
        let EntryKind::Busy(busy) = vm.query(ipa).unwrap().kind() else {
            panic!("the page is not away");
        };
        marker = Some(busy);
        let frame = data.allocate(level).unwrap();
        let refused = vm
            .map_page(ipa, frame, Attributes::RAM, DirtyState::Dirty)
            .unwrap_err();
        data.release(refused.frame);
        false
    };
    vm.unmap_page_if(ipa, pa, look, &mut data.copier()).unwrap();
    let marker = marker.expect("a marker was there");
    let met = Observation::MarkerMet { ipa, level, marker };
    assert_eq!(traced.told(), [met]);
}

/// A search for empty tables locks only those that have one below them, and what they say of
/// themselves is true.
#[test]
fn where_no_table_is_empty_nothing_is_locked() {
    let traced = Watched::new(&[Topic::Protocol]);
    let vm = traced.vm();
    map(&traced, &vm, page(3), Level::L3);
    map(&traced, &vm, BLOCK, Level::L2);
    let seems_empty = || {
        let reader = vm.read();
        let table = reader.lock(page(3), Level::L3).unwrap().unwrap();
        table.unlock().seems_empty()
    };
    let locks = || {
        let lock = |what: &&Observation| matches!(what, Observation::TableLocked { .. });
        traced.told().iter().filter(lock).count()
    };
    assert!(!seems_empty());
    locks();
    assert_eq!((vm.free_empty_tables(pages(0, 512)), locks()), (0, 0));
    vm.unmap(pages(3, 1), |_| {}).unwrap();
    assert!(seems_empty());
    locks();
    assert_eq!(vm.free_empty_tables(pages(0, 512)), 1);
    assert!(locks() > 0);
}

/// One CPU holds a table's lock until another one waits for it.
#[test]
fn a_wait_for_a_lock_is_told_with_its_length() {
    let traced = Watched::new(&[Topic::Races]);
    let vm = traced.vm();
    map(&traced, &vm, page(0), Level::L3);
    std::thread::scope(|threads| {
        let reader = vm.read();
        let guard = reader.lock(page(0), Level::L3).unwrap().unwrap();
        threads.spawn(|| {
            let _cpu = traced.machine.on_cpu(1);
            map(&traced, &vm, page(1), Level::L3);
        });
        // The waiter looks at the clock when it finds the lock taken.
        while traced.clock.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        drop(guard);
    });
    let (ipa, level, ticks) = (REGION, Level::L3, 1);
    let awaited = Observation::LockAwaited { ipa, level, ticks };
    assert_eq!(traced.told(), [awaited]);
}

/// The hardware sets the access flag of a block whose parts are being made: no part is without it,
/// and the checker is told.
#[test]
fn a_mark_set_during_a_split_is_that_of_all_parts() {
    let all = [(false, false), (false, true), (true, false), (true, true)];
    for (direct_size_change, stored) in all {
        let setup = Setup {
            hardware_dirty: true,
            direct_size_change,
            ..Setup::default()
        };
        let traced = Watched::with(setup, &[Topic::Protocol]);
        let vm = traced.vm();
        map(&traced, &vm, BLOCK, Level::L2);
        let _guest = traced.machine.enter_on(1, &vm);
        vm.age(IpaRange::entry(BLOCK, Level::L2), |_, _| {});
        assert!(!vm.query(BLOCK).unwrap().descriptor.is_accessed());
        traced.told();
        *traced.look.lock().unwrap() = Some(BLOCK);
        if stored {
            vm.split_for_store(BLOCK, Level::L2).unwrap();
        } else {
            vm.split_block(BLOCK, Level::L2).unwrap();
        }
        let mut accessed = 0;
        vm.walk(IpaRange::entry(BLOCK, Level::L2), |entry| {
            accessed += usize::from(entry.level == Level::L3 && entry.descriptor.is_accessed());
        });
        assert_eq!(accessed, ENTRIES);
        let late = |what: &&Observation| match what {
            Observation::EntryWritten { old, new, .. } => {
                !old.is_accessed() && new.is_accessed() && old.output() == new.output()
            }
            _ => false,
        };
        let told = traced.told();
        assert_eq!(told.iter().filter(late).count(), ENTRIES);
        // Not even by the part that was stored to, which is marked before the others.
        let lost = |what: &&Observation| match what {
            Observation::EntryWritten { old, new, .. } => {
                old.is_accessed() && !new.is_accessed() && old.output() == new.output()
            }
            _ => false,
        };
        assert_eq!(told.iter().filter(lost).count(), 0);
    }
}
