//! Races that need no second thread: what a collapse, a split or a failed change must keep of what was
//! there. Each test says which rule it is for and which patch in `tests/rules/host` takes that out.
#![cfg(not(loom))]

use stage2::fake::{Copier, FakeMachine, Fault, Setup};
use stage2::lookup::Changed;
use stage2::{
    Access, Attributes, CollapseError, Contents, CopyPlan, Descriptor, ENTRIES, Environment,
    Execute, Ipa, IpaRange, Level, Memory, PAGE_SIZE, Pa, Resolution, Rights, SplitError, Stage2,
    Unmapped,
};

const REGION: Ipa = Ipa::new(0x4000_0000);

const ALL_COPIED: CopyPlan = CopyPlan {
    max_empty: 0,
    max_hot: ENTRIES,
    rounds: 0,
};

fn machine() -> FakeMachine {
    FakeMachine::new(Setup::default())
}

fn vm(machine: &FakeMachine) -> Stage2<&FakeMachine> {
    Stage2::new(machine, machine.config(1)).unwrap()
}

fn page(index: usize) -> Ipa {
    REGION.offset(index as u64 * PAGE_SIZE)
}

fn region() -> IpaRange {
    IpaRange::entry(REGION, Level::L2)
}

/// Maps all pages of the region, each to the frame of a 2 MiB frame that `order` says, and returns
/// where that begins. `attributes` are those of each page.
fn fill(
    machine: &FakeMachine,
    vm: &Stage2<&FakeMachine>,
    order: impl Fn(usize) -> usize,
    attributes: impl Fn(usize) -> Attributes,
) -> Pa {
    let frames = machine.data().allocate(Level::L2).unwrap();
    for index in 0..ENTRIES {
        let pa = frames.offset(order(index) as u64 * PAGE_SIZE);
        machine.data().write(pa, 0);
        vm.map_page(page(index), pa, attributes(index), false)
            .unwrap();
    }
    frames
}

fn dirty(vm: &Stage2<&FakeMachine>) -> Vec<IpaRange> {
    let mut dirty = Vec::new();
    vm.collect_dirty(region(), |range| dirty.push(range));
    dirty
}

/// A store of the guest, with the faults that it takes.
fn store(machine: &FakeMachine, vm: &Stage2<&FakeMachine>, index: usize, value: u64) {
    let guest = machine.enter(vm);
    while guest.write(page(index), value).is_err() {
        let answer = vm.resolve_fault(page(index), Access::Write, false);
        assert_eq!(answer, Resolution::Resolved);
    }
}

/// Collapses in both ways; each must fail alike.
fn refused(machine: &FakeMachine, vm: &Stage2<&FakeMachine>) -> CollapseError {
    let to = machine.data().allocate(Level::L2).unwrap();
    let copied = vm.collapse_by_copying(
        REGION,
        Level::L2,
        to,
        ALL_COPIED,
        &mut machine.data().copier(),
    );
    machine.data().release(to, Level::L2);
    assert_eq!(copied, vm.collapse_in_place(REGION, Level::L2));
    copied.expect_err("rights, attributes and frames must be kept")
}

/// One page of the region is not like the others.
///
/// Rule: a block takes the place of leaves that do not differ in what they allow. Taken out by
/// `20-attributes-not-compared.patch`.
#[test]
fn race_20_rights_and_attributes_never_widen() {
    let odd = [
        Rights::READ,
        Rights::READ_WRITE,
        Rights::READ_EXECUTE,
        Rights {
            execute: Execute::Kernel,
            ..Rights::ALL
        },
        Rights {
            read: false,
            ..Rights::ALL
        },
    ];
    for rights in odd {
        for at in [0, 1, ENTRIES - 1] {
            let machine = machine();
            let vm = vm(&machine);
            fill(
                &machine,
                &vm,
                |index| index,
                |index| Attributes {
                    rights: if index == at { rights } else { Rights::ALL },
                    ..Attributes::RAM
                },
            );
            assert_eq!(refused(&machine, &vm), CollapseError::Mixed);
            assert_eq!(vm.query(page(at)).unwrap().descriptor.rights(), rights);
        }
    }
}

