//! A guest that is swapped out, compacted and copied away while it runs, on real threads.
//!
//! Two guest CPUs write and read pages of their own and know what each holds. A manager unmaps
//! pages to a swap space, changes rights, and copies what the dirty bitmap names to another
//! machine, as a live migration does. A compactor collapses, splits, moves and frees tables. At the
//! end the guest's memory, swapped or not, and the copy of it must be what the guest wrote last.
//!
//! Lock order: the copy, the swap space, and what the machine locks.

use crate::support::dirty_state;
use stage2::fake::{Copier, FakeCpus, FakeFrames, FakeMachine, Fault, Setup};
use stage2::vmid::Vmid;
use stage2::{
    Access, Attributes, CopyPages, CopyPlan, DirtyGranule, DirtyState, ENTRIES, Environment,
    GuestPage, Ipa, IpaRange, Level, Loaded, MapError, PAGE_SIZE, Published, Resolution, Rights,
    Scope, Stage2, Tlb, Unmapped, Unreadable,
};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const GUESTS: usize = 2;
const REGIONS: usize = 3;
const PAGES: usize = REGIONS * ENTRIES;
const ACCESSES: usize = 10_000;

type Vm<'m> = Stage2<&'m Slow>;

/// A fake machine on which others get their turn where it hurts: between a change and its
/// invalidation, and while a page is copied.
struct Slow(FakeMachine);

// SAFETY: the fake TLB does what is asked; this only takes its time.
unsafe impl Tlb for Slow {
    fn load(&self, tables: Option<Loaded>) {
        self.0.tlb().load(tables);
    }

    fn publish(&self) {
        self.0.tlb().publish();
    }

    fn finish_walks(&self) {
        self.0.tlb().finish_walks();
    }

    fn invalidate(&self, published: Published, vmid: Vmid, range: IpaRange, scope: Scope) {
        std::thread::yield_now();
        let tlb = self.0.tlb();
        tlb.invalidate(published, vmid, range, scope);
        std::thread::yield_now();
    }

    fn invalidate_local(&self, vmid: Vmid, range: IpaRange, scope: Scope) {
        self.0.tlb().invalidate_local(vmid, range, scope);
    }

    fn invalidate_all(&self) {
        self.0.tlb().invalidate_all();
    }
}

// SAFETY: the parts are the same at all times.
unsafe impl Environment for Slow {
    type Frames = FakeFrames;
    type TableWindow = FakeFrames;
    type Tlb = Slow;
    type Cpus = FakeCpus;
    type Observer = ();

    fn frames(&self) -> &FakeFrames {
        self.0.frames()
    }

    fn window(&self) -> &FakeFrames {
        self.0.window()
    }

    fn tlb(&self) -> &Slow {
        self
    }

    fn cpus(&self) -> &FakeCpus {
        self.0.cpus()
    }

    fn observer(&self) -> &() {
        &()
    }
}

struct SlowCopier<'m>(Copier<'m>);

impl CopyPages for SlowCopier<'_> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        let copied = self.0.copy(from, to);
        std::thread::yield_now();
        copied
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.0.zero(to);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.0.release(leaf);
    }
}

/// Runs a thread's part. One that panics may leave a marker behind, for which others would wait for
/// ever: then all end.
fn or_abort(part: impl FnOnce()) {
    use std::io::Write;
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part)) {
        let literal = panic.downcast_ref::<&str>().copied();
        let built = panic.downcast_ref::<String>().map(String::as_str);
        let text = literal.or(built).unwrap_or("a panic");
        // Not with `eprintln!`: what the harness has captured is lost.
        let _ = writeln!(
            std::io::stderr(),
            "in a thread of {}: {text}",
            module_path!()
        );
        std::process::abort();
    }
}

/// A source of numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides
    }
}

struct World<'m> {
    machine: &'m FakeMachine,
    vm: Vm<'m>,
    /// What unmapped pages hold.
    swap: Mutex<HashMap<Ipa, u64>>,
    /// What the other machine has of each page.
    copy: Mutex<HashMap<Ipa, u64>>,
    /// Guest CPUs that are not yet done.
    running: AtomicUsize,
}

fn ipa_of(page: usize) -> Ipa {
    // Adjacent regions, so that ranges cross from one table to the next.
    Ipa::new(Level::L1.size() + page as u64 * PAGE_SIZE)
}

fn range_of(first: usize, count: usize) -> IpaRange {
    IpaRange::new(ipa_of(first), ipa_of((first + count).min(PAGES))).unwrap()
}

fn pages_of(range: IpaRange) -> impl Iterator<Item = Ipa> {
    (0..range.pages()).map(move |page| range.start().offset(page * PAGE_SIZE))
}

