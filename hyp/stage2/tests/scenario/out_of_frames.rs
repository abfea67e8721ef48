//! Every allocation that can fail is made to: the operation says so, the guest's memory is as it
//! was, nothing is lost, and the same operation succeeds when there is a frame again.

use crate::support::model::{Op, Pages, Place, Shape, Vm};
use stage2::fake::{FakeMachine, Setup};
use stage2::{
    Access, Attributes, DirtyState, Environment, Ipa, IpaRange, Level, MapError, OutOfFrames,
    PAGE_SIZE, Rights, SplitError, Stage2,
};

/// Four levels: the most tables that can be missing.
const SHAPE: Shape = Shape {
    ipa_bits: 48,
    start: Level::L0,
    hardware_dirty: false,
    direct_size_change: false,
    force_write_back: false,
    execute_never_by_level: true,
};

const BLOCK: Op = Op::MapBlock(0, Attributes::RAM, true);
const NEXT_BLOCK: Op = Op::MapBlock(1, Attributes::RAM, false);

/// Pages from the middle of one region to the middle of the next.
const MIDDLE: Pages = Pages {
    from: (0, 100),
    count: 500,
};

/// Does `op` after `before`, with each of its allocations failing in turn, and returns how many
/// there are.
fn fail_each(before: &[Op], op: &Op) -> u64 {
    for n in 1.. {
        let vm = Vm::new(SHAPE);
        for op in before {
            vm.apply_failing(op, 0);
        }
        let failed = vm.apply_failing(op, n);
        vm.check();
        // And now with frames.
        vm.apply_failing(op, 0);
        vm.check();
        if !failed {
            vm.destroy();
            return n - 1;
        }
        vm.finish();
    }
    unreachable!()
}

