//! What each operation does where it cannot go on: at a marker, at an entry that cannot be, beyond
//! the VM's addresses, and when the VMIDs are used up.
#![forbid(unsafe_code)]

use stage2::fake::{Copier, FakeData, FakeMachine, Setup};
use stage2::lookup::Absent;
use stage2::stats::Counter;
use stage2::{
    Access, Attributes, CollapseError, CopyPages, CopyPlan, Cpus, DirtyGranule, DirtyState,
    ENTRIES, EntryKind, Environment, Geometry, GeometryError, GuestFrame, GuestPage, Ipa, IpaRange,
    Level, MapError, MigrateError, OutOfFrames, Owner, PAGE_SIZE, Pa, Resolution, Rights,
    SplitError, Stage2, Unmapped, Unreadable,
};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Vm<'m> = Stage2<&'m FakeMachine>;

const REGION: Ipa = Ipa::new(0x4000_0000);

const PLAN: CopyPlan = CopyPlan {
    max_empty: ENTRIES,
    max_hot: ENTRIES,
    rounds: 1,
};

fn machine() -> FakeMachine {
    FakeMachine::new(Setup::default())
}

fn vm(machine: &FakeMachine) -> Vm<'_> {
    Stage2::new(machine, machine.config(1)).unwrap()
}

fn region() -> IpaRange {
    IpaRange::entry(REGION, Level::L2)
}

fn page(index: u64) -> Ipa {
    REGION.offset(index * PAGE_SIZE)
}