impl World<'_> {
    fn goes_on(&self) -> bool {
        self.running.load(Ordering::Acquire) > 0
    }

    /// One guest CPU: every page of its own holds what it stored there last.
    fn guest(&self, cpu: usize) {
        // The thread that made the machine is its first CPU already.
        let _cpu = (cpu != 0).then(|| self.machine.on_cpu(cpu));
        let mut dice = Dice(0x9e37_79b9 + cpu as u64);
        let mut expected = HashMap::new();
        for access in 0..ACCESSES {
            let page = ipa_of(dice.roll(PAGES / GUESTS) * GUESTS + cpu);
            if dice.roll(3) == 0 {
                let value = (access * GUESTS + cpu + 1) as u64;
                self.access(page, Access::Write, value, expected.get(&page).copied());
                expected.insert(page, value);
            } else {
                let known = expected.get(&page).copied();
                let seen = self.access(page, Access::Read, 0, known);
                assert_eq!(seen, *expected.entry(page).or_insert(0), "{page:?}");
            }
        }
        self.running.fetch_sub(1, Ordering::Release);
        self.check(&expected);
    }

    /// What the guest has written is where it should be, once all others have stopped too.
    fn check(&self, expected: &HashMap<Ipa, u64>) {
        while self.running.load(Ordering::Acquire) != usize::MAX {
            std::thread::yield_now();
        }
        let copy = self.copy.lock().unwrap();
        for (&page, &value) in expected {
            let copied = copy.get(&page).copied().unwrap_or(0);
            assert_eq!(copied, value, "{page:?} was not copied");
            assert_eq!(self.look(page).unwrap_or(0), value, "{page:?}");
        }
    }

    /// What a page holds, mapped or in the swap space. Nobody changes it meanwhile.
    fn look(&self, page: Ipa) -> Option<u64> {
        let entry = self.vm.query(page)?;
        if let stage2::EntryKind::Leaf(pa) = entry.kind() {
            let offset = page.get() - entry.ipa.get();
            return Some(self.machine.data().read(pa.offset(offset)));
        }
        self.swap.lock().unwrap().get(&page).copied()
    }

    /// An access of a guest, with the faults that it takes; `before` is what the page must hold.
    fn access(&self, page: Ipa, access: Access, value: u64, before: Option<u64>) -> u64 {
        loop {
            let guest = self.machine.enter(&self.vm);
            let result = match access {
                Access::Write => guest.write(page, value).map(|()| value),
                _ => guest.read(page),
            };
            match result {
                Ok(seen) => return seen,
                Err(_) => self.fault(page, access, before),
            }
        }
    }

    fn fault(&self, page: Ipa, access: Access, before: Option<u64>) {
        match self.vm.resolve_fault(page, access, DirtyGranule::Page) {
            Resolution::Resolved => {}
            Resolution::Unmapped => self.swap_in(page, access == Access::Write, before),
            // The block may be split, or gone, by now.
            Resolution::MustSplit(level) => drop(self.vm.split_for_store(page, level)),
            // Rights are taken away for a moment only.
            Resolution::Busy | Resolution::Denied => std::thread::yield_now(),
            Resolution::OutOfRange => panic!("{page:?} is an address of the VM"),
        }
    }

    /// Maps a page again, with what it held.
    ///
    /// All pages were mapped to begin with, so one that is neither mapped nor in the swap space is
    /// on its way there, also where this guest CPU has never looked at it: mapped anew, it would be
    /// followed into the swap space by what it held before.
    fn swap_in(&self, page: Ipa, written: bool, before: Option<u64>) {
        let Some(value) = self.swap.lock().unwrap().remove(&page) else {
            return std::thread::yield_now();
        };
        assert_eq!(value, before.unwrap_or(0), "{page:?}");
        let mut frame = self.machine.data().allocate(Level::L3).unwrap();
        self.machine.data().write(frame.pa(), value);
        while let Err(refused) =
            self.vm
                .map_page(page, frame, Attributes::RAM, dirty_state(written))
        {
            assert_eq!(refused.reason, MapError::Busy, "nobody else maps {page:?}");
            frame = refused.frame;
            std::thread::yield_now();
        }
    }

    fn manager(&self, cpu: usize) {
        let _cpu = self.machine.on_cpu(cpu);
        let mut dice = Dice(0x1234_5678);
        while self.goes_on() {
            let first = dice.roll(PAGES);
            match dice.roll(8) {
                0..3 => self.swap_out(range_of(first, 1 + dice.roll(20))),
                3 if dice.roll(8) == 0 => {
                    self.swap_out(range_of(first / ENTRIES * ENTRIES, ENTRIES))
                }
                4 => {
                    let range = range_of(first, 1 + dice.roll(600));
                    self.vm.protect(range, Rights::READ).unwrap();
                    self.vm.protect(range, Rights::ALL).unwrap();
                }
                5 => self.vm.age(range_of(first, 1 + dice.roll(600)), |_, _| {}),
                _ => self.copy_dirty(range_of(first, 1 + dice.roll(600))),
            }
        }
    }

    fn swap_out(&self, range: IpaRange) {
        self.vm.unmap(range, |leaf| self.store(leaf)).unwrap();
    }

    fn store(&self, leaf: Unmapped) {
        // Guest CPUs get their turn while the page is neither mapped nor in the swap space.
        std::thread::yield_now();
        let data = self.machine.data();
        let range = IpaRange::entry(leaf.ipa, leaf.level());
        for page in pages_of(range) {
            let pa = leaf.descriptor.output().offset(page.get() - leaf.ipa.get());
            let value = data.read(pa);
            if leaf.descriptor.is_written() {
                self.copy.lock().unwrap().insert(page, value);
            }
            self.swap.lock().unwrap().insert(page, value);
        }
        data.release(leaf.frame);
    }

    fn copy_dirty(&self, range: IpaRange) {
        let mut dirty = Vec::new();
        self.vm.collect_dirty(range, |range| dirty.push(range));
        for page in dirty.into_iter().flat_map(pages_of) {
            while !self.try_copy(page) {
                std::thread::yield_now();
            }
        }
    }

    /// Copies what a page holds now, if that can be had without waiting.
    fn try_copy(&self, page: Ipa) -> bool {
        let mut copy = self.copy.lock().unwrap();
        let value = match self.machine.enter(&self.vm).read(page) {
            Ok(value) => Some(value),
            Err(Fault::Translation(_)) => self.swap.lock().unwrap().get(&page).copied(),
            Err(_) => {
                let _ = self
                    .vm
                    .resolve_fault(page, Access::Read, DirtyGranule::Leaf);
                None
            }
        };
        value.map(|value| copy.insert(page, value)).is_some()
    }

    fn compactor(&self, cpu: usize) {
        let _cpu = self.machine.on_cpu(cpu);
        let mut dice = Dice(0x8765_4321);
        while self.goes_on() {
            let page = ipa_of(dice.roll(PAGES));
            match dice.roll(8) {
                0..3 => self.collapse(page, dice.roll(64)),
                3 => drop(self.vm.collapse_in_place(page, Level::L2)),
                4 => drop(self.vm.split_block(page, Level::L2)),
                5 => drop(self.vm.free_empty_tables(range_of(0, PAGES))),
                _ => self.migrate_page(page),
            }
        }
    }

    fn collapse(&self, page: Ipa, max_hot: usize) {
        let data = self.machine.data();
        let Ok(to) = data.allocate(Level::L2) else {
            return;
        };
        let plan = CopyPlan {
            max_empty: 0,
            max_hot,
            rounds: 1,
        };
        let result = self
            .vm
            .collapse_by_copying(page, to, plan, &mut SlowCopier(data.copier()));
        if let Err(refused) = result {
            data.release(refused.frame);
        }
    }

    fn migrate_page(&self, page: Ipa) {
        let Some(entry) = self.vm.query(page).filter(|entry| entry.level == Level::L3) else {
            return;
        };
        let data = self.machine.data();
        let to = data.allocate(Level::L3).unwrap();
        let from = entry.descriptor.output();
        let result = self
            .vm
            .migrate_page(page, from, to, &mut SlowCopier(data.copier()));
        if let Err(refused) = result {
            data.release(refused.frame);
        }
    }
}

