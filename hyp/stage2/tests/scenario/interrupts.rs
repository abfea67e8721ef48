//! What an interrupt handler finds that looks at tables, whatever it has interrupted; and when
//! other threads get the CPU.

use stage2::fake::{Copier, FakeCpus, FakeFrames, FakeMachine, FakePin, FakeTlb, Setup};
use stage2::grace::{CpuSlot, Grace};
use stage2::vmid::VmidAllocator;
use stage2::{
    Attributes, CopyPages, CopyPlan, Cpus, DirtyState, Environment, GuestPage, Ipa, IpaRange,
    Level, Stage2, Unmapped, Unreadable,
};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A handler that interrupts its CPU.
type Handler<'h> = &'h dyn Fn();

thread_local! {
    /// Looks at the grace periods until the handler runs; none comes while it is 0.
    static COUNTDOWN: Cell<usize> = const { Cell::new(0) };
    static HANDLER: Cell<Option<Handler<'static>>> = const { Cell::new(None) };
}

/// CPUs that are interrupted where a section is about to be announced: the grace period is asked
/// for between the look at what is announced and the store.
struct Interrupted {
    machine: FakeMachine,
    waits: AtomicUsize,
}

// SAFETY: all is that of the fake CPUs, and a handler ends before who was interrupted goes on.
unsafe impl Cpus for Interrupted {
    type Pinned<'c> = FakePin;

    fn pin(&self) -> FakePin {
        self.machine.cpus().pin()
    }

    fn slots(&self) -> &[CpuSlot] {
        self.machine.cpus().slots()
    }

    fn grace(&self) -> &Grace {
        if COUNTDOWN.get() > 0 {
            COUNTDOWN.set(COUNTDOWN.get() - 1);
            if let (0, Some(handler)) = (COUNTDOWN.get(), HANDLER.take()) {
                handler();
            }
        }
        self.machine.cpus().grace()
    }

    fn vmids(&self) -> &VmidAllocator {
        self.machine.cpus().vmids()
    }

    fn current(&self) -> usize {
        self.machine.cpus().current()
    }

    fn yield_now(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        std::thread::yield_now();
    }
}

// SAFETY: the parts are the same at all times.
unsafe impl Environment for Interrupted {
    type Frames = FakeFrames;
    type TableWindow = FakeFrames;
    type Tlb = FakeTlb;
    type Cpus = Self;
    type Observer = ();

    fn frames(&self) -> &FakeFrames {
        self.machine.frames()
    }

    fn window(&self) -> &FakeFrames {
        self.machine.window()
    }

    fn tlb(&self) -> &FakeTlb {
        self.machine.tlb()
    }

    fn cpus(&self) -> &Self {
        self
    }

    fn observer(&self) -> &() {
        &()
    }
}

/// Runs `interrupted` on this CPU, and in the middle of its entering a section `handler`.
fn interrupt(handler: Handler<'_>, interrupted: impl FnOnce()) {
    // SAFETY: it is taken back before this returns, whether or not it ran.
    let handler = unsafe { std::mem::transmute::<Handler<'_>, Handler<'static>>(handler) };
    HANDLER.set(Some(handler));
    COUNTDOWN.set(1);
    interrupted();
    COUNTDOWN.set(0);
    assert!(HANDLER.take().is_none(), "nobody was interrupted");
}