/// Maps a new page, and says where it is.
fn put(machine: &FakeMachine, vm: &Vm<'_>, ipa: Ipa) -> Pa {
    let frame = machine.data().allocate(Level::L3).unwrap();
    let pa = frame.pa();
    vm.map_page(ipa, frame, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    pa
}

fn map(machine: &FakeMachine, vm: &Vm<'_>, ipa: Ipa) -> Result<(), MapError> {
    let frame = machine.data().allocate(Level::L3).unwrap();
    vm.map_page(ipa, frame, Attributes::RAM, DirtyState::Dirty)
        .map_err(|refused| {
            machine.data().release(refused.frame);
            refused.reason
        })
}

fn migrate(machine: &FakeMachine, vm: &Vm<'_>, ipa: Ipa, from: Pa) -> Result<(), MigrateError> {
    let to = machine.data().allocate(Level::L3).unwrap();
    vm.migrate_page(ipa, from, to, &mut machine.data().copier())
        .map_err(|refused| {
            machine.data().release(refused.frame);
            refused.reason
        })
}

fn collapse(machine: &FakeMachine, vm: &Vm<'_>, ipa: Ipa) -> Result<(), CollapseError> {
    let block = machine.data().allocate(Level::L2).unwrap();
    vm.collapse_by_copying(ipa, block, PLAN, &mut machine.data().copier())
        .map_err(|refused| {
            machine.data().release(refused.frame);
            refused.reason
        })
}

fn table_at(vm: &Vm<'_>, ipa: Ipa, wanted: Level) -> Pa {
    let mut found = None;
    vm.walk(IpaRange::entry(ipa, Level::L3), |entry| {
        if let (EntryKind::Table(table), Some(level)) = (entry.kind(), entry.level.next())
            && level == wanted
        {
            found = Some(table);
        }
    });
    found.expect("a table of this level")
}

/// While a page is looked at, a marker stands for it: nobody else changes it, nothing of its table
/// goes, and afterwards the page is as it was.
#[test]
fn a_page_that_is_away_is_busy_for_everybody() {
    let machine = machine();
    let vm = vm(&machine);
    let from = put(&machine, &vm, page(3));
    let before = vm.query(page(3));
    let outstanding = machine.data().outstanding();
    let gone = vm.unmap_page_if(
        page(3),
        from,
        |_| {
            assert!(matches!(
                vm.query(page(3)).unwrap().kind(),
                EntryKind::Busy(_)
            ));
            assert_eq!(map(&machine, &vm, page(3)), Err(MapError::Busy));
            let answer = vm.resolve_fault(page(3), Access::Read, DirtyGranule::Leaf);
            assert_eq!(answer, Resolution::Busy);
            assert_eq!(
                migrate(&machine, &vm, page(3), from),
                Err(MigrateError::Busy)
            );
            assert_eq!(
                vm.unmap_page_if(page(3), from, |_| true, &mut machine.data().copier()),
                Err(MigrateError::Busy)
            );
            assert_eq!(
                vm.collapse_in_place(REGION, Level::L2),
                Err(CollapseError::Busy)
            );
            assert_eq!(vm.free_empty_tables(region()), 0);
            false
        },
        &mut machine.data().copier(),
    );
    assert_eq!(gone, Ok(false));
    assert_eq!(
        (vm.query(page(3)), machine.data().outstanding()),
        (before, outstanding)
    );
    assert_eq!(migrate(&machine, &vm, page(3), from), Ok(()));
}

/// A marker stands for a whole table's addresses.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn what_is_below_a_marker_is_busy() {
    let machine = machine();
    let vm = vm(&machine);
    let from = put(&machine, &vm, page(3));
    let mut marker = 0;
    let mut copier = machine.data().copier();
    let look = |_: stage2::GuestPage<'_>| {
        marker = vm.query(page(3)).unwrap().descriptor.bits();
        false
    };
    vm.unmap_page_if(page(3), from, look, &mut copier).unwrap();
    for level in [Level::L1, Level::L2] {
        let table = match level {
            Level::L1 => vm.root(),
            _ => table_at(&vm, REGION, Level::L2),
        };
        let index = REGION.index(level);
        let mut below = 0;
        vm.walk(region(), |entry| {
            if entry.level == level {
                below = entry.descriptor.bits();
            }
        });
        machine.frames().corrupt(table, index, marker);
        let there = vm.query(REGION).unwrap();
        assert_eq!((there.level, there.descriptor.bits()), (level, marker));
        assert_eq!(map(&machine, &vm, page(0)), Err(MapError::Busy));
        assert_eq!(vm.split_block(REGION, Level::L2), Err(SplitError::Busy));
        assert_eq!(vm.split_for_store(REGION, Level::L2), Err(SplitError::Busy));
        assert_eq!(
            migrate(&machine, &vm, page(3), from),
            Err(MigrateError::Busy)
        );
        let answer = vm.resolve_fault(page(3), Access::Read, DirtyGranule::Leaf);
        assert_eq!(answer, Resolution::Busy);
        assert!(matches!(
            vm.collapse_in_place(REGION, Level::L2),
            Err(CollapseError::NoTable(Absent::Busy(_)))
        ));
        assert!(matches!(
            collapse(&machine, &vm, REGION),
            Err(CollapseError::NoTable(Absent::Busy(_)))
        ));
        assert_eq!(vm.free_empty_tables(region()), 0);
        assert_eq!(vm.find_filled(region(), 1), None);
        assert_eq!(vm.query(REGION).unwrap().descriptor.bits(), marker);
        machine.frames().corrupt(table, index, below);
    }
    assert_eq!(vm.find_filled(region(), 1), Some(REGION));
    assert_eq!(vm.query(page(3)).unwrap().descriptor.output(), from);
}

/// A copier that does something when the first page is copied, when all are, and when the first old
/// frame is free.
struct Meanwhile<'a> {
    copier: Copier<'a>,
    copied: Option<&'a dyn Fn()>,
    complete: &'a dyn Fn(),
    released: Option<&'a dyn Fn()>,
}

impl CopyPages for Meanwhile<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.copied.take().iter().for_each(|act| act());
        self.copier.copy(from, to)
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
    }

    fn complete(&mut self) {
        (self.complete)();
    }

    fn release(&mut self, leaf: Unmapped) {
        self.released.take().iter().for_each(|act| act());
        self.copier.release(leaf);
    }
}