fn populate(adjacent: bool) -> Op {
    Op::Populate {
        region: 0,
        attributes: Attributes::RAM,
        written: true,
        adjacent,
        holes: Vec::new(),
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn mapping_needs_a_table_a_level() {
    let page = Op::MapPage((0, 0), Attributes::RAM, true);
    assert_eq!(fail_each(&[], &page), 3);
    assert_eq!(
        fail_each(&[BLOCK], &Op::MapPage((1, 0), Attributes::RAM, true)),
        1
    );
    assert_eq!(
        fail_each(
            std::slice::from_ref(&page),
            &Op::MapPage((0, 1), Attributes::RAM, true)
        ),
        0
    );
    assert_eq!(fail_each(&[], &BLOCK), 2);
    // Three for the first region's, one for the next: without that the first is mapped in part.
    let pages = Op::MapPages(MIDDLE, Attributes::RAM, true);
    assert_eq!(fail_each(&[], &pages), 4);
    assert_eq!(fail_each(&[page, BLOCK], &pages), 1);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn changing_part_of_a_block_needs_a_table_an_edge() {
    let before = [BLOCK, NEXT_BLOCK];
    assert_eq!(fail_each(&before, &Op::Unmap(MIDDLE)), 2);
    assert_eq!(fail_each(&before, &Op::Protect(MIDDLE, Rights::READ)), 2);
    let whole = Pages {
        from: (0, 0),
        count: 1024,
    };
    assert_eq!(fail_each(&before, &Op::Unmap(whole)), 0);
    assert_eq!(fail_each(&before, &Op::Protect(whole, Rights::READ)), 0);
    assert_eq!(fail_each(&before, &Op::WriteProtect(MIDDLE)), 0);
    assert_eq!(fail_each(&before, &Op::TrapStores(MIDDLE)), 0);
    assert_eq!(fail_each(&before, &Op::CollectDirty(MIDDLE)), 0);
    assert_eq!(fail_each(&before, &Op::Age(MIDDLE)), 0);
    assert_eq!(fail_each(&before, &Op::FreeEmptyTables(whole)), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn splitting_needs_a_table_for_the_parts() {
    assert_eq!(fail_each(&[BLOCK], &Op::Split(0)), 1);
    // A store to a block under dirty logging.
    let store = Op::Access {
        cpu: 1,
        place: (1, 3),
        access: Access::Write,
        split_blocks: true,
    };
    // It asks a second time before it gives up.
    assert_eq!(fail_each(&[NEXT_BLOCK], &store), 0);
    // Three for the root and the way to the block.
    let machine = machine(3, 512);
    let stage2 = Stage2::new(&machine, machine.config(1)).unwrap();
    let (block, ipa) = (
        machine.data().allocate(Level::L2).unwrap(),
        Ipa::new(0x3000),
    );
    let mapped = stage2.map_block(Ipa::new(0), block, Attributes::RAM, DirtyState::Clean);
    assert_eq!((mapped, machine.frames().outstanding()), (Ok(()), 3));
    let split = stage2.split_for_store(ipa, Level::L2);
    assert_eq!(split, Err(SplitError::OutOfFrames));
    assert_eq!(stage2.query(ipa).unwrap().level, Level::L2);
    machine.leave_all();
    stage2.destroy(|_| {}).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn moving_and_looking_need_nothing() {
    let place: Place = (0, 9);
    let look = Op::Prefetch {
        cpu: 1,
        pages: MIDDLE,
    };
    for op in [Op::Move(place), Op::MoveFromElsewhere(place), look] {
        assert_eq!(fail_each(&[populate(false)], &op), 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn collapsing_needs_a_deposit_and_what_undoes_it_nothing() {
    let by_copying = Op::CollapseByCopying {
        region: 0,
        max_empty: 0,
        max_hot: 0,
        rounds: 0,
        meanwhile: Vec::new(),
    };
    for (before, collapse) in [
        (populate(true), Op::CollapseInPlace(0)),
        (populate(false), by_copying),
    ] {
        assert_eq!(fail_each(std::slice::from_ref(&before), &collapse), 1);
        let again = [before.clone(), collapse.clone(), Op::Split(0)];
        assert_eq!(fail_each(&again, &collapse), 0);
        // The collapsed table was kept for this.
        let before = [before, collapse];
        assert_eq!(fail_each(&before, &Op::Split(0)), 0);
        let part = Pages {
            from: (0, 1),
            count: 7,
        };
        assert_eq!(fail_each(&before, &Op::Unmap(part)), 0);
        assert_eq!(fail_each(&before, &Op::Protect(part, Rights::READ)), 0);
    }
}

/// A machine with this many frames for tables, and 1 GiB and a little of guest memory.
fn machine(table_frames: usize, data_pages: usize) -> FakeMachine {
    FakeMachine::new(Setup {
        table_frames,
        data_pages,
        ipa_bits: 40,
        ..Setup::default()
    })
}

#[test]
fn a_vm_without_a_root_is_none() {
    let machine = machine(4, 1);
    machine.frames().fail_nth(1);
    assert!(matches!(
        Stage2::new(&machine, machine.config(1)),
        Err(OutOfFrames)
    ));
    assert_eq!(machine.frames().outstanding(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn a_page_out_of_a_gigabyte_needs_two_tables_an_edge() {
    let giga = Level::L1.size();
    for n in 1.. {
        let machine = machine(8, (giga / PAGE_SIZE) as usize);
        let stage2 = Stage2::new(&machine, machine.config(1)).unwrap();
        let pa = machine.data().allocate(Level::L1).unwrap();
        stage2
            .map_block(Ipa::new(giga), pa, Attributes::RAM, DirtyState::Dirty)
            .unwrap();
        machine.frames().fail_nth(n);
        let middle = IpaRange::new(Ipa::new(giga + 0x5000), Ipa::new(giga + 0x40_1000)).unwrap();
        let mut unmapped = 0;
        let result = stage2.unmap(middle, |leaf| unmapped += leaf.level().size());
        machine.frames().fail_nth(0);
        let guest = machine.enter(&stage2);
        assert!(guest.read(Ipa::new(giga)).is_ok());
        if result.is_ok() {
            assert_eq!(unmapped, middle.pages() * PAGE_SIZE);
            // The table below the gigabyte, and one below each of the blocks at the ends.
            assert_eq!(n, 4);
            return;
        }
        assert_eq!((result, unmapped), (Err(OutOfFrames), 0));
        assert!(guest.read(Ipa::new(giga + 0x5000)).is_ok());
        machine.leave_all();
        stage2.destroy(|_| {}).unwrap();
        assert_eq!(machine.frames().outstanding(), 0);
    }
}

/// Not one failure, but the end: nothing more can be had until something is given back.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn when_all_is_used_up_emptied_tables_help() {
    // Two for the root, two for the first page, and one that is not enough for the second.
    let machine = machine(5, 16);
    let stage2 = Stage2::new(&machine, machine.config(1)).unwrap();
    let [first, second, block] = [0, 1 << 39, Level::L2.size()].map(Ipa::new);
    let page = || machine.data().allocate(Level::L3).unwrap();
    stage2
        .map_page(first, page(), Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    for _ in 0..3 {
        let refused = stage2
            .map_page(second, page(), Attributes::RAM, DirtyState::Dirty)
            .unwrap_err();
        assert_eq!(refused.reason, MapError::OutOfFrames);
        machine.data().release(refused.frame);
    }
    assert_eq!(
        stage2.split_block(first, Level::L2),
        Err(SplitError::NoBlock)
    );
    assert_eq!(machine.frames().outstanding(), 5);
    let everything = stage2.geometry().range();
    assert_eq!(stage2.free_empty_tables(everything), 1);
    stage2.unmap(everything, |_| {}).unwrap();
    assert_eq!(stage2.free_empty_tables(everything), 2);
    stage2
        .map_page(second, page(), Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    let there = stage2.query(second);
    let result = stage2.map_page(block, page(), Attributes::RAM, DirtyState::Dirty);
    assert_eq!(result.unwrap_err().reason, MapError::OutOfFrames);
    assert_eq!(stage2.query(second), there);
    machine.leave_all();
    stage2.destroy(|_| {}).unwrap();
    assert_eq!(machine.frames().outstanding(), 0);
}
