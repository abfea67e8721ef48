//! Single words, as they are seen from outside.

use crate::page_copier::PageCopier;
use crate::peek::Unreadable;
use crate::testing::{
    GUEST, OneCpu, RAM, frames, guest, guest_at, machine, page, store, without_tlb,
};
use crate::{Fault, FaultKind, Hardware, Machine, Outcome, Parts};
use bootargs::HugePolicy;
use core::ptr::NonNull;
use frames::testing::Arena;
use stage2::{Access, EntryKind, Ipa, Level, Pa, Rights};

#[test]
fn words_of_pages_and_of_blocks() {
    for huge in [HugePolicy::Never, HugePolicy::Always] {
        let machine = machine();
        let memory = guest(&machine, huge);
        store(&memory, 3, 0x1234);
        store(&memory, 511, 0x5678);
        assert_eq!(memory.peek(page(3)), Ok(0x1234));
        assert_eq!(memory.peek(page(3).offset(8)), Ok(0));
        assert_eq!(memory.peek(page(511)), Ok(0x5678));
        memory.destroy();
    }
}

#[test]
fn untouched_memory_is_zero_and_stays_untouched() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Never);
    assert_eq!(memory.peek(Ipa::new(RAM + GUEST - 8)), Ok(0));
    assert_eq!(machine.allocator().usage().data, 0);
    memory.destroy();
}

#[test]
fn elsewhere_is_no_memory_unless_some_is_shown() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Never);
    for outside in [0, RAM - 8, RAM + GUEST, 1 << 50, !7] {
        assert_eq!(memory.peek(Ipa::new(outside)), Err(Unreadable::Outside));
    }
    let frame = memory.alloc_page(page(0)).expect("a frame");
    let _ = memory.show(Ipa::new(0), frame, Rights::READ_EXECUTE);
    assert_eq!(memory.peek(Ipa::new(8)), Ok(0));
    memory.destroy();
}

#[test]
fn what_is_worked_on_is_not_read() {
    let machine = machine();
    let memory = guest(&machine, HugePolicy::Never);
    store(&memory, 1, 0x1234);
    let entry = memory.stage2().query(page(1)).expect("RAM");
    let EntryKind::Leaf(frame) = entry.kind() else {
        panic!("{entry:?} is no page");
    };
    let mut seen = None;
    let _ = memory.stage2().unmap_page_if(
        page(1),
        frame,
        |_| {
            seen = Some(memory.peek(page(1)));
            false
        },
        &mut PageCopier::new(&machine),
    );
    assert_eq!(seen, Some(Err(Unreadable::Busy)));
    assert_eq!(memory.peek(page(1)), Ok(0x1234));
    memory.destroy();
}

/// Hardware that refuses to load what is there.
struct Failing;

without_tlb!(Failing);

impl Hardware for Failing {
    fn before_reading(&self, _: Pa) {}
    fn after_writing(&self, _: Pa) {}
    unsafe fn load_word(&self, _: NonNull<u64>) -> Result<u64, stage2::Unreadable> {
        Err(stage2::Unreadable)
    }
}

/// A machine with it.
struct FailingHost;

impl Parts for FailingHost {
    type Map = Arena;
    type Hardware = Failing;
    type Cpus = OneCpu;
    type Tracer = ();
}

#[test]
fn memory_that_fails_is_an_error_and_is_not_taken_for_zeros() {
    let machine = Machine::<FailingHost>::new(frames(1), Failing, OneCpu::new());
    let memory = guest_at(&machine, HugePolicy::Never, RAM);
    let fault = Fault {
        ipa: page(1),
        access: Access::Write,
        kind: FaultKind::Translation(Level::L3),
    };
    assert_eq!(memory.fault(fault), Outcome::Resume);
    assert_eq!(memory.peek(page(1)), Err(Unreadable::Failed));
    assert_eq!(memory.peek(page(2)), Ok(0), "never touched, so not loaded");
    let entry = memory.stage2().query(page(1)).expect("RAM");
    let EntryKind::Leaf(frame) = entry.kind() else {
        panic!("{entry:?} is no page");
    };
    let mut copier = PageCopier::new(&machine);
    let looks = PageCopier::new(&machine);
    let gone =
        memory
            .stage2()
            .unmap_page_if(page(1), frame, |page| looks.is_zero(page), &mut copier);
    assert_eq!(gone, Ok(false));
    memory.destroy();
}