/// A CPU that waits for grace periods, one after the other, as it is asked to. They are counted
/// from 1.
#[derive(Default)]
struct Waiter {
    asked: AtomicUsize,
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Waiter {
    const NO_MORE: usize = usize::MAX;

    fn run(&self, env: &Interrupted, vm: &Stage2<&Interrupted>) {
        for number in 1.. {
            while self.asked.load(Ordering::Acquire) < number {
                std::thread::yield_now();
            }
            if self.asked.load(Ordering::Acquire) == Self::NO_MORE {
                return;
            }
            env.waits.store(0, Ordering::Relaxed);
            self.begun.store(number, Ordering::Release);
            vm.synchronize();
            self.ended.store(number, Ordering::Release);
        }
    }

    /// It ends when it has done what it was asked to.
    fn end(&self) {
        self.asked.store(Self::NO_MORE, Ordering::Release);
    }

    /// Asks for grace period `number`, and returns when the waiter has looked at this CPU's slot:
    /// whether it waits, or has found that it need not.
    fn waits_for_this_cpu(&self, env: &Interrupted, number: usize) -> bool {
        self.asked.store(number, Ordering::Release);
        loop {
            if self.ended.load(Ordering::Acquire) >= number {
                return false;
            }
            let begun = self.begun.load(Ordering::Acquire) >= number;
            if begun && env.waits.load(Ordering::Relaxed) > 0 {
                return true;
            }
            std::thread::yield_now();
        }
    }
}

/// A handler comes when a section has begun and is not yet announced, and looks at tables, while
/// another CPU waits for a grace period.
///
/// Rule: a section begins inside another one only where an announcement stands. Taken out by
/// `61-count-taken-for-announcement.patch`.
#[test]
fn race_61_a_handlers_section_is_announced() {
    let env = Interrupted {
        machine: FakeMachine::new(Setup::default()),
        waits: AtomicUsize::new(0),
    };
    let vm = Stage2::new(&env, env.machine.config(1)).unwrap();
    let page = env.machine.data().allocate(Level::L3).unwrap();
    vm.map_page(Ipa::new(0), page, Attributes::RAM, DirtyState::Dirty)
        .unwrap();
    let waiter = Waiter::default();
    // Looked at when the waiter has ended: it would wait for ever if this thread panicked.
    let (handler_is_waited_for, interrupted_is_waited_for) = (Cell::new(false), Cell::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _cpu = env.machine.on_cpu(1);
            waiter.run(&env, &vm);
        });
        let handler = || {
            let reader = vm.read();
            handler_is_waited_for.set(waiter.waits_for_this_cpu(&env, 1));
            drop(reader);
        };
        interrupt(&handler, || {
            let reader = vm.read();
            // The waiter may have seen that the handler's section ended, and that this one was not
            // announced yet. So this one counts from the next grace period on.
            if handler_is_waited_for.get() {
                interrupted_is_waited_for.set(waiter.waits_for_this_cpu(&env, 2));
            }
            drop(reader);
        });
        waiter.end();
    });
    assert!(
        handler_is_waited_for.get(),
        "what the handler looks at may be freed"
    );
    assert!(
        interrupted_is_waited_for.get(),
        "the end of the handler's section was taken for the end of this one"
    );
    assert_eq!(waiter.ended.load(Ordering::Acquire), 2);
    assert!(!env.slots()[0].in_section());
}

/// Counts the pages that are copied in a row, with no turn for others in between.
struct InARow<'e> {
    env: &'e Interrupted,
    copier: Copier<'e>,
    turns: usize,
    row: usize,
    longest: usize,
}

impl CopyPages for InARow<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        let turns = self.env.waits.load(Ordering::Relaxed);
        self.row = if turns == self.turns { self.row + 1 } else { 1 };
        self.turns = turns;
        self.longest = self.longest.max(self.row);
        self.copier.copy(from, to)
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
    }

    fn release(&mut self, old: Unmapped) {
        self.copier.release(old);
    }
}

/// Other threads of the CPU need not wait for a whole region: after every 16 pages they get their
/// turn.
#[test]
fn a_copy_gives_way_between_its_steps() {
    let env = Interrupted {
        machine: FakeMachine::new(Setup::default()),
        waits: AtomicUsize::new(0),
    };
    let vm = Stage2::new(&env, env.machine.config(1)).unwrap();
    let pages = IpaRange::entry(Ipa::new(0), Level::L2);
    let data = env.machine.data();
    vm.map_pages(
        pages,
        |_| data.allocate(Level::L3).unwrap(),
        Attributes::RAM,
        DirtyState::Dirty,
    )
    .unwrap();
    let block = data.allocate(Level::L2).unwrap();
    let plan = CopyPlan {
        max_empty: 0,
        max_hot: 0,
        rounds: 0,
    };
    let mut contents = InARow {
        env: &env,
        copier: data.copier(),
        turns: 0,
        row: 0,
        longest: 0,
    };
    vm.collapse_by_copying(pages.start(), block, plan, &mut contents)
        .unwrap();
    assert_eq!(contents.longest, 16);
}

/// Sections of one CPU may end in any order.
#[test]
fn sections_end_when_the_last_of_them_does() {
    let machine = FakeMachine::new(Setup::default());
    let vm = Stage2::new(&machine, machine.config(1)).unwrap();
    let [first, second] = [vm.read(), vm.read()];
    drop(first);
    assert!(machine.cpus().slots()[0].in_section());
    drop(second);
    assert!(!machine.cpus().slots()[0].in_section());
    let _: &FakeCpus = machine.cpus();
}