/// The region is claimed from the first copy until the last old frame is free; in between a marker
/// stands for it.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn a_region_is_collapsed_by_one_at_a_time() {
    let machine = machine();
    let vm = vm(&machine);
    // As it could be collapsed in place, too.
    let frames = machine.data().allocate(Level::L2).unwrap().into_pa();
    for index in 0..ENTRIES as u64 {
        let frame = FakeData::frame(frames.offset(index * PAGE_SIZE), Level::L3);
        vm.map_page(page(index), frame, Attributes::RAM, DirtyState::Dirty)
            .unwrap();
    }
    let claimed = || {
        let (other, in_place) = (
            collapse(&machine, &vm, REGION),
            vm.collapse_in_place(REGION, Level::L2),
        );
        assert_eq!(
            (other, in_place),
            (Err(CollapseError::Claimed), Err(CollapseError::Claimed))
        );
    };
    let marked = || {
        assert!(matches!(
            vm.query(REGION).unwrap().kind(),
            EntryKind::Busy(_)
        ));
        assert_eq!(map(&machine, &vm, page(5)), Err(MapError::Busy));
        assert_eq!(vm.split_block(REGION, Level::L2), Err(SplitError::Busy));
    };
    let done = || {
        assert_eq!(vm.query(REGION).unwrap().level, Level::L2);
        // The table that it would be split into is still being read.
        assert_eq!(vm.split_block(REGION, Level::L2), Err(SplitError::Busy));
    };
    let mut contents = Meanwhile {
        copier: machine.data().copier(),
        copied: Some(&claimed),
        complete: &marked,
        released: Some(&done),
    };
    let block = machine.data().allocate(Level::L2).unwrap();
    vm.collapse_by_copying(REGION, block, PLAN, &mut contents)
        .unwrap();
    assert!(contents.copied.is_none() && contents.released.is_none());
    assert_eq!(vm.split_block(REGION, Level::L2), Ok(()));
}

/// What is unmapped or mapped otherwise while the pages are copied ends the collapse: what is left
/// stays where it is.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn what_changes_during_the_copy_is_noticed() {
    type Change = fn(&FakeMachine, &Vm<'_>);
    let cases: [(Change, CollapseError); 3] = [
        (
            |machine, vm| {
                vm.unmap(IpaRange::entry(page(1), Level::L3), |leaf| {
                    machine.data().release(leaf.frame)
                })
                .unwrap()
            },
            CollapseError::TooEmpty,
        ),
        (
            |_, vm| {
                vm.protect(IpaRange::entry(page(1), Level::L3), Rights::READ)
                    .unwrap()
            },
            CollapseError::Mixed,
        ),
        (
            |machine, vm| {
                let table = table_at(vm, REGION, Level::L3);
                machine.frames().corrupt(table, 7, 1);
            },
            CollapseError::Bad,
        ),
    ];
    // Noticed before the pages are copied once more, or at the end.
    let cases = cases.map(|case| [(1, case), (0, case)]);
    for (rounds, (change, expected)) in cases.into_iter().flatten() {
        let machine = machine();
        let vm = vm(&machine);
        let from = put(&machine, &vm, page(0));
        put(&machine, &vm, page(1));
        let act = || change(&machine, &vm);
        let mut contents = Meanwhile {
            copier: machine.data().copier(),
            copied: Some(&act),
            complete: &|| {},
            released: None,
        };
        let block = machine.data().allocate(Level::L2).unwrap();
        let plan = CopyPlan {
            max_empty: ENTRIES - 2,
            rounds,
            ..PLAN
        };
        let refused = vm
            .collapse_by_copying(REGION, block, plan, &mut contents)
            .unwrap_err();
        assert_eq!(refused.reason, expected);
        let there = vm.query(page(0)).unwrap();
        assert_eq!((there.level, there.descriptor.output()), (Level::L3, from));
    }
}

/// A table with a hole is no block, and that is said before anything is copied.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn a_hole_is_found_before_the_copy() {
    let machine = machine();
    let vm = vm(&machine);
    let block = machine.data().allocate(Level::L2).unwrap();
    vm.map_block(REGION, block, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    vm.split_block(REGION, Level::L2).unwrap();
    let hole = IpaRange::entry(page(1), Level::L3);
    vm.unmap(hole, |leaf| machine.data().release(leaf.frame))
        .unwrap();
    let in_place = vm.collapse_in_place(REGION, Level::L2);
    assert_eq!(in_place, Err(CollapseError::TooEmpty));
    let mut contents = Meanwhile {
        copier: machine.data().copier(),
        copied: Some(&|| panic!("a page is copied")),
        complete: &|| {},
        released: None,
    };
    let to = machine.data().allocate(Level::L2).unwrap();
    let plan = CopyPlan {
        max_empty: 0,
        ..PLAN
    };
    let refused = vm
        .collapse_by_copying(REGION, to, plan, &mut contents)
        .unwrap_err();
    assert_eq!(refused.reason, CollapseError::TooEmpty);
}

