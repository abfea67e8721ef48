//! What the statistics say of each operation: how often it happened, and what it cost.
#![forbid(unsafe_code)]

use stage2::fake::{FakeMachine, Setup};
use stage2::stats::Counter;
use stage2::{
    Access, Attributes, CollapseError, CopyPlan, DirtyGranule, DirtyState, Environment, Ipa,
    IpaRange, Level, MigrateError, PAGE_SIZE, Pa, Resolution, Stage2,
};

type Vm<'m> = Stage2<&'m FakeMachine>;

const REGION: Ipa = Ipa::new(0x4000_0000);

fn page(index: u64) -> Ipa {
    REGION.offset(index * PAGE_SIZE)
}

fn region() -> IpaRange {
    IpaRange::entry(REGION, Level::L2)
}

/// What `operation` returns, and what of `wanted` it has counted.
fn counted<R, const N: usize>(
    machine: &FakeMachine,
    wanted: [Counter; N],
    operation: impl FnOnce() -> R,
) -> (R, [u64; N]) {
    let before = wanted.map(|counter| machine.cpus().counted(counter));
    let result = operation();
    let after = wanted.map(|counter| machine.cpus().counted(counter));
    let counts = std::array::from_fn(|index| after[index] - before[index]);
    (result, counts)
}

fn map(machine: &FakeMachine, vm: &Vm<'_>, ipa: Ipa) -> Pa {
    let frame = machine.data().allocate(Level::L3).unwrap();
    let pa = frame.pa();
    vm.map_page(ipa, frame, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    pa
}

fn map_block(machine: &FakeMachine, vm: &Vm<'_>) {
    let block = machine.data().allocate(Level::L2).unwrap();
    vm.map_block(REGION, block, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
}

fn unmap(machine: &FakeMachine, vm: &Vm<'_>) {
    vm.unmap(region(), |leaf| machine.data().release(leaf.frame))
        .unwrap();
}

#[test]
fn leaves_and_tables_are_counted_as_they_come_and_go() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let wanted = [
        Counter::PagesMapped,
        Counter::BlocksMapped,
        Counter::TablesInstalled,
        Counter::LeavesUnmapped,
        Counter::TablesDetached,
        Counter::TablesFreed,
    ];
    let counts = |operation: &dyn Fn()| counted(&machine, wanted, operation).1;
    let map = |index| _ = map(&machine, &vm, page(index));
    assert_eq!(counts(&|| map(0)), [1, 0, 2, 0, 0, 0]);
    assert_eq!(counts(&|| map(1)), [1, 0, 0, 0, 0, 0]);
    assert_eq!(counts(&|| unmap(&machine, &vm)), [0, 0, 0, 2, 0, 0]);
    let free = || assert_eq!(vm.free_empty_tables(region()), 1);
    assert_eq!(counts(&free), [0, 0, 0, 0, 1, 1]);
    assert_eq!(counts(&|| map_block(&machine, &vm)), [0, 1, 0, 0, 0, 0]);
    assert_eq!(counts(&|| unmap(&machine, &vm)), [0, 0, 0, 1, 0, 0]);
}

/// A fault is counted as the mark that it sets, or as another CPU's.
#[test]
fn faults_are_counted_by_what_was_missing() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let counts = |access| {
        let wanted = [
            Counter::AccessFaults,
            Counter::WriteFaults,
            Counter::SpuriousFaults,
        ];
        let fault = || vm.resolve_fault(page(0), access, DirtyGranule::Leaf);
        let (answer, counts) = counted(&machine, wanted, fault);
        assert_eq!(answer, Resolution::Resolved);
        counts
    };
    map(&machine, &vm, page(0));
    vm.age(region(), |_, _| {});
    assert_eq!(counts(Access::Read), [1, 0, 0]);
    assert_eq!(counts(Access::Read), [0, 0, 1]);
    vm.write_protect(region());
    assert_eq!(counts(Access::Write), [0, 1, 0]);
    assert_eq!(counts(Access::Write), [0, 0, 1]);
}

