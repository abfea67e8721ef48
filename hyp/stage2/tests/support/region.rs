//! One region of 2 MiB of a VM on a fake machine, for tests of what happens to its pages.

use stage2::fake::{FakeData, FakeMachine, Setup};
use stage2::{
    Access, Attributes, DirtyGranule, DirtyState, ENTRIES, Ipa, IpaRange, Level, PAGE_SIZE, Pa,
    Resolution, Stage2,
};

pub(crate) const REGION: Ipa = Ipa::new(0x4000_0000);

pub(crate) fn machine() -> FakeMachine {
    FakeMachine::new(Setup::default())
}

pub(crate) fn vm(machine: &FakeMachine) -> Stage2<&FakeMachine> {
    Stage2::new(machine, machine.config(1)).unwrap()
}

pub(crate) fn page(index: usize) -> Ipa {
    REGION.offset(index as u64 * PAGE_SIZE)
}

pub(crate) fn region() -> IpaRange {
    IpaRange::entry(REGION, Level::L2)
}

/// Maps all pages of the region, each to the frame of a 2 MiB frame that `order` says, and returns
/// where that begins. `attributes` are those of each page.
pub(crate) fn fill(
    machine: &FakeMachine,
    vm: &Stage2<&FakeMachine>,
    order: impl Fn(usize) -> usize,
    attributes: impl Fn(usize) -> Attributes,
) -> Pa {
    let frames = machine.data().allocate(Level::L2).unwrap().into_pa();
    for index in 0..ENTRIES {
        let pa = frames.offset(order(index) as u64 * PAGE_SIZE);
        machine.data().write(pa, 0);
        let frame = FakeData::frame(pa, Level::L3);
        vm.map_page(page(index), frame, attributes(index), DirtyState::Clean)
            .unwrap();
    }
    frames
}

pub(crate) fn dirty(vm: &Stage2<&FakeMachine>) -> Vec<IpaRange> {
    let mut dirty = Vec::new();
    vm.collect_dirty(region(), |range| dirty.push(range));
    dirty
}

/// A store of the guest, with the faults that it takes.
pub(crate) fn store(machine: &FakeMachine, vm: &Stage2<&FakeMachine>, index: usize, value: u64) {
    let guest = machine.enter(vm);
    while guest.write(page(index), value).is_err() {
        let answer = vm.resolve_fault(page(index), Access::Write, DirtyGranule::Leaf);
        assert_eq!(answer, Resolution::Resolved);
    }
}