/// An entry that cannot be, above what is changed, is cleared by the thread that meets it; then the
/// answer is that of an empty one.
#[test]
fn a_bad_entry_above_is_cleared_by_every_change() {
    type Change = fn(&FakeMachine, &Vm<'_>);
    let changes: &[(&str, Change)] = &[
        ("map", |machine, vm| {
            assert_eq!(map(machine, vm, page(0)), Ok(()))
        }),
        ("split", |_, vm| {
            let answer = vm.split_block(REGION, Level::L2);
            assert_eq!(answer, Err(SplitError::NoBlock));
        }),
        ("unmap", |_, vm| {
            let none = |leaf| panic!("{leaf:?} is no leaf");
            assert_eq!(vm.unmap(region(), none), Ok(()));
        }),
        ("protect", |_, vm| {
            assert_eq!(vm.protect(region(), Rights::READ), Ok(()))
        }),
        ("free empty tables", |_, vm| {
            assert_eq!(vm.free_empty_tables(region()), 0)
        }),
    ];
    for (name, change) in changes {
        let machine = machine();
        let vm = vm(&machine);
        // Bit 0 without what makes a block of an address that fits.
        let bad = 0x1001;
        let index = REGION.index(Level::L1);
        machine.frames().corrupt(vm.root(), index, bad);
        assert_eq!(vm.query(REGION).unwrap().kind(), EntryKind::Bad, "{name}");
        assert!(matches!(
            vm.collapse_in_place(REGION, Level::L2),
            Err(CollapseError::NoTable(Absent::Bad(_)))
        ));
        change(&machine, &vm);
        let left = vm.query(REGION).unwrap().kind();
        assert_ne!(left, EntryKind::Bad, "{name}");
        assert_eq!(machine.cpus().counted(Counter::BadCleared), 1, "{name}");
        assert_eq!(
            vm.resolve_fault(page(9), Access::Read, DirtyGranule::Leaf),
            Resolution::Unmapped
        );
    }
}

/// A collapse says what is wrong with an entry among its pages, and leaves the pages where they
/// are.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn a_bad_page_stops_a_collapse() {
    let machine = machine();
    let vm = vm(&machine);
    put(&machine, &vm, page(0));
    let table = table_at(&vm, REGION, Level::L3);
    machine.frames().corrupt(table, 7, 1);
    let there = vm.query(page(0));
    assert_eq!(
        vm.collapse_in_place(REGION, Level::L2),
        Err(CollapseError::Bad)
    );
    assert_eq!(collapse(&machine, &vm, REGION), Err(CollapseError::Bad));
    assert_eq!(vm.query(page(0)), there);
}