/// A page that must keep its frame, or that is a device's registers, stands among others, or all are
/// such pages.
///
/// Rule: pinned and device pages are neither moved nor made part of a block. Taken out by
/// `20-pinned-pages-collapsed.patch`.
#[test]
fn race_20_pinned_and_device_pages_keep_their_frames() {
    let pinned = Attributes {
        pinned: true,
        ..Attributes::RAM
    };
    let device = Attributes {
        pinned: false,
        ..Attributes::DEVICE
    };
    for odd in [pinned, device] {
        for first in [0, ENTRIES - 1] {
            let machine = machine();
            let vm = vm(&machine);
            let attributes = |index| if index >= first { odd } else { Attributes::RAM };
            let frames = fill(&machine, &vm, |index| index, attributes);
            assert_eq!(refused(&machine, &vm), CollapseError::Pinned);
            let last = frames.offset((ENTRIES as u64 - 1) * PAGE_SIZE);
            let entry = vm.query(page(ENTRIES - 1)).unwrap();
            assert_eq!((entry.level, entry.descriptor.output()), (Level::L3, last));
        }
    }
}

/// One page of 512 was written before they become a block.
///
/// Rule: the block has the marks of all its pages. Taken out by `20-marks-of-one-page.patch`.
#[test]
fn race_20_a_block_is_as_dirty_as_its_pages() {
    for by_copying in [false, true] {
        for written in [None, Some(0), Some(77), Some(ENTRIES - 1)] {
            let machine = machine();
            let vm = vm(&machine);
            fill(&machine, &vm, |index| index, |_| Attributes::RAM);
            if let Some(index) = written {
                store(&machine, &vm, index, 1);
            }
            let collapsed = if by_copying {
                let to = machine.data().allocate(Level::L2).unwrap();
                let mut copier = machine.data().copier();
                vm.collapse_by_copying(REGION, Level::L2, to, ALL_COPIED, &mut copier)
            } else {
                vm.collapse_in_place(REGION, Level::L2)
            };
            assert_eq!(collapsed, Ok(()));
            assert_eq!(dirty(&vm), written.map(|_| region()).as_slice());
        }
    }
}

/// The frames of 512 pages are not those of a block: out of order, or in order from a wrong address.
///
/// Rule: both are looked at. Taken out by `21-order-not-looked-at.patch` and
/// `21-alignment-not-looked-at.patch`.
#[test]
fn race_21_scattered_frames_are_no_block() {
    let swapped = |index| match index {
        510 => 511,
        511 => 510,
        index => index,
    };
    let rotated = |index| (index + 1) % ENTRIES;
    for order in [swapped, rotated] {
        let machine = machine();
        let vm = vm(&machine);
        fill(&machine, &vm, order, |_| Attributes::RAM);
        let result = vm.collapse_in_place(REGION, Level::L2);
        assert_eq!(result, Err(CollapseError::Scattered));
    }
    let machine = machine();
    let vm = vm(&machine);
    let frames = machine.data().allocate(Level::L2).unwrap();
    machine.data().allocate(Level::L2).unwrap();
    for index in 0..ENTRIES {
        let pa = frames.offset((index as u64 + 1) * PAGE_SIZE);
        vm.map_page(page(index), pa, Attributes::RAM, false)
            .unwrap();
    }
    let result = vm.collapse_in_place(REGION, Level::L2);
    assert_eq!(result, Err(CollapseError::Scattered));
}

/// A block that is not like the defaults in anything is split.
///
/// Rule: the parts have the block's rights, attributes and marks. Taken out by
/// `25-parts-with-all-rights.patch`.
#[test]
fn race_25_parts_are_as_their_block() {
    let rights = [
        Rights::READ,
        Rights::READ_WRITE,
        Rights {
            execute: Execute::User,
            ..Rights::ALL
        },
    ];
    for rights in rights {
        for (memory, pinned) in [
            (Memory::Normal, false),
            (Memory::Normal, true),
            (Memory::Device, true),
        ] {
            for (accessed, written) in [(false, false), (true, rights.write)] {
                let machine = machine();
                let vm = vm(&machine);
                let attributes = Attributes {
                    rights,
                    memory,
                    pinned,
                };
                let frames = machine.data().allocate(Level::L2).unwrap();
                vm.map_block(REGION, Level::L2, frames, attributes, written)
                    .unwrap();
                if !accessed {
                    vm.age(region(), |_, _| {});
                }
                assert_eq!(vm.split_block(REGION, Level::L2), Ok(()));
                for index in 0..ENTRIES {
                    let part = vm.query(page(index)).unwrap();
                    let leaf = part.descriptor;
                    assert_eq!(part.level, Level::L3);
                    assert_eq!(leaf.output(), frames.offset(index as u64 * PAGE_SIZE));
                    assert_eq!((leaf.rights(), leaf.memory()), (rights, memory));
                    assert_eq!((leaf.is_pinned(), leaf.is_accessed()), (pinned, accessed));
                    assert_eq!(leaf.is_written(), written);
                }
            }
        }
    }
}

