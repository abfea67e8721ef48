//! What other hypervisors' tables got wrong: ends of ranges, invalidations that are too small or
//! too large, entries that can't be.
//!
//! The TLB here writes down what it is asked for.

use stage2::fake::{FakeCpus, FakeData, FakeFrames, FakeMachine, Setup};
use stage2::vmid::Vmid;
use stage2::{
    Access, Attributes, CopyPlan, DirtyGranule, DirtyState, ENTRIES, EntryKind, Environment, Ipa,
    IpaRange, Level, Loaded, MapError, PAGE_SIZE, Pa, Published, Resolution, Rights, Scope, Stage2,
    Tlb,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fake machine that remembers the invalidations.
struct Recorder {
    machine: FakeMachine,
    log: Mutex<Vec<(IpaRange, Scope)>>,
    barriers: AtomicUsize,
    walks_awaited: AtomicUsize,
}

// SAFETY: the fake TLB does what is asked; this only writes it down.
unsafe impl Tlb for Recorder {
    fn load(&self, tables: Option<Loaded>) {
        self.machine.tlb().load(tables);
    }

    fn publish(&self) {
        self.barriers.fetch_add(1, Ordering::Relaxed);
        self.machine.tlb().publish();
    }

    fn finish_walks(&self) {
        self.walks_awaited.fetch_add(1, Ordering::Relaxed);
        self.machine.tlb().finish_walks();
    }

    fn invalidate(&self, published: Published, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.log.lock().unwrap().push((range, scope));
        let tlb = self.machine.tlb();
        tlb.invalidate(published, vmid, range, scope);
    }

    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.machine.tlb().invalidate_local(vmid, range, scope);
    }

    fn invalidate_all(&self) {
        self.machine.tlb().invalidate_all();
    }
}

// SAFETY: the parts are the same at all times.
unsafe impl Environment for Recorder {
    type Frames = FakeFrames;
    type TableWindow = FakeFrames;
    type Tlb = Recorder;
    type Cpus = FakeCpus;
    type Observer = ();

    fn frames(&self) -> &FakeFrames {
        self.machine.frames()
    }

    fn window(&self) -> &FakeFrames {
        self.machine.window()
    }

    fn tlb(&self) -> &Recorder {
        self
    }

    fn cpus(&self) -> &FakeCpus {
        self.machine.cpus()
    }

    fn observer(&self) -> &() {
        &()
    }
}

impl Recorder {
    fn new(setup: Setup) -> Self {
        Self {
            machine: FakeMachine::new(setup),
            log: Mutex::default(),
            barriers: AtomicUsize::new(0),
            walks_awaited: AtomicUsize::new(0),
        }
    }

    /// A VM that runs, so that it has translations to invalidate.
    fn vm(&self) -> Stage2<&Recorder> {
        let vm = Stage2::new(self, self.machine.config(1)).unwrap();
        self.machine.enter_on(0, &vm);
        self.machine.enter_on(1, &vm);
        vm
    }

