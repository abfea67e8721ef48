//! Races that need no second thread: what a collapse, a split or a failed change must keep of what
//! was there. Each test says which rule it is for and which patch in `tests/mutations` takes that
//! out.

use crate::support::dirty_state;
use crate::support::region::{REGION, dirty, fill, machine, page, region, store, vm};
use stage2::fake::{FakeMachine, Fault, Setup};
use stage2::lookup::Changed;
use stage2::{
    Access, Attributes, CollapseError, CopyPlan, DirtyGranule, DirtyState, ENTRIES, Environment,
    Execute, GuestFrame, Ipa, IpaRange, Level, MemoryType, PAGE_SIZE, Resolution, Rights,
    SplitError, Stage2,
};

const ALL_COPIED: CopyPlan = CopyPlan {
    max_empty: 0,
    max_hot: ENTRIES,
    rounds: 0,
};

/// Collapses in both ways; each must fail alike.
fn refused(machine: &FakeMachine, vm: &Stage2<&FakeMachine>) -> CollapseError {
    let to = machine.data().allocate(Level::L2).unwrap();
    let copied = vm
        .collapse_by_copying(REGION, to, ALL_COPIED, &mut machine.data().copier())
        .expect_err("rights, attributes and frames must be kept");
    machine.data().release(copied.frame);
    assert_eq!(vm.collapse_in_place(REGION, Level::L2), Err(copied.reason));
    copied.reason
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

/// A page that must keep its frame, or that is a device's registers, stands among others, or all
/// are such pages.
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
                let copied = vm.collapse_by_copying(REGION, to, ALL_COPIED, &mut copier);
                copied.map_err(|refused| refused.reason)
            } else {
                vm.collapse_in_place(REGION, Level::L2)
            };
            assert_eq!(collapsed, Ok(()));
            assert_eq!(dirty(&vm), written.map(|_| region()).as_slice());
        }
    }
}

/// The frames of 512 pages are not those of a block: out of order, or in order from a wrong
/// address.
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
    let frames = [0, 1].map(|_| machine.data().allocate(Level::L2).unwrap());
    let pages = frames.into_iter().flat_map(GuestFrame::into_parts);
    for (index, frame) in pages.skip(1).take(ENTRIES).enumerate() {
        vm.map_page(page(index), frame, Attributes::RAM, DirtyState::Clean)
            .unwrap();
    }
    let result = vm.collapse_in_place(REGION, Level::L2);
    assert_eq!(result, Err(CollapseError::Scattered));
}

/// A block that was made of pages where they are is split: the table that it takes back has entries
/// from before.
///
/// Rule: they are taken as they are only if that is what the block's parts are now. Taken out by
/// `26-parts-taken-as-they-are.patch` and `26-marks-of-the-first-part.patch`.
#[test]
fn race_26_parts_that_were_kept_are_as_their_block() {
    for written in [None, Some(0), Some(77), Some(ENTRIES - 1)] {
        for protected in [false, true] {
            let machine = machine();
            let vm = vm(&machine);
            fill(&machine, &vm, |index| index, |_| Attributes::RAM);
            if let Some(index) = written {
                store(&machine, &vm, index, 1);
            }
            let pages: Vec<_> = (0..ENTRIES)
                .map(|index| vm.query(page(index)).unwrap().descriptor.output())
                .collect();
            assert_eq!(vm.collapse_in_place(REGION, Level::L2), Ok(()));
            if protected {
                vm.protect(region(), Rights::READ).unwrap();
            }
            let block = vm.query(REGION).unwrap().descriptor;
            vm.synchronize();
            assert_eq!(vm.split_block(REGION, Level::L2), Ok(()));
            for (index, pa) in pages.into_iter().enumerate() {
                let part = vm.query(page(index)).unwrap();
                assert_eq!((part.level, part.descriptor.output()), (Level::L3, pa));
                assert_eq!(part.descriptor.rights(), block.rights());
                assert_eq!(part.descriptor.is_accessed(), block.is_accessed());
                assert_eq!(part.descriptor.is_written(), block.is_written());
            }
        }
    }
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
            (MemoryType::Normal, false),
            (MemoryType::Normal, true),
            (MemoryType::Device, true),
        ] {
            for (accessed, written) in [(false, false), (true, rights.write)] {
                let machine = machine();
                let vm = vm(&machine);
                let attributes = Attributes {
                    rights,
                    memory,
                    pinned,
                };
                let block = machine.data().allocate(Level::L2).unwrap();
                let frames = block.pa();
                vm.map_block(REGION, block, attributes, dirty_state(written))
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

/// Who holds a child's lock wants that of its parent, which another may hold who waits for the
/// child's.
///
/// Rule: against the order only by trying; and what was locked so is checked as ever. Not for the
/// model checker, whose own try-lock waits.
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
        assert!(parent().try_lock().is_none(), "the parent's lock is held");
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
/// Rule: a leaf is marked when the store can no longer fail. Taken out by
/// `47-marked-too-early.patch`.
#[test]
fn race_47_a_store_that_fails_leaves_no_dirt() {
    let machine = machine();
    let vm = vm(&machine);
    let frames = machine.data().allocate(Level::L2).unwrap();
    vm.map_block(REGION, frames, Attributes::RAM, DirtyState::Clean)
        .unwrap();
    assert_eq!(
        machine.enter(&vm).write(page(3), 1),
        Err(Fault::Permission(Level::L2))
    );
    let answer = vm.resolve_fault(page(3), Access::Write, DirtyGranule::Page);
    assert_eq!(answer, Resolution::MustSplit(Level::L2));
    machine.frames().fail_nth(1);
    assert_eq!(
        vm.split_block(page(3), Level::L2),
        Err(SplitError::OutOfFrames)
    );
    assert_eq!(dirty(&vm), []);
    vm.protect(region(), Rights::READ).unwrap();
    let answer = vm.resolve_fault(page(3), Access::Write, DirtyGranule::Page);
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
                vm.map_page(ipa, pa, Attributes::RAM, DirtyState::Dirty)
                    .unwrap();
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
            machine.leave_all();
            if destroy {
                vm.destroy(|leaf| taken.push(leaf.ipa)).unwrap();
            } else {
                vm.unmap(vm.geometry().range(), |leaf| taken.push(leaf.ipa))
                    .unwrap();
                vm.free_empty_tables(vm.geometry().range());
                assert_eq!(machine.frames().outstanding(), 1 << order);
                vm.destroy(|leaf| panic!("{leaf:?} was left")).unwrap();
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

/// A guest touches memory of which nothing is mapped, on a machine that was just switched on.
///
/// Rule: each CPU empties its TLBs when it comes up. Taken out by
/// `59-tlbs-as-they-are-at-reset.patch`.
#[test]
fn race_59_nothing_is_translated_by_what_a_reset_has_left() {
    let machine = machine();
    let vm = vm(&machine);
    for cpu in 0..2 {
        let guest = machine.enter_on(cpu, &vm);
        for ipa in [Ipa::new(0), Ipa::new(Level::L1.size())] {
            assert_eq!(guest.read(ipa), Err(Fault::Translation(Level::L1)));
        }
    }
}

/// There are as many VMIDs as CPUs: one that runs would have to share its number with another VM.
///
/// Rule: that is refused when the first VM is activated.
#[test]
#[should_panic(expected = "4 VMIDs are too few for 3 CPUs")]
fn race_52_too_few_vmids() {
    let machine = FakeMachine::new(Setup {
        cpus: 3,
        vmid_bits: 2,
        ..Setup::default()
    });
    machine.enter(&vm(&machine));
}