/// Stores to more pages than a collapse may copy twice, while it copies.
struct Storing<'m> {
    machine: &'m FakeMachine,
    vm: &'m Stage2<&'m FakeMachine>,
    copies: usize,
    copier: Copier<'m>,
}

impl<'m> Storing<'m> {
    fn new(machine: &'m FakeMachine, vm: &'m Stage2<&'m FakeMachine>) -> Self {
        Self {
            machine,
            vm,
            copies: 0,
            copier: machine.data().copier(),
        }
    }
}

impl Contents for Storing<'_> {
    fn copy(&mut self, from: Pa, to: Pa) {
        self.copies += 1;
        if self.copies == ENTRIES {
            store(self.machine, self.vm, 200, 2);
            store(self.machine, self.vm, 201, 2);
        }
        self.copier.copy(from, to);
    }

    fn zero(&mut self, to: Pa) {
        self.copier.zero(to);
    }

    fn release(&mut self, ipa: Ipa, old: Descriptor) {
        self.copier.release(ipa, old);
    }
}

/// The guest stores to pages that were copied already; none may be left for when it is held up.
///
/// Rule: what is copied again traps again first, and counts as copied only then. Taken out by
/// `17-copied-again-without-a-trap.patch`.
#[test]
fn race_17_pages_that_are_written_meanwhile_are_copied_again() {
    let machine = machine();
    let vm = vm(&machine);
    fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    let to = machine.data().allocate(Level::L2).unwrap();
    let plan = CopyPlan {
        max_empty: 0,
        max_hot: 0,
        rounds: 1,
    };
    let mut contents = Storing::new(&machine, &vm);
    let result = vm.collapse_by_copying(REGION, Level::L2, to, plan, &mut contents);
    assert_eq!(result, Ok(()));
    assert_eq!(contents.copies, ENTRIES + 2, "only what was written");
    let guest = machine.enter(&vm);
    for index in 0..ENTRIES {
        let value = if matches!(index, 200 | 201) { 2 } else { 0 };
        assert_eq!(guest.read(page(index)), Ok(value), "page {index}");
    }
}

/// Copies, and does something after so many pages were copied or zeroed.
struct Meanwhile<'m, F> {
    copier: Copier<'m>,
    pages: usize,
    from: Vec<Pa>,
    act: F,
}

impl<'m, F: FnMut(usize)> Meanwhile<'m, F> {
    fn new(machine: &'m FakeMachine, act: F) -> Self {
        Self {
            copier: machine.data().copier(),
            pages: 0,
            from: Vec::new(),
            act,
        }
    }

    fn done(&mut self) {
        self.pages += 1;
        (self.act)(self.pages);
    }
}

impl<F: FnMut(usize)> Contents for Meanwhile<'_, F> {
    fn copy(&mut self, from: Pa, to: Pa) {
        self.copier.copy(from, to);
        self.from.push(from);
        self.done();
    }

    fn zero(&mut self, to: Pa) {
        self.copier.zero(to);
        self.done();
    }

    fn release(&mut self, ipa: Ipa, old: Descriptor) {
        self.copier.release(ipa, old);
    }
}

/// Collapses by copying with little left for the end, and does something meanwhile.
fn collapse_meanwhile(
    machine: &FakeMachine,
    vm: &Stage2<&FakeMachine>,
    rounds: usize,
    act: impl FnMut(usize),
) -> (Result<(), CollapseError>, Vec<Pa>) {
    let to = machine.data().allocate(Level::L2).unwrap();
    let plan = CopyPlan {
        max_empty: ENTRIES - 1,
        max_hot: 1,
        rounds,
    };
    let mut contents = Meanwhile::new(machine, act);
    let result = vm.collapse_by_copying(REGION, Level::L2, to, plan, &mut contents);
    (result, contents.from)
}

fn unmap(machine: &FakeMachine, vm: &Stage2<&FakeMachine>, index: usize) {
    let range = IpaRange::entry(page(index), Level::L3);
    let release = |leaf: Unmapped| machine.data().release(leaf.descriptor.output(), leaf.level);
    vm.unmap(range, release).unwrap();
}

