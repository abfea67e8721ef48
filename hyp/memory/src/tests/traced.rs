//! What a checker of the protocol is told, as far as the table manager tells it.

use crate::bank::Bank;
use crate::compaction::Stress;
use crate::page_copier::PageCopier;
use crate::testing::{NoTlb, OneCpu, RAM, frames, guest_at, page};
use crate::tracing::Tracer;
use crate::{Fault, FaultKind, GuestMemory, Machine, Outcome, Parts};
use bootargs::HugePolicy;
use frames::testing::Arena;
use stage2::{Access, Ipa, IpaRange, Level, Rights};
use std::cell::{Cell, RefCell};
use trace::event::{Holder, NOBODY};
use trace::{Categories, Category, Event};

thread_local! {
    static TRACED: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    static ORDER: Cell<u64> = const { Cell::new(0) };
    static WANTED: Cell<Category> = const { Cell::new(Category::Replay) };
}

/// Keeps what it is told on this thread.
struct Ears;

impl Tracer for Ears {
    fn wanted() -> Categories {
        Categories::NONE.with(WANTED.get())
    }

    fn emit(vm: u8, event: Event) {
        let own = matches!(event, Event::Held { holder, .. } if holder != Holder::Shown);
        assert_eq!(vm, if own { NOBODY } else { 0 }, "{event:?}");
        TRACED.with_borrow_mut(|told| told.push(event));
    }

    fn next_order() -> u64 {
        ORDER.set(ORDER.get() + 1);
        ORDER.get()
    }
}

struct Watched;

impl Parts for Watched {
    type Map = Arena;
    type Hardware = NoTlb;
    type Cpus = OneCpu;
    type Tracer = Ears;
}

fn machine() -> Machine<Watched> {
    Machine::new(frames(1), NoTlb, OneCpu::new())
}

fn touch(memory: &GuestMemory<'_, Watched>, number: u64) {
    let (ipa, access) = (page(number), Access::Write);
    let kind = FaultKind::Translation(Level::L3);
    memory.fault(Fault { ipa, access, kind });
}

/// What was told since the last call.
fn told() -> Vec<Event> {
    TRACED.take()
}

#[test]
fn the_end_of_a_table_is_told_step_by_step() {
    let machine = machine();
    let memory = guest_at(&machine, HugePolicy::Never, RAM);
    touch(&memory, 0);
    let stage2 = memory.stage2();
    let range = IpaRange::entry(page(0), Level::L3);
    stage2.unmap(range, |_| {}).expect("nothing to split");
    let before = told();
    let made = |level| {
        let mut tables = before.iter().filter_map(move |event| match *event {
            Event::TableMade {
                level: of, table, ..
            } if of == level => Some(table),
            _ => None,
        });
        tables.next_back().expect("a table")
    };
    let (parent, child) = (made(2), made(3));
    let region = IpaRange::entry(page(0), Level::L2);
    assert_eq!(stage2.free_empty_tables(region), 1);

    let mut steps = told();
    // What follows is a look at the table above, of which the region is a part.
    steps.truncate(10);
    let names: Vec<_> = steps.iter().map(Event::name).collect();
    let expected = [
        "Locked",
        "Locked",
        "Written",
        "Unlocked",
        "Barrier",
        "Written",
        "Unlocked",
        "GraceBegun",
        "GraceEnded",
        "TableEnded",
    ];
    assert_eq!(names, expected);
    let tables: Vec<_> = steps
        .iter()
        .filter_map(|event| match *event {
            Event::Locked { table, .. }
            | Event::Unlocked { table, .. }
            | Event::TableEnded { table, .. } => Some(table),
            _ => None,
        })
        .collect();
    assert_eq!(tables, [parent, child, child, parent, child]);
    assert!(matches!(
        steps[2],
        Event::Written { old, new, .. } if old & !0xfff == child && new & 1 == 0 && new != 0
    ));
    assert!(matches!(steps[5], Event::Written { new: 0, .. }));
    assert!(matches!(
        steps[7..9],
        [
            Event::GraceBegun { number: 2, .. },
            Event::GraceEnded { number: 2, .. }
        ]
    ));
    memory.destroy();
}

