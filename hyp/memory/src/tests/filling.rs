//! Reservations that compaction fills up.

use crate::GuestMemory;
use crate::compaction::{Compactor, Policy};
use crate::testing::{Host, guest, level_at, machine, page, store};
use bootargs::HugePolicy;
use frames::LinearMap;
use stage2::{EntryKind, Ipa, Level};

const POLICY: Policy = Policy {
    fill: 400,
    step: 4096,
    max_hot: Policy::MAX_HOT,
    rounds: Policy::ROUNDS,
};

/// Where page 0 of the guest is.
fn frame(memory: &GuestMemory<'_, Host>) -> Ipa {
    let entry = memory.stage2().query(page(0)).expect("RAM");
    match entry.kind() {
        EntryKind::Leaf(pa) => Ipa::new(pa.get()),
        kind => panic!("{kind:?} is no memory"),
    }
}

#[test]
fn what_is_missing_of_a_reservation_is_mapped_and_nothing_copied() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Reserve);
    (0..400).for_each(|page| store(&memory, page, 1));
    let before = frame(&memory);
    Compactor::new(POLICY).step(&memory);
    assert_eq!(level_at(&memory, 0), Level::L2);
    assert_eq!(frame(&memory), before, "it was copied");
    memory.destroy();
    let usage = machine.allocator().usage();
    assert_eq!((usage.data, usage.reserved), (0, 0), "frames were lost");
}

#[test]
fn without_its_reservation_a_region_is_copied() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Reserve);
    (0..400).for_each(|page| store(&memory, page, 1));
    let before = frame(&memory);
    assert_eq!(memory.give_up_reservation(page(0)), 112);
    Compactor::new(POLICY).step(&memory);
    assert_eq!(level_at(&memory, 0), Level::L2);
    assert_ne!(
        frame(&memory),
        before,
        "the frame was not the region's alone"
    );
    memory.destroy();
}

#[test]
fn pages_that_are_filled_up_read_as_zeros() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Reserve);
    (0..400).for_each(|page| store(&memory, page, 1));
    Compactor::new(POLICY).step(&memory);
    for number in [399, 400, 511] {
        let entry = memory.stage2().query(page(number)).expect("RAM");
        let EntryKind::Leaf(block) = entry.kind() else {
            panic!("page {number} is not mapped");
        };
        let pa = block.offset(number * stage2::PAGE_SIZE);
        let word = machine.allocator().map().pointer(pa).cast::<u64>();
        // SAFETY: a word of a page that is mapped for the guest, which is this thread.
        let value = unsafe { word.read() };
        assert_eq!(value, u64::from(number < 400), "page {number}");
    }
    memory.destroy();
}