/// The guest gives pages back that were copied already: they are zeroed in the next round.
///
/// Rule: the rounds go by what the end goes by.
#[test]
fn race_17_pages_that_are_unmapped_meanwhile_are_zeroed() {
    let machine = machine();
    let vm = vm(&machine);
    let frames = fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    (10..20).for_each(|index| machine.data().write(frames.offset(index * PAGE_SIZE), 7));
    let (result, _) = collapse_meanwhile(&machine, &vm, 1, |pages| {
        if pages == ENTRIES {
            (10..20).for_each(|index| unmap(&machine, &vm, index));
        }
    });
    assert_eq!(result, Ok(()));
    let guest = machine.enter(&vm);
    (0..ENTRIES).for_each(|index| assert_eq!(guest.read(page(index)), Ok(0), "page {index}"));
}

/// A page is mapped where nothing was, copied in the second round, and unmapped.
///
/// Rule: a page is zero when its last copy was. Taken out by `17-copied-still-taken-for-zeroed.patch`.
#[test]
fn race_17_a_page_that_was_copied_is_not_zero() {
    let machine = machine();
    let vm = vm(&machine);
    fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    unmap(&machine, &vm, 5);
    let fresh = machine.data().allocate(Level::L3).unwrap();
    machine.data().write(fresh, 7);
    let (result, _) = collapse_meanwhile(&machine, &vm, 1, |pages| {
        if pages == ENTRIES {
            vm.map_page(page(5), fresh, Attributes::RAM, true).unwrap();
            [200, 201]
                .into_iter()
                .for_each(|index| store(&machine, &vm, index, 2));
        }
        if pages == ENTRIES + 3 {
            unmap(&machine, &vm, 5);
        }
    });
    assert_eq!(result, Ok(()));
    assert_eq!(machine.enter(&vm).read(page(5)), Ok(0));
}

/// A device is mapped where a page was, while the others are copied.
///
/// Rule: nothing but memory is read. Taken out by `20-devices-read.patch`.
#[test]
fn race_20_a_device_that_comes_meanwhile_is_not_read() {
    let machine = machine();
    let vm = vm(&machine);
    fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    let device = machine.data().allocate(Level::L3).unwrap();
    let (result, from) = collapse_meanwhile(&machine, &vm, 1, |pages| {
        if pages == 1 {
            unmap(&machine, &vm, 9);
            vm.map_page(page(9), device, Attributes::DEVICE, true)
                .unwrap();
        }
    });
    assert_eq!(result, Err(CollapseError::Pinned));
    assert!(!from.contains(&device));
}

/// Who holds a child's lock wants that of its parent, which another may hold who waits for the child's.
///
/// Rule: against the order only by trying; and what was locked so is checked as ever. Not for the model checker,
/// whose own try-lock waits.
#[test]
fn race_37_against_the_order_only_by_trying() {
    let machine = machine();
    let vm = vm(&machine);
    fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    std::thread::scope(|scope| {
        let reader = vm.read();
        let root = || reader.root(REGION).unwrap();
        let parent = || root().slot(REGION).map_nolock().unwrap();
        let child = || parent().slot(REGION).map_nolock().unwrap();
        let first = child().lock();
        assert!(matches!(parent().try_lock(), Some(Ok(_))));
        let both = parent().lock();
        assert!(parent().try_lock().is_none(), "somebody holds it");
        drop((first, both));

        let late = child();
        let collapse = scope.spawn(|| {
            let _cpu = machine.on_cpu(1);
            vm.collapse_in_place(REGION, Level::L2)
        });
        while vm.query(REGION).unwrap().level != Level::L2 || parent().try_lock().is_none() {
            std::thread::yield_now();
        }
        assert!(matches!(late.try_lock(), Some(Err(Changed))));
        // The collapse waits for the end of the section.
        drop(reader);
        assert_eq!(collapse.join().unwrap(), Ok(()));
    });
}

/// A collapse makes stores trap, and is given up.
///
/// Rule: stores are made to trap only with a mark of what had been written. Taken out by
/// `47-no-mark-of-dirt.patch`.
#[test]
fn race_47_dirt_outlives_a_collapse_that_failed() {
    let machine = machine();
    let vm = vm(&machine);
    fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    store(&machine, &vm, 5, 1);
    let to = machine.data().allocate(Level::L2).unwrap();
    let plan = CopyPlan {
        max_empty: 0,
        max_hot: 1,
        rounds: 0,
    };
    let mut contents = Storing::new(&machine, &vm);
    let result = vm.collapse_by_copying(REGION, Level::L2, to, plan, &mut contents);
    assert_eq!(result, Err(CollapseError::Hot));
    let expected = [5, 200, 201].map(|index| IpaRange::entry(page(index), Level::L3));
    assert_eq!(
        dirty(&vm),
        expected,
        "nothing lost, and nothing that was only copied"
    );
    assert_eq!(dirty(&vm), []);
}

