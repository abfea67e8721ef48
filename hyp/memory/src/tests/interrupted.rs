//! Long work that makes way for interrupts.

use crate::env::{Hardware, Machine, Parts};
use crate::testing::{OneCpu, RAM, frames, guest, guest_at, machine, page, store, without_tlb};
use crate::{Fault, FaultKind, Outcome};
use bootargs::HugePolicy;
use core::cell::Cell;
use frames::testing::Arena;
use frames::{Fill, Order, Use};
use stage2::{Access, EntryKind, Level, Pa};

thread_local! {
    /// How often an interrupt is there when the work looks.
    static INTERRUPTS: Cell<u32> = const { Cell::new(0) };
}

/// Hardware of whose interrupts the test says when they come.
struct Interrupted;

without_tlb!(Interrupted);

impl Hardware for Interrupted {
    fn before_reading(&self, _: Pa) {}
    fn after_writing(&self, _: Pa) {}
    fn is_interrupted(&self) -> bool {
        let left = INTERRUPTS.get();
        INTERRUPTS.set(left.saturating_sub(1));
        left > 0
    }
}

struct InterruptedHost;

impl Parts for InterruptedHost {
    type Map = Arena;
    type Hardware = Interrupted;
    type Cpus = OneCpu;
    type Tracer = ();
}

#[test]
fn zeroing_a_block_ends_for_an_interrupt_and_goes_on_at_the_next_fault() {
    let machine = Machine::<InterruptedHost>::new(frames(1), Interrupted, OneCpu::new());
    let memory = guest_at(&machine, HugePolicy::Always, RAM);
    let fault = Fault {
        ipa: page(0),
        access: Access::Write,
        kind: FaultKind::Translation(Level::L2),
    };
    INTERRUPTS.set(5);
    let is_mapped = || {
        let entry = memory.stage2().query(page(0));
        entry.is_some_and(|entry| matches!(entry.kind(), EntryKind::Leaf(_)))
    };
    let mut faults = 0;
    while !is_mapped() {
        assert_eq!(memory.fault(fault), Outcome::Resume);
        faults += 1;
        assert!(faults <= 6, "the guest gets nowhere");
    }
    assert_eq!(faults, 6, "interrupts were not looked for");
    assert_eq!(memory.peek(page(511)), Ok(0));
    memory.destroy();
}

#[test]
fn memory_that_runs_short_costs_no_more_reservations_than_it_takes() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Reserve);
    let regions = [0, 512];
    for number in regions {
        store(&memory, number, number);
    }
    let reserved = || machine.allocator().usage().reserved;
    assert_eq!(reserved(), 2 * 511);
    assert_eq!(memory.give_up_reservations(), 511);
    assert_eq!(reserved(), 511);
    assert_eq!(memory.give_up_reservations(), 511);
    assert_eq!(memory.give_up_reservations(), 0);
    memory.destroy();
}

#[test]
fn where_one_block_is_all_that_is_left_a_fault_gets_a_page_and_its_table() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Reserve);
    let allocator = machine.allocator();
    let alloc = || allocator.alloc(0, Order::PAGE, Fill::Dirty, Use::Hypervisor);
    let taken: Vec<Pa> = std::iter::from_fn(|| alloc().ok()).collect();
    let block_of = |pa: &Pa| pa.align_down(Level::L2);
    let is_whole = |block| taken.iter().filter(|pa| block_of(pa) == block).count() == 512;
    let mut blocks = taken.iter().map(block_of);
    let block = blocks.find(|&block| is_whole(block)).expect("a block");
    for pa in taken.iter().filter(|pa| block_of(pa) == block) {
        allocator.free(0, *pa, Order::PAGE).expect("in use");
    }
    allocator.drain_caches();
    store(&memory, 512, 7);
    assert_eq!(memory.peek(page(512)), Ok(7));
}