/// The guest's memory to begin with: blocks of zeros.
fn fill(world: &World<'_>) {
    for region in 0..REGIONS {
        let pa = world.machine.data().allocate(Level::L2).unwrap();
        for page in 0..ENTRIES as u64 {
            let page = pa.pa().offset(page * PAGE_SIZE);
            world.machine.data().write(page, 0);
        }
        let ipa = ipa_of(region * ENTRIES);
        world
            .vm
            .map_block(ipa, pa, Attributes::RAM, DirtyState::Clean)
            .unwrap();
    }
}

fn run(hardware_dirty: bool, direct_size_change: bool) {
    let slow = Slow(FakeMachine::new(Setup {
        cpus: GUESTS + 2,
        table_frames: 16,
        data_pages: (2 * REGIONS + 1) * ENTRIES,
        hardware_dirty,
        direct_size_change,
        ..Setup::default()
    }));
    let machine = &slow.0;
    let world = World {
        machine,
        vm: Stage2::new(&slow, machine.config(1)).unwrap(),
        swap: Mutex::default(),
        copy: Mutex::default(),
        running: AtomicUsize::new(GUESTS),
    };
    fill(&world);
    std::thread::scope(|scope| {
        let world = &world;
        let others = [
            scope.spawn(|| or_abort(|| world.manager(GUESTS))),
            scope.spawn(|| or_abort(|| world.compactor(GUESTS + 1))),
        ];
        scope.spawn(|| or_abort(|| world.guest(1)));
        scope.spawn(move || {
            others.into_iter().for_each(|other| other.join().unwrap());
            let _cpu = world.machine.on_cpu(GUESTS);
            world.copy_dirty(range_of(0, PAGES));
            world.running.store(usize::MAX, Ordering::Release);
        });
        or_abort(|| world.guest(0));
    });
    // Nothing was lost and nothing is left over.
    let World { vm, .. } = world;
    machine.leave_all();
    vm.destroy(|leaf| machine.data().release(leaf.frame))
        .unwrap();
    assert_eq!(machine.frames().outstanding(), 0);
    assert_eq!(machine.data().outstanding(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn on_a_cpu_without_extensions() {
    run(false, false);
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn on_a_cpu_that_marks_pages_and_changes_sizes_directly() {
    run(true, true);
}