#[test]
fn changes_of_size_are_counted_done_or_given_up() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let wanted = [
        Counter::Splits,
        Counter::CollapsesInPlace,
        Counter::CollapsesCopied,
        Counter::CollapsesAborted,
        Counter::TablesDetached,
    ];
    map_block(&machine, &vm);
    let split = || vm.split_block(REGION, Level::L2);
    let split = || counted(&machine, wanted, split);
    let collapse = || vm.collapse_in_place(REGION, Level::L2);
    let collapse = || counted(&machine, wanted, collapse);
    assert_eq!(split(), (Ok(()), [1, 0, 0, 0, 0]));
    assert_eq!(collapse(), (Ok(()), [0, 1, 0, 0, 1]));
    let (error, counts) = collapse();
    assert!(matches!(error, Err(CollapseError::NoTable(_))));
    assert_eq!(counts, [0, 0, 0, 1, 0]);
    assert_eq!(split(), (Ok(()), [1, 0, 0, 0, 0]));
    let plan = CopyPlan {
        max_empty: 0,
        max_hot: 0,
        rounds: 0,
    };
    let to = machine.data().allocate(Level::L2).unwrap();
    let copy = || vm.collapse_by_copying(REGION, to, plan, &mut machine.data().copier());
    let copied = counted(&machine, wanted, copy);
    assert_eq!(copied, (Ok(()), [0, 0, 1, 0, 1]));
}

/// Also where the split is for a store, and would take a new table if there were none.
#[test]
fn a_block_is_split_into_the_table_that_was_kept_for_it() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    map_block(&machine, &vm);
    vm.split_block(REGION, Level::L2).unwrap();
    vm.collapse_in_place(REGION, Level::L2).unwrap();
    vm.write_protect(region());
    let tables = machine.frames().outstanding();
    vm.split_for_store(REGION, Level::L2).unwrap();
    assert_eq!(machine.frames().outstanding(), tables);
}

#[test]
fn moves_are_counted_done_or_not_begun() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let wanted = [Counter::Migrations, Counter::MigrationsAborted];
    let from = map(&machine, &vm, page(0));
    let migrate = || {
        let to = machine.data().allocate(Level::L3).unwrap();
        let mut copier = machine.data().copier();
        let moved = vm.migrate_page(page(0), from, to, &mut copier);
        moved.map_err(|refused| refused.reason)
    };
    assert_eq!(counted(&machine, wanted, migrate), (Ok(()), [1, 0]));
    let (again, counts) = counted(&machine, wanted, migrate);
    assert_eq!((again, counts), (Err(MigrateError::Changed), [0, 1]));
}

/// One flush does for all that was changed under one hold of a table's lock; a VM that has not run
/// needs none.
#[test]
fn flushes_are_counted_where_there_was_something_to_flush() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let wanted = [Counter::Invalidations];
    let flushes = |operation: &dyn Fn()| counted(&machine, wanted, operation).1[0];
    let fill = || (0..5).for_each(|index| _ = map(&machine, &vm, page(index)));
    assert_eq!(flushes(&fill), 0);
    assert_eq!(flushes(&|| unmap(&machine, &vm)), 0);
    let _guest = machine.enter(&vm);
    assert_eq!(flushes(&fill), 0);
    assert_eq!(flushes(&|| vm.write_protect(region())), 1);
    assert_eq!(flushes(&|| vm.write_protect(region())), 0);
    assert_eq!(flushes(&|| unmap(&machine, &vm)), 1);
}

/// A lookup that ends without a table is counted by what it has met.
#[test]
fn lookups_are_counted_by_what_was_in_the_way() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let wanted = [Counter::AbsentEmpty, Counter::AbsentBlock];
    let look = || {
        let reader = vm.read();
        reader.lock(page(0), Level::L3).unwrap().err()
    };
    let counts = || counted(&machine, wanted, look).1.map(|n| n > 0);
    assert_eq!(counts(), [true, false]);
    map_block(&machine, &vm);
    assert_eq!(counts(), [false, true]);
    unmap(&machine, &vm);
    map(&machine, &vm, page(0));
    assert_eq!(counts(), [false, false]);
}