/// Frames that the hypervisor takes for itself, one that it shows, and that all of a VM's go back
/// after its tree's end.
#[test]
fn whose_frames_are_whose_is_told() {
    let machine = machine();
    let memory = guest_at(&machine, HugePolicy::Never, RAM);
    touch(&memory, 0);
    let bank = Bank::new();
    let frame = bank.page(&machine, 0).expect("a frame");
    let shown = frame.pa();
    told();
    let outside = Ipa::new(RAM - 0x1000);
    let outcome = memory.show(outside, frame, Rights::READ_EXECUTE);
    assert_eq!(outcome, Outcome::Resume);
    let told_of = |told: &[Event]| {
        let held = told.iter().filter_map(|event| match *event {
            Event::Held {
                holder, start, end, ..
            } => Some((holder, start, end - start)),
            _ => None,
        });
        held.collect::<Vec<_>>()
    };
    let first = told();
    assert_eq!(told_of(&first), [(Holder::Shown, shown.get(), 0x1000)]);
    let written = |event: &Event| matches!(event, Event::Written { new, .. } if new & 1 != 0);
    let (held, made) = (
        first
            .iter()
            .position(|event| matches!(event, Event::Held { .. })),
        first.iter().rposition(written),
    );
    assert!(held < made && held.is_some(), "{first:?}");
    memory.destroy();
    bank.free(&machine);
    let last = told();
    let ended = last
        .iter()
        .position(|event| matches!(event, Event::TreeEnded { .. }));
    let table = last
        .iter()
        .position(|event| matches!(event, Event::TableEnded { .. }));
    assert!(ended.is_some() && ended < table, "{last:?}");
    let given: Vec<_> = told_of(&last);
    assert!(given.contains(&(Holder::Guests, shown.get(), 0x1000)));
    assert!(given.iter().all(|(holder, ..)| *holder == Holder::Guests));
    // The list of reservations, the bank's list, and its page.
    assert_eq!(given.len(), 3);
}

/// A page that is unmapped for what it holds is unmapped like any other.
#[test]
fn pages_taken_back_are_told() {
    WANTED.set(Category::Map);
    let machine = machine();
    let memory = guest_at(&machine, HugePolicy::Never, RAM);
    touch(&memory, 3);
    let entry = memory
        .stage2()
        .query(page(3))
        .expect("an address of the VM");
    let mut copier = PageCopier::new(&machine);
    told();
    let went =
        memory
            .stage2()
            .unmap_page_if(page(3), entry.descriptor.output(), |_| true, &mut copier);
    assert_eq!(went, Ok(true));
    let [Event::Unmap { level: 3, ipa, end }] = told()[..] else {
        panic!("it was not told that the page is gone");
    };
    assert_eq!([ipa, end], [3, 4].map(|number| page(number).get()));
    memory.destroy();
}

/// A lock is taken in a read section, or by who has claimed the table; and no number is left out.
#[test]
#[cfg_attr(miri, ignore = "thousands of pages are copied")]
fn locks_say_what_keeps_the_table() {
    let machine = machine();
    let memory = guest_at(&machine, HugePolicy::Reserve, RAM);
    (0..512).for_each(|number| touch(&memory, number));
    let mut stress = Stress::new(0x9e37_79b9);
    (0..400).for_each(|_| stress.step(&memory));
    memory.destroy();
    let told = told();
    let mut claims = 0;
    for event in &told {
        if let Event::Locked {
            section, claimed, ..
        } = *event
        {
            assert!(section > 0 || claimed == 1, "{event:?}");
            claims += u64::from(section == 0);
        }
    }
    assert!(claims > 0, "nothing was collapsed by copying");
    let mut orders: Vec<_> = told.iter().filter_map(Event::order).collect();
    orders.sort_unstable();
    assert_eq!(orders, (1..=told.len() as u64).collect::<Vec<_>>());
}