/// A block's mark says that a table was kept for it, and none was: the bit fell over. It is split
/// all the same.
#[test]
fn a_block_marked_for_nothing_is_split() {
    // A software bit of the descriptor.
    const KEPT: u64 = 1 << 56;
    let machine = machine();
    let vm = vm(&machine);
    let block = machine.data().allocate(Level::L2).unwrap();
    let pa = block.pa();
    vm.map_block(REGION, block, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    let marked = vm.query(REGION).unwrap().descriptor.bits() | KEPT;
    let table = table_at(&vm, REGION, Level::L2);
    machine
        .frames()
        .corrupt(table, REGION.index(Level::L2), marked);
    machine.frames().fail_nth(1);
    assert_eq!(
        vm.split_block(REGION, Level::L2),
        Err(SplitError::OutOfFrames)
    );
    assert_eq!(vm.query(REGION).unwrap().descriptor.bits(), marked);
    assert_eq!(vm.split_block(REGION, Level::L2), Ok(()));
    let last = vm.query(page(511)).unwrap();
    assert_eq!(last.level, Level::L3);
    assert_eq!(last.descriptor.output(), pa.offset(511 * PAGE_SIZE));
}

/// What is wrong with the call itself: nothing has changed, and frames come back.
#[test]
fn wrong_calls_change_nothing() {
    let machine = machine();
    let vm = vm(&machine);
    let block = machine.data().allocate(Level::L2).unwrap();
    vm.map_block(REGION, block, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    vm.protect(region(), Rights::READ).unwrap();
    let there = vm.query(REGION);
    assert_eq!(
        vm.split_for_store(REGION, Level::L2),
        Err(SplitError::Denied)
    );
    assert_eq!(vm.query(REGION), there);

    let free = Ipa::new(0);
    let from = put(&machine, &vm, free);
    let to = machine.data().allocate(Level::L2).unwrap();
    let pa = to.pa();
    let refused = vm
        .migrate_page(free, from, to, &mut machine.data().copier())
        .unwrap_err();
    assert_eq!(refused.reason, MigrateError::WrongSize);
    assert_eq!((refused.frame.pa(), refused.frame.level()), (pa, Level::L2));
    assert_eq!(vm.query(free).unwrap().descriptor.output(), from);

    let end = vm.geometry().range().end();
    let over = IpaRange::new(Ipa::new(end.get() - PAGE_SIZE), end.offset(PAGE_SIZE)).unwrap();
    let stopped = vm
        .map_pages(
            over,
            |ipa| panic!("{ipa} is asked for"),
            Attributes::RAM,
            DirtyState::Dirty,
        )
        .unwrap_err();
    assert_eq!(stopped.reason, MapError::OutOfRange);
    assert_eq!((stopped.end, stopped.frame.is_none()), (over.start(), true));
    assert_eq!(
        vm.collapse_in_place(end, Level::L2),
        Err(CollapseError::OutOfRange)
    );
    let behind = IpaRange::entry(end, Level::L2);
    assert_eq!(vm.unmap(behind, |leaf| panic!("{leaf:?}")), Ok(()));
    assert_eq!(vm.protect(behind, Rights::READ), Ok(()));
    assert_eq!(vm.free_empty_tables(behind), 0);
    assert_eq!(vm.find_filled(behind, 1), None);
    vm.walk(behind, |entry| panic!("{entry:?}"));
}

/// A pinned page stays where it is, and so do a device's registers, pinned or not.
#[test]
fn what_must_keep_its_frame_is_not_moved() {
    let machine = machine();
    let vm = vm(&machine);
    let pinned = Attributes {
        pinned: true,
        ..Attributes::RAM
    };
    let device = Attributes {
        pinned: false,
        ..Attributes::DEVICE
    };
    for (index, attributes) in (0..).zip([pinned, device]) {
        let frame = machine.data().allocate(Level::L3).unwrap();
        let pa = frame.pa();
        vm.map_page(page(index), frame, attributes, DirtyState::Dirty)
            .unwrap();
        assert_eq!(
            migrate(&machine, &vm, page(index), pa),
            Err(MigrateError::Pinned)
        );
        let there = vm.query(page(index)).unwrap().descriptor;
        assert_eq!(there.output(), pa);
    }
}

/// Beyond the VM's addresses there is nothing to find and nothing to do, at whatever level the
/// tables start.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn tables_of_every_height_end_where_their_addresses_do() {
    for (start, ipa_bits, sl0) in [
        (Level::L0, 48, 2),
        (Level::L1, 40, 1),
        (Level::L2, 32, 0),
        (Level::L3, 25, 3),
    ] {
        let machine = FakeMachine::new(Setup {
            ipa_bits,
            start,
            table_frames: 24,
            ..Setup::default()
        });
        let vm = Stage2::new(&machine, machine.config(1)).unwrap();
        let geometry = vm.geometry();
        assert_eq!(geometry.ipa_bits(), ipa_bits);
        assert_eq!(geometry.vtcr(), u64::from(64 - ipa_bits) | sl0 << 6);
        let beyond = geometry.range().end();
        let last = Ipa::new(beyond.get() - PAGE_SIZE);
        let from = put(&machine, &vm, last);
        assert_eq!(vm.query(last).unwrap().descriptor.output(), from);
        assert_eq!(map(&machine, &vm, beyond), Err(MapError::OutOfRange));
        assert_eq!(
            migrate(&machine, &vm, beyond, from),
            Err(MigrateError::OutOfRange)
        );
        let split = vm.split_block(beyond, Level::L2);
        let wrong = start > Level::L2;
        let expected = [SplitError::OutOfRange, SplitError::WrongLevel][usize::from(wrong)];
        assert_eq!(split, Err(expected));
        assert_eq!(vm.split_block(last, Level::L3), Err(SplitError::WrongLevel));
        assert_eq!(vm.query(beyond), None);
        let reader = vm.read();
        assert!(reader.root(beyond).is_none());
        assert!(reader.lock(beyond, Level::L3).is_none());
        let table = reader.lock(last, Level::L3).unwrap().unwrap();
        assert_eq!((table.level(), table.live()), (Level::L3, 1));
        // The way back to the lock.
        let unlocked = table.unlock();
        assert!(unlocked.try_lock().unwrap().is_ok());
        if start < Level::L3 {
            let none = reader.lock(Ipa::new(0), Level::L3).unwrap();
            assert_eq!(none.err(), Some(Absent::Empty));
        }
    }
    assert_eq!(Geometry::new(40, 36), Err(GeometryError::TooWide));
    assert_eq!(Geometry::new(20, 40), Err(GeometryError::TooNarrow));
}

/// Three VMIDs for seven VMs: one of them runs on CPU 1 all the time, the others take turns on
/// CPU 0.
#[test]
fn a_running_vm_keeps_its_number_when_all_are_used_up() {
    let machine = FakeMachine::new(Setup {
        vmid_bits: 2,
        table_frames: 64,
        ..Setup::default()
    });
    let vms: Vec<_> = (1..=7)
        .map(|owner| {
            let vm = Stage2::new(&machine, machine.config(owner)).unwrap();
            let pa = put(&machine, &vm, REGION);
            machine.data().write(pa, u64::from(owner));
            vm
        })
        .collect();
    let running = machine.enter_on(1, &vms[0]);
    for round in 0..3 {
        for (vm, value) in vms[1..].iter().zip(2..) {
            let guest = machine.enter(vm);
            assert_ne!(guest.vmid(), running.vmid());
            assert!((1..4).contains(&guest.vmid().get()));
            // What another VM left in the TLB under the same number would be seen here.
            assert_eq!(guest.read(REGION), Ok(value), "round {round}");
            assert_eq!(running.read(REGION), Ok(1));
        }
        let again = machine.enter_on(1, &vms[0]);
        assert_eq!(again.vmid(), running.vmid());
    }
}

/// Seven VMIDs for eight VMs: the eighth begins a new generation, in which the others keep what is
/// still free.
#[test]
fn a_vm_keeps_its_number_in_a_new_generation() {
    let machine = FakeMachine::new(Setup {
        vmid_bits: 3,
        ..Setup::default()
    });
    let vms: Vec<_> = (1..=8)
        .map(|owner| Stage2::new(&machine, machine.config(owner)).unwrap())
        .collect();
    let numbers: Vec<_> = vms.iter().map(|vm| vm.load().get()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 1]);
    assert_eq!([4, 6, 7].map(|vm: usize| vms[vm].load().get()), [5, 7, 1]);
    // Its own is the eighth's by now.
    assert_eq!(vms[0].load().get(), 2);
}