    /// What was invalidated since this was last asked.
    fn invalidated(&self) -> Vec<(IpaRange, Scope)> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

const BLOCK: Ipa = Ipa::new(0x4020_0000);

fn page(index: usize) -> Ipa {
    BLOCK.offset(index as u64 * PAGE_SIZE)
}

fn pages(first: usize, count: usize) -> IpaRange {
    IpaRange::new(page(first), page(first + count)).unwrap()
}

fn map_pages(recorder: &Recorder, vm: &Stage2<&Recorder>, indices: impl Iterator<Item = usize>) {
    for index in indices {
        let pa = recorder.machine.data().allocate(Level::L3).unwrap();
        vm.map_page(page(index), pa, Attributes::RAM, DirtyState::Dirty)
            .unwrap();
    }
}

fn map_block(recorder: &Recorder, vm: &Stage2<&Recorder>, ipa: Ipa) {
    let pa = recorder.machine.data().allocate(Level::L2).unwrap();
    vm.map_block(ipa, pa, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
}

/// A change of one page invalidates one page, on the level where it is, and mapping invalidates
/// nothing.
#[test]
fn one_page_is_one_page_for_the_tlb() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    map_pages(&recorder, &vm, 0..4);
    let to = recorder.machine.data().allocate(Level::L3).unwrap();
    assert_eq!(recorder.invalidated(), []);
    let one = (pages(1, 1), Scope::Leaf(Level::L3));
    vm.age(pages(1, 1), |_, _| {});
    assert_eq!(recorder.invalidated(), [one]);
    vm.write_protect(pages(1, 1));
    assert_eq!(recorder.invalidated(), [one]);
    vm.protect(pages(1, 1), Rights::READ).unwrap();
    assert_eq!(recorder.invalidated(), [one]);
    let from = vm.query(page(1)).unwrap().descriptor.output();
    vm.migrate_page(page(1), from, to, &mut recorder.machine.data().copier())
        .unwrap();
    assert_eq!(recorder.invalidated(), [one]);
    vm.unmap(pages(1, 1), |_| {}).unwrap();
    assert_eq!(recorder.invalidated(), [one]);
    // Nothing was there to begin with, or nothing changes.
    vm.unmap(pages(100, 50), |_| {}).unwrap();
    vm.write_protect(pages(1, 1));
    vm.age(pages(1, 1), |_, _| {});
    vm.free_empty_tables(pages(0, ENTRIES));
    assert_eq!(recorder.invalidated(), []);
}

/// Pages that are mapped by one call wait for one barrier a table, wherever in it they begin.
#[test]
fn pages_mapped_together_are_published_together() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    // The tables are there.
    map_pages(&recorder, &vm, [0, ENTRIES].into_iter());
    for range in [
        pages(1, 9),
        pages(300, 100),
        pages(500, 12),
        pages(ENTRIES + 1, 3),
    ] {
        recorder.barriers.store(0, Ordering::Relaxed);
        vm.map_pages(
            range,
            |_| recorder.machine.data().allocate(Level::L3).unwrap(),
            Attributes::RAM,
            DirtyState::Dirty,
        )
        .unwrap();
        assert_eq!(recorder.barriers.load(Ordering::Relaxed), 1, "{range:?}");
    }
    let mut mapped = 0;
    vm.walk(pages(0, 2 * ENTRIES), |entry| {
        mapped += usize::from(entry.level == Level::L3)
    });
    assert_eq!(mapped, 2 + 9 + 100 + 12 + 3);
}

/// A CPU that goes to another VM waits for the walks that it began for the one before; one that
/// comes back to its VM does not.
#[test]
fn walks_are_awaited_where_the_vm_changes() {
    let recorder = Recorder::new(Setup::default());
    let [one, other] = [1, 2].map(|owner| {
        let vm = Stage2::new(&recorder, recorder.machine.config(owner)).unwrap();
        vm.load();
        vm
    });
    let awaited = |vm: &Stage2<&Recorder>| {
        recorder.walks_awaited.store(0, Ordering::Relaxed);
        vm.load();
        recorder.walks_awaited.load(Ordering::Relaxed)
    };
    assert_eq!([&other, &one, &one, &other].map(awaited), [0, 1, 0, 1]);
}

/// Leaves that are changed together are invalidated together, and none is left out.
///
/// Rule (race 40): the range of several changes covers them all. Taken out by
/// `40-range-of-the-last-change.patch`.
#[test]
fn race_40_a_run_is_invalidated_from_end_to_end() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    let mapped = [3, 4, 9, 200, 510, 511, 512, 700];
    map_pages(&recorder, &vm, mapped.into_iter());
    let guests = [0, 1].map(|cpu| recorder.machine.enter_on(cpu, &vm));
    for index in mapped {
        guests
            .iter()
            .for_each(|guest| guest.write(page(index), 1).unwrap());
    }
    let expected = [
        (pages(4, 508), Scope::Leaf(Level::L3)),
        (pages(512, 1), Scope::Leaf(Level::L3)),
    ];
    // Unaligned at both ends, over the border between two tables.
    vm.age(pages(4, 600), |_, _| {});
    assert_eq!(recorder.invalidated(), expected);
    vm.unmap(pages(4, 600), |_| {}).unwrap();
    assert_eq!(recorder.invalidated(), expected);
    for index in mapped {
        let stays = index == 3 || index == 700;
        assert!(
            guests
                .iter()
                .all(|guest| guest.read(page(index)).is_ok() == stays)
        );
    }
}

