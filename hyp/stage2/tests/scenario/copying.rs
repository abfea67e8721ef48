//! Races of a collapse by copying that need no second thread: things happen between the copies of
//! two pages. Each test says which rule it is for and which patch in `tests/mutations` takes that
//! out.

use crate::support::region::{REGION, dirty, fill, machine, page, store, vm};
use stage2::fake::{Copier, FakeMachine};
use stage2::{
    Attributes, CollapseError, CopyPages, CopyPlan, DirtyState, ENTRIES, GuestPage, IpaRange,
    Level, PAGE_SIZE, Pa, Stage2, Unmapped, Unreadable,
};

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

impl CopyPages for Storing<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.copies += 1;
        if self.copies == ENTRIES {
            store(self.machine, self.vm, 200, 2);
            store(self.machine, self.vm, 201, 2);
        }
        self.copier.copy(from, to)
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.copier.release(leaf);
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
    let result = vm.collapse_by_copying(REGION, to, plan, &mut contents);
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

impl<F: FnMut(usize)> CopyPages for Meanwhile<'_, F> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.copier.copy(from, to)?;
        self.from.push(from.pa());
        self.done();
        Ok(())
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
        self.done();
    }

    fn release(&mut self, leaf: Unmapped) {
        self.copier.release(leaf);
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
    let result = vm.collapse_by_copying(REGION, to, plan, &mut contents);
    (result.map_err(|refused| refused.reason), contents.from)
}

fn unmap(machine: &FakeMachine, vm: &Stage2<&FakeMachine>, index: usize) {
    let range = IpaRange::entry(page(index), Level::L3);
    let release = |leaf: Unmapped| machine.data().release(leaf.frame);
    vm.unmap(range, release).unwrap();
}

/// The guest gives pages back that were copied already: they are zeroed in the next round.
///
/// Rule: the rounds go by what the end goes by. Taken out by
/// `17-unmapped-pages-left-to-the-end.patch`.
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
/// Rule: a page is zero when its last copy was. Taken out by
/// `17-copied-still-taken-for-zeroed.patch`.
#[test]
fn race_17_a_page_that_was_copied_is_not_zero() {
    let machine = machine();
    let vm = vm(&machine);
    fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    unmap(&machine, &vm, 5);
    let fresh = machine.data().allocate(Level::L3).unwrap();
    machine.data().write(fresh.pa(), 7);
    let mut fresh = Some(fresh);
    let (result, _) = collapse_meanwhile(&machine, &vm, 1, |pages| {
        if pages == ENTRIES {
            let fresh = fresh.take().unwrap();
            vm.map_page(page(5), fresh, Attributes::RAM, DirtyState::Dirty)
                .unwrap();
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
    let (registers, mut device) = (device.pa(), Some(device));
    let (result, from) = collapse_meanwhile(&machine, &vm, 1, |pages| {
        if pages == 1 {
            unmap(&machine, &vm, 9);
            let device = device.take().unwrap();
            vm.map_page(page(9), device, Attributes::DEVICE, DirtyState::Dirty)
                .unwrap();
        }
    });
    assert_eq!(result, Err(CollapseError::Pinned));
    assert!(!from.contains(&registers));
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
    let result = vm.collapse_by_copying(REGION, to, plan, &mut contents);
    assert_eq!(result.unwrap_err().reason, CollapseError::Hot);
    let expected = [5, 200, 201].map(|index| IpaRange::entry(page(index), Level::L3));
    assert_eq!(
        dirty(&vm),
        expected,
        "nothing lost, and nothing that was only copied"
    );
    assert_eq!(dirty(&vm), []);
}