/// With 16 bits there are numbers for more VMs than with 8, and nobody has to give one back.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn wide_vmids_are_used_to_their_width() {
    const VMS: u32 = 300;
    for (vmid_bits, distinct) in [(8, 255), (16, VMS as usize)] {
        let machine = FakeMachine::new(Setup {
            vmid_bits,
            table_frames: VMS as usize,
            ..Setup::default()
        });
        let vms: Vec<_> = (1..=VMS)
            .map(|owner| Stage2::new(&machine, machine.config(owner)).unwrap())
            .collect();
        let numbers: BTreeSet<_> = vms.iter().map(|vm| vm.load().get()).collect();
        assert_eq!(numbers.len(), distinct);
        assert!(!numbers.contains(&0));
    }
}

#[test]
fn too_few_numbers_for_the_cpus_are_noticed() {
    let machine = FakeMachine::new(Setup {
        vmid_bits: 1,
        ..Setup::default()
    });
    let vm = vm(&machine);
    let noticed = catch_unwind(AssertUnwindSafe(|| vm.load())).unwrap_err();
    let text = noticed.downcast_ref::<String>().unwrap();
    assert_eq!(text, "2 VMIDs are too few for 2 CPUs");
}

/// Frames come back in the order of their addresses, with the holes between them.
#[test]
fn what_was_unmapped_together_comes_back_as_it_stood() {
    let machine = machine();
    let vm = vm(&machine);
    let there = [0, 1, 4].map(|index| (index, put(&machine, &vm, page(index))));
    let mut back = Vec::new();
    vm.unmap_runs(region(), |run| {
        assert_eq!(run.level(), Level::L3);
        let first = run.ipa();
        let pages = run.entries().len();
        let frames: Vec<_> = run.into_frames().collect();
        assert_eq!(frames.len(), pages);
        for (index, frame) in (0..).zip(frames) {
            let ipa = first.offset(index * PAGE_SIZE);
            back.extend(frame.map(|frame| (ipa, frame.into_pa())));
        }
    })
    .unwrap();
    assert_eq!(back, there.map(|(index, pa)| (page(index), pa)));
}