/// What is unmapped together comes together, with what was not mapped between it, and an entry that
/// can't be is no leaf.
#[test]
fn a_run_has_its_leaves_in_their_places() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    let mapped = [3, 5, 6, 200, 512];
    map_pages(&recorder, &vm, mapped.into_iter());
    map_block(&recorder, &vm, page(1024));
    let frames = mapped.map(|index| vm.query(page(index)).unwrap().descriptor);
    let table = table_of_pages(&vm);
    recorder.machine.frames().corrupt(table, 7, 0x4000_0001);
    let mut runs = Vec::new();
    vm.unmap_runs(pages(0, 2048), |run| {
        let (ipa, level, entries) = (run.ipa(), run.level(), run.entries().to_vec());
        runs.push((ipa, level, entries, run.into_leaves().collect::<Vec<_>>()));
    })
    .unwrap();
    let places: Vec<_> = runs
        .iter()
        .map(|(ipa, level, entries, _)| (*ipa, *level, entries.len()))
        .collect();
    let expected = [
        (page(3), Level::L3, 198),
        (page(512), Level::L3, 1),
        (page(1024), Level::L2, 1),
    ];
    assert_eq!(places, expected);
    let leaves: Vec<_> = runs.iter().flat_map(|(.., leaves)| leaves).collect();
    for ((index, descriptor), leaf) in mapped.iter().zip(frames).zip(&leaves) {
        assert_eq!(leaf.ipa, page(*index));
        assert_eq!(leaf.descriptor.output(), descriptor.output());
    }
    assert_eq!(leaves.len(), mapped.len() + 1);
    assert_eq!(
        vm.free_empty_tables(pages(0, 1024)),
        2,
        "the counts are right"
    );
}

/// Stores trap in a block of which only a part is looked at, too, and none of it is taken for
/// clean.
#[test]
fn a_block_that_is_collected_in_part_traps_and_stays_written() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    map_block(&recorder, &vm, page(0));
    let guests = [0, 1].map(|cpu| recorder.machine.enter_on(cpu, &vm));
    guests[0].write(page(3), 1).unwrap();
    guests[1].write(page(9), 1).unwrap();
    let mut dirty = Vec::new();
    vm.collect_dirty(pages(0, 4), |range| dirty.push(range));
    assert_eq!(dirty, [pages(0, 4)]);
    for guest in &guests {
        assert!(guest.write(page(3), 2).is_err(), "not noticed");
        assert!(guest.write(page(9), 2).is_err(), "not noticed");
    }
    vm.write_protect(pages(100, 1));
    dirty.clear();
    vm.collect_dirty(pages(0, ENTRIES), |range| dirty.push(range));
    assert_eq!(dirty, [pages(0, ENTRIES)], "the rest was written");
    dirty.clear();
    vm.collect_dirty(pages(0, ENTRIES), |range| dirty.push(range));
    assert_eq!(dirty, []);
}

