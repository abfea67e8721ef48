//! Memory that fails: a page that cannot be read is not moved, nor collapsed, and stays as it was.

use crate::support::region::{REGION, dirty, fill, machine, page, store, vm};
use stage2::fake::{Copier, FakeMachine};
use stage2::{
    Attributes, CollapseError, CopyPages, CopyPlan, ENTRIES, EntryKind, GuestPage, Ipa, IpaRange,
    Level, MigrateError, Stage2, Unmapped, Unreadable,
};

const PLAN: CopyPlan = CopyPlan {
    max_empty: 0,
    max_hot: 4,
    rounds: 1,
};

/// Copies, until one copy fails.
struct Failing<'m> {
    copier: Copier<'m>,
    copies: usize,
    fails: usize,
    /// Done before each copy.
    meanwhile: Box<dyn FnMut(usize) + 'm>,
}

impl<'m> Failing<'m> {
    fn new(machine: &'m FakeMachine, fails: usize) -> Self {
        Self {
            copier: machine.data().copier(),
            copies: 0,
            fails,
            meanwhile: Box::new(|_| {}),
        }
    }
}

impl CopyPages for Failing<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.copies += 1;
        (self.meanwhile)(self.copies);
        if self.copies == self.fails {
            return Err(Unreadable);
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

fn level_at(vm: &Stage2<&FakeMachine>, ipa: Ipa) -> Level {
    let entry = vm.query(ipa).unwrap();
    assert!(matches!(entry.kind(), EntryKind::Leaf(_)), "{entry:?}");
    entry.level
}

/// A page of which the first copy fails, or the last, or the one that is made with the region taken
/// away.
#[test]
fn a_region_of_which_a_page_cannot_be_read_is_not_collapsed() {
    for fails in [1, 2, ENTRIES, ENTRIES + 1] {
        let machine = machine();
        let vm = vm(&machine);
        fill(&machine, &vm, |index| index, |_| Attributes::RAM);
        for index in [0, 7, ENTRIES - 1] {
            store(&machine, &vm, index, index as u64 + 1);
        }
        let to = machine.data().allocate(Level::L2).unwrap();
        let mut contents = Failing::new(&machine, fails);
        let (machine_of, vm_of) = (&machine, &vm);
        contents.meanwhile = Box::new(move |copies| {
            // Copied already: it is copied once more at the end, where the guest is held up.
            if copies == ENTRIES {
                store(machine_of, vm_of, 7, 8);
            }
        });
        let refused = vm.collapse_by_copying(REGION, to, PLAN, &mut contents);
        let refused = refused.expect_err("a page cannot be read");
        assert_eq!(refused.reason, CollapseError::Unreadable, "{fails}");
        assert_eq!(level_at(&vm, REGION), Level::L3);
        let guest = machine.enter(&vm);
        for index in 0..ENTRIES {
            let written = matches!(index, 0 | 7 | 511);
            let value = if written { index as u64 + 1 } else { 0 };
            assert_eq!(
                guest.read(page(index)),
                Ok(value),
                "page {index} of {fails}"
            );
        }
        // What was written is known still, and the region is collapsed once it can be read.
        let written = [0, 7, ENTRIES - 1].map(|index| IpaRange::entry(page(index), Level::L3));
        assert_eq!(dirty(&vm), written, "{fails}");
        let mut contents = Failing::new(&machine, 0);
        let result = vm.collapse_by_copying(REGION, refused.frame, PLAN, &mut contents);
        assert_eq!(result, Ok(()));
        assert_eq!(level_at(&vm, REGION), Level::L2);
    }
}

#[test]
fn a_page_that_cannot_be_read_is_not_moved() {
    let machine = machine();
    let vm = vm(&machine);
    fill(&machine, &vm, |index| index, |_| Attributes::RAM);
    store(&machine, &vm, 3, 5);
    let entry = vm.query(page(3)).unwrap();
    let EntryKind::Leaf(from) = entry.kind() else {
        panic!("{entry:?}")
    };
    let to = machine.data().allocate(Level::L3).unwrap();
    let refused = vm.migrate_page(page(3), from, to, &mut Failing::new(&machine, 1));
    let refused = refused.expect_err("the page cannot be read");
    assert_eq!(refused.reason, MigrateError::Unreadable);
    assert_eq!(vm.query(page(3)), Some(entry));
    assert_eq!(machine.enter(&vm).read(page(3)), Ok(5));
    let moved = vm.migrate_page(page(3), from, refused.frame, &mut Failing::new(&machine, 0));
    assert_eq!(moved, Ok(()));
    assert_eq!(machine.enter(&vm).read(page(3)), Ok(5));
}
