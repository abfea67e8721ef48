//! What flash banks hold.

use crate::bank::Bank;
use crate::testing::{Host, machine, without_tlb};
use crate::{Hardware, Machine, Parts};
use frames::testing::Arena;
use frames::{Fill, LinearMap, Order, Use};
use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::VmidAllocator;
use stage2::{Cpus, PAGE_SIZE, Pa};
use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

/// The word at `offset` bytes into the bank.
fn word(machine: &Machine<Host>, bank: &Bank, offset: u64) -> u32 {
    let page = bank.page(machine, offset).expect("a frame is left");
    let place = machine
        .allocator()
        .map()
        .pointer(page.pa().offset(offset % PAGE_SIZE));
    // SAFETY: a word of a frame of the bank, which nobody else uses meanwhile.
    unsafe { place.cast::<u32>().read() }
}

#[test]
fn programming_clears_bits_and_erasing_sets_them() {
    let (machine, bank) = (machine(), Bank::new());
    assert_eq!(word(&machine, &bank, 0x5ffc), u32::MAX, "nobody touched it");
    bank.program(&machine, 0x5ff8, 4, 0x1234_5678).unwrap();
    bank.program(&machine, 0x5ff8, 4, 0xffff_0fff).unwrap();
    assert_eq!(word(&machine, &bank, 0x5ff8), 0x1234_0678);
    for (size, offset, expected) in [(1, 0x6003, 0x00ff_ffff), (2, 0x6004, 0xffff_0000)] {
        bank.program(&machine, offset, size, 0).unwrap();
        assert_eq!(word(&machine, &bank, offset & !3), expected, "{size} bytes");
    }
    bank.erase(&machine, 0x6000, PAGE_SIZE);
    assert_eq!(word(&machine, &bank, 0x6000), u32::MAX);
    assert_eq!(word(&machine, &bank, 0x5ff8), 0x1234_0678, "not erased");
    assert_eq!(word(&machine, &bank, Bank::SIZE + 0x5ff8), 0x1234_0678);
    bank.free(&machine);
    assert_eq!(machine.allocator().usage().hypervisor, 0, "frames are lost");
}

#[test]
fn without_a_frame_nothing_has_changed() {
    let (machine, bank) = (machine(), Bank::new());
    bank.program(&machine, 0, 4, 7).unwrap();
    let (allocator, mut taken) = (machine.allocator(), Vec::new());
    while let Ok(frame) = allocator.alloc(0, Order::PAGE, Fill::Dirty, Use::Table) {
        taken.push(frame);
    }
    assert!(bank.page(&machine, PAGE_SIZE).is_err());
    assert!(bank.program(&machine, PAGE_SIZE, 4, 7).is_err());
    assert!(Bank::new().page(&machine, 0).is_err(), "not even a list");
    assert_eq!(word(&machine, &bank, 0), 7);
    let one = taken.pop().expect("some frame was free");
    allocator.free(0, one, Order::PAGE).unwrap();
    assert_eq!(word(&machine, &bank, PAGE_SIZE), u32::MAX);
    taken
        .into_iter()
        .for_each(|frame| allocator.free(0, frame, Order::PAGE).unwrap());
    bank.free(&machine);
    assert_eq!(allocator.usage().hypervisor, 0, "frames are lost");
}

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// A machine of two CPUs that wait for each other when a page was filled.
struct Meeting;

impl Parts for Meeting {
    type Map = Arena;
    type Hardware = Meets;
    type Cpus = TwoCpus;
    type Tracer = ();
}

struct Meets {
    both: Barrier,
    on: AtomicBool,
}

without_tlb!(Meets);

impl Hardware for Meets {
    fn before_reading(&self, _: Pa) {}
    fn after_writing(&self, _: Pa) {
        if self.on.load(Ordering::Relaxed) {
            self.both.wait();
        }
    }
}

struct TwoCpus([CpuSlot; 2], Grace, VmidAllocator);

// SAFETY: the slots are a field; the test runs one thread on each CPU at a time.
unsafe impl Cpus for TwoCpus {
    type Pinned<'c> = ();

    fn pin(&self) {}

    fn slots(&self) -> &[CpuSlot] {
        &self.0
    }
    fn grace(&self) -> &Grace {
        &self.1
    }
    fn vmids(&self) -> &VmidAllocator {
        &self.2
    }
    fn current(&self) -> usize {
        CPU.get()
    }
    fn yield_now(&self) {}
}

#[test]
fn of_two_that_find_no_frame_one_gives_its_own_back() {
    let meets = Meets {
        both: Barrier::new(2),
        on: AtomicBool::new(false),
    };
    let slots = [CpuSlot::new(), CpuSlot::new()];
    let cpus = TwoCpus(slots, Grace::new(), VmidAllocator::new(8));
    let machine = &Machine::<Meeting>::new(crate::testing::frames(2), meets, cpus);
    let bank = &Bank::new();
    bank.program(machine, 0, 4, 0).unwrap();
    machine.hardware().on.store(true, Ordering::Relaxed);
    let found = std::thread::scope(|scope| {
        [0, 1]
            .map(|cpu| {
                scope.spawn(move || {
                    CPU.set(cpu);
                    bank.page(machine, PAGE_SIZE).unwrap()
                })
            })
            .map(|thread| thread.join().expect("it does not panic"))
    });
    assert_eq!(found[0], found[1], "one page, two frames");
    assert_eq!(machine.allocator().usage().hypervisor, 3);
    bank.free(machine);
    assert_eq!(machine.allocator().usage().hypervisor, 0);
}