/// A table that goes takes the walk caches' copies of it along.
///
/// Rule (race 39): no leaf hint where a table descriptor was. Taken out by
/// `39-table-as-leaf.patch`.
#[test]
fn race_39_a_table_is_invalidated_without_a_leaf_hint() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    let region = (pages(0, ENTRIES), Scope::Tables);
    let block = (pages(0, ENTRIES), Scope::Leaf(Level::L2));
    map_block(&recorder, &vm, BLOCK);
    vm.split_block(BLOCK, Level::L2).unwrap();
    assert_eq!(recorder.invalidated(), [block], "a block is a leaf");
    vm.collapse_in_place(BLOCK, Level::L2).unwrap();
    assert_eq!(recorder.invalidated(), [region]);
    vm.unmap(pages(7, 1), |_| {}).unwrap();
    assert_eq!(
        recorder.invalidated(),
        [block, (pages(7, 1), Scope::Leaf(Level::L3))]
    );
    let to = recorder.machine.data().allocate(Level::L2).unwrap();
    let plan = CopyPlan {
        max_empty: 1,
        max_hot: 0,
        rounds: 0,
    };
    vm.collapse_by_copying(BLOCK, to, plan, &mut recorder.machine.data().copier())
        .unwrap();
    assert_eq!(recorder.invalidated().last(), Some(&region));
    vm.unmap(pages(0, 1), |_| {}).unwrap();
    vm.unmap(pages(0, ENTRIES), |_| {}).unwrap();
    recorder.invalidated();
    assert_eq!(vm.free_empty_tables(IpaRange::entry(BLOCK, Level::L1)), 2);
    let all_below = (IpaRange::entry(BLOCK, Level::L1), Scope::Tables);
    assert_eq!(recorder.invalidated(), [region, all_below]);
}

/// Ranges that begin and end exactly where blocks do split nothing; the others split the two at
/// their ends.
#[test]
fn exactly_block_sized_ranges() {
    let size = ENTRIES;
    for (first, count, splits) in [
        (0, size, 0),
        (0, 3 * size, 0),
        (size, size, 0),
        (0, size + 1, 1),
        (1, size - 1, 1),
        (size - 1, 2, 2),
        (size - 1, size + 2, 2),
        (1, 1, 1),
        (0, 1, 1),
        (size - 1, 1, 1),
    ] {
        let recorder = Recorder::new(Setup::default());
        let vm = recorder.vm();
        (0..3).for_each(|block| map_block(&recorder, &vm, page(block * size)));
        let counted = |vm: &Stage2<&Recorder>| {
            let mut tables = 0;
            vm.walk(pages(0, 3 * size), |entry| {
                let is_table = matches!(entry.kind(), EntryKind::Table(_));
                tables += usize::from(is_table && entry.level == Level::L2);
            });
            tables
        };
        vm.protect(pages(first, count), Rights::READ).unwrap();
        assert_eq!(counted(&vm), splits);
        let mut unmapped = 0;
        vm.unmap(pages(first, count), |leaf| unmapped += leaf.level().size())
            .unwrap();
        assert_eq!(unmapped, pages(first, count).pages() * PAGE_SIZE);
        assert_eq!(counted(&vm), splits);
    }
}

/// The last page, the last block, and what lies behind them.
#[test]
fn the_end_of_the_guests_addresses() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    let end = vm.geometry().range().end();
    let last_block = Ipa::new(end.get() - Level::L2.size());
    let last_page = Ipa::new(end.get() - PAGE_SIZE);
    map_block(&recorder, &vm, last_block);
    let beyond_all = Ipa::new(!(Level::L2.size() - 1));
    for beyond in [end, beyond_all] {
        let [page, block] = [Level::L3, Level::L2].map(|level| FakeData::frame(Pa::new(0), level));
        let mapped = vm.map_page(beyond, page, Attributes::RAM, DirtyState::Dirty);
        assert_eq!(mapped.unwrap_err().reason, MapError::OutOfRange);
        let mapped = vm.map_block(beyond, block, Attributes::RAM, DirtyState::Dirty);
        assert_eq!(mapped.unwrap_err().reason, MapError::OutOfRange);
        assert_eq!(
            vm.resolve_fault(beyond, Access::Read, DirtyGranule::Page),
            Resolution::OutOfRange
        );
        assert_eq!(vm.query(beyond), None);
        assert!(vm.split_block(beyond, Level::L2).is_err());
        assert!(vm.collapse_in_place(beyond, Level::L2).is_err());
    }
    // A range that reaches beyond ends at the end.
    let over_the_end = IpaRange::new(last_page, beyond_all).unwrap();
    let mut unmapped = Vec::new();
    vm.unmap(over_the_end, |leaf| unmapped.push((leaf.ipa, leaf.level())))
        .unwrap();
    assert_eq!(unmapped, [(last_page, Level::L3)]);
    let behind = IpaRange::new(end, beyond_all).unwrap();
    vm.unmap(behind, |leaf| panic!("{leaf:?} is behind the end"))
        .unwrap();
    vm.protect(behind, Rights::READ).unwrap();
    vm.age(behind, |ipa, _| panic!("{ipa:?} is behind the end"));
    vm.walk(behind, |entry| panic!("{entry:?} is behind the end"));
    assert_eq!(vm.free_empty_tables(behind), 0);
}