/// What a person is shown says what it is of, whose it is, and why.
#[test]
fn values_and_errors_say_what_they_are() {
    let machine = machine();
    let vm = vm(&machine);
    let pa = put(&machine, &vm, REGION);
    let entry = vm.query(REGION).unwrap().descriptor;
    assert_eq!(
        format!("{entry:?}"),
        format!("Descriptor({:#018x})", entry.bits())
    );
    assert_eq!(REGION.to_string(), "0x40000000");
    assert!(format!("{vm:?}").starts_with("Stage2 { config: Config {"));
    {
        let reader = vm.read();
        assert_eq!(format!("{reader:?}"), "Reader { .. }");
        let root = reader.root(REGION).unwrap();
        assert!(format!("{root:?}").starts_with("Unlocked(View { pa: "));
        assert!(
            format!("{:?}", machine.cpus().slots()[0]).starts_with("CpuSlot { in_section: true")
        );
        let table = reader.lock(REGION, Level::L3).unwrap().unwrap();
        let text = format!("{table:?}");
        assert!(text.starts_with("Locked(View { pa: ") && text.contains("level: L3"));
        assert_eq!(
            format!("{:?}", table.slot(REGION)),
            format!("Slot({entry:?})")
        );
    }
    let counters = format!("{:?}", machine.cpus().slots()[0].counters());
    assert!(counters.contains("PagesMapped: 1,"), "{counters}");
    let texts: BTreeSet<_> = Counter::ALL.iter().map(|c| c.text()).collect();
    assert_eq!(texts.len(), Counter::ALL.len(), "each counter has a text");
    let meta = stage2::Frames::table_meta(machine.frames(), vm.root()).unwrap();
    assert_eq!(format!("{meta:?}"), "TableMeta { is_table: true, .. }");
    assert_eq!(format!("{:?}", machine.cpus().grace()), "Grace { .. }");

    let frame: GuestFrame = FakeData::frame(pa, Level::L3);
    assert_eq!(format!("{frame:?}"), format!("{pa:?} of L3"));
    assert_eq!(frame.first_page().pa(), pa);
    let refused = vm
        .map_page(REGION, frame, Attributes::RAM, DirtyState::Dirty)
        .unwrap_err();
    let text = format!("something is mapped there: {entry:?}");
    assert_eq!(
        (refused.to_string(), refused.reason.to_string()),
        (text.clone(), text)
    );
    assert_eq!(OutOfFrames.to_string(), "no frame is left");
    assert_eq!(SplitError::from(OutOfFrames), SplitError::OutOfFrames);
    assert_eq!(
        (Owner::new(0), Owner::new(5).map(Owner::number)),
        (None, Some(5))
    );

    vm.load();
    let loaded = vm.destroy(|_| {}).unwrap_err();
    assert!(format!("{loaded:?}").starts_with("StillLoaded { stage2: Stage2 {"));
}