/// The right to store is taken away from pages that were written, and given back.
///
/// Rule: as above. Taken out by `47-no-mark-of-dirt.patch`.
#[test]
fn race_47_dirt_outlives_the_right_to_store() {
    for hardware_dirty in [false, true] {
        let machine = FakeMachine::new(Setup {
            hardware_dirty,
            ..Setup::default()
        });
        let vm = vm(&machine);
        fill(&machine, &vm, |index| index, |_| Attributes::RAM);
        for index in [8, 9, 10] {
            store(&machine, &vm, index, 1);
        }
        vm.protect(region(), Rights::READ).unwrap();
        let [first, second, third] =
            [8, 9, 10].map(|index| IpaRange::entry(page(index), Level::L3));
        vm.unmap(first, |leaf| assert!(leaf.descriptor.is_written()))
            .unwrap();
        vm.protect(second, Rights::ALL).unwrap();
        // The right is back, and the next store is noticed all the same.
        let clean = !vm.query(page(9)).unwrap().descriptor.lets_stores_through();
        assert!(clean);
        assert_eq!(dirty(&vm), [second, third]);
    }
}

/// Stores that do not take place: not allowed, or without a frame for the split they need.
///
/// Rule: a leaf is marked when the store can no longer fail. Taken out by `47-marked-too-early.patch`.
#[test]
fn race_47_a_store_that_fails_leaves_no_dirt() {
    let machine = machine();
    let vm = vm(&machine);
    let frames = machine.data().allocate(Level::L2).unwrap();
    vm.map_block(REGION, Level::L2, frames, Attributes::RAM, false)
        .unwrap();
    assert_eq!(
        machine.enter(&vm).write(page(3), 1),
        Err(Fault::Permission(Level::L2))
    );
    let answer = vm.resolve_fault(page(3), Access::Write, true);
    assert_eq!(answer, Resolution::MustSplit(Level::L2));
    machine.frames().fail_nth(1);
    assert_eq!(
        vm.split_block(page(3), Level::L2),
        Err(SplitError::OutOfFrames)
    );
    assert_eq!(dirty(&vm), []);
    vm.protect(region(), Rights::READ).unwrap();
    let answer = vm.resolve_fault(page(3), Access::Write, true);
    assert!(matches!(answer, Resolution::Denied));
    assert_eq!(dirty(&vm), []);
}

/// Two, or sixteen, root tables side by side, with a page at both ends of each.
///
/// Rule: what goes over all addresses goes over all root tables. Taken out by
/// `45-one-root-table.patch`.
#[test]
fn race_45_every_root_table_is_reached() {
    for (ipa_bits, start) in [(40, Level::L1), (34, Level::L2)] {
        for destroy in [false, true] {
            let machine = FakeMachine::new(Setup {
                ipa_bits,
                start,
                table_frames: 80,
                ..Setup::default()
            });
            let vm = vm(&machine);
            let order = vm.geometry().root_order();
            let root = 1u64 << (ipa_bits - order);
            let ends = (0..1 << order).flat_map(|n| [n * root, (n + 1) * root - PAGE_SIZE]);
            let ends: Vec<Ipa> = ends.map(Ipa::new).collect();
            let guests = [machine.enter_on(0, &vm), machine.enter_on(1, &vm)];
            for &ipa in &ends {
                let pa = machine.data().allocate(Level::L3).unwrap();
                vm.map_page(ipa, pa, Attributes::RAM, true).unwrap();
                guests
                    .iter()
                    .for_each(|guest| guest.write(ipa, ipa.get()).unwrap());
            }
            let mut seen = Vec::new();
            vm.walk(vm.geometry().range(), |entry| {
                if entry.level == Level::L3 {
                    seen.push(entry.ipa);
                }
            });
            assert_eq!(seen, ends);
            let mut taken = Vec::new();
            if destroy {
                vm.destroy(|leaf| taken.push(leaf.ipa));
            } else {
                vm.unmap(vm.geometry().range(), |leaf| taken.push(leaf.ipa))
                    .unwrap();
                vm.free_empty_tables(vm.geometry().range());
                assert_eq!(machine.frames().outstanding(), 1 << order);
                vm.destroy(|leaf| panic!("{leaf:?} was left"));
            }
            assert_eq!(taken, ends);
            assert_eq!(machine.frames().outstanding(), 0);
            for cpu in 0..2 {
                assert_eq!(
                    machine.tlb().cached(cpu),
                    0,
                    "half of it was not invalidated"
                );
            }
        }
    }
}