/// Where the table of level 3 for `BLOCK` is.
fn table_of_pages(vm: &Stage2<&Recorder>) -> stage2::Pa {
    let mut table = None;
    vm.walk(pages(0, 1), |entry| {
        if let (Level::L2, EntryKind::Table(pa)) = (entry.level, entry.kind()) {
            table = Some(pa);
        }
    });
    table.unwrap()
}

/// An entry that can't be is cleared by the thread that changes the tables, and leaves them as if
/// it had never been: also the count of entries in use, by which empty tables are known.
///
/// Rule (race 9): entries are counted again where one was not counted. Taken out by
/// `09-bad-entry-counted.patch`.
#[test]
fn race_09_bad_entries_do_not_spoil_the_count() {
    const RESERVED: u64 = 0x4000_0001;
    let clearers: [fn(&Stage2<&Recorder>, &Recorder); 2] = [
        |vm, _| {
            vm.unmap(pages(5, 1), |leaf| panic!("{leaf:?} is no leaf"))
                .unwrap()
        },
        |vm, recorder| {
            map_pages(recorder, vm, 5..6);
            vm.unmap(pages(5, 1), |_| {}).unwrap();
        },
    ];
    for clear in clearers {
        for over_a_page in [false, true] {
            let recorder = Recorder::new(Setup::default());
            let vm = recorder.vm();
            map_pages(&recorder, &vm, if over_a_page { 4..6 } else { 4..5 });
            recorder
                .machine
                .frames()
                .corrupt(table_of_pages(&vm), 5, RESERVED);
            let answer = vm.resolve_fault(page(5), Access::Read, DirtyGranule::Leaf);
            assert_eq!(answer, Resolution::Unmapped);
            clear(&vm, &recorder);
            assert_eq!(vm.query(page(5)).unwrap().kind(), EntryKind::Empty);
            assert_eq!(
                vm.free_empty_tables(pages(0, ENTRIES)),
                0,
                "a page is still there"
            );
            vm.unmap(pages(4, 1), |_| {}).unwrap();
            assert_eq!(vm.free_empty_tables(pages(0, ENTRIES)), 1);
        }
    }
}

/// A descriptor that names a frame which is no table, or not one of that level, or not there at
/// all.
#[test]
fn race_09_descriptors_of_what_is_no_table() {
    let recorder = Recorder::new(Setup::default());
    let vm = recorder.vm();
    map_pages(&recorder, &vm, 0..1);
    let root = vm.root().get();
    for target in [0, root, table_of_pages(&vm).get() + 64 * PAGE_SIZE, 1 << 47] {
        let other = BLOCK.offset(Level::L1.size());
        recorder
            .machine
            .frames()
            .corrupt(vm.root(), other.index(Level::L1), target | 0b11);
        assert_eq!(
            vm.resolve_fault(other, Access::Write, DirtyGranule::Leaf),
            Resolution::Unmapped
        );
        let empty = vm.query(other).unwrap();
        assert_eq!((empty.level, empty.kind()), (Level::L1, EntryKind::Empty));
    }
}
