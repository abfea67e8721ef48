//! A few pages that everybody wants at once: mapped, used, moved, protected and unmapped by their
//! owners, while a sweeper frees the tables below them and a watcher looks.
//!
//! Small enough to be interpreted by Miri, whose loads may return old values as weakly ordered
//! CPUs do.

use stage2::fake::{FakeMachine, Setup};
use stage2::lookup::Absent;
use stage2::stats::Counter;
use stage2::{
    Access, Attributes, DirtyGranule, DirtyState, EntryKind, Environment, Ipa, IpaRange, Level,
    MapError, MigrateError, PAGE_SIZE, Resolution, Rights, Stage2,
};
use std::sync::atomic::{AtomicUsize, Ordering};

const OWNERS: usize = 2;
/// Two pages below one table, and two that have one each to themselves.
const PAGES: [u64; 4] = [0, PAGE_SIZE, Level::L2.size(), 5 * Level::L2.size()];
const ROUNDS: usize = if cfg!(miri) { 1 } else { 3_000 };
/// How often the sweeper and the watcher do their part at most.
const SWEEPS: usize = if cfg!(miri) { 4 } else { usize::MAX };

struct World<'m> {
    machine: &'m FakeMachine,
    vm: Stage2<&'m FakeMachine>,
    owners: AtomicUsize,
}

impl World<'_> {
    /// Takes every other page through its life, again and again.
    fn owner(&self, cpu: usize) {
        for round in 0..ROUNDS {
            for &page in PAGES.iter().skip(cpu).step_by(OWNERS) {
                self.live(Ipa::new(page), (round * OWNERS + cpu) as u64);
            }
        }
        self.owners.fetch_sub(1, Ordering::Release);
    }

    fn live(&self, page: Ipa, value: u64) {
        let data = self.machine.data();
        let range = IpaRange::entry(page, Level::L3);
        let mut frame = data.allocate(Level::L3).unwrap();
        data.write(frame.pa(), 0);
        while let Err(refused) = self
            .vm
            .map_page(page, frame, Attributes::RAM, DirtyState::Clean)
        {
            assert_eq!(refused.reason, MapError::Busy);
            frame = refused.frame;
            std::thread::yield_now();
        }
        self.store(page, value);
        self.migrate_page(page);
        self.vm.protect(range, Rights::READ).unwrap();
        let guest = self.machine.enter(&self.vm);
        assert_eq!(guest.read(page), Ok(value));
        assert!(guest.write(page, value + 1).is_err());
        let mut dirty = 0;
        self.vm.collect_dirty(range, |range| dirty += range.pages());
        assert_eq!(dirty, 1);
        let mut unmapped = 0;
        self.vm
            .unmap(range, |leaf| {
                unmapped += 1;
                assert_eq!(data.read(leaf.descriptor.output()), value);
                data.release(leaf.frame);
            })
            .unwrap();
        assert_eq!(unmapped, 1);
        assert!(guest.read(page).is_err());
    }

    fn store(&self, page: Ipa, value: u64) {
        let guest = self.machine.enter(&self.vm);
        while guest.write(page, value).is_err() {
            let answer = self
                .vm
                .resolve_fault(page, Access::Write, DirtyGranule::Page);
            assert_eq!(
                answer,
                Resolution::Resolved,
                "nobody else changes this page"
            );
        }
    }

    fn migrate_page(&self, page: Ipa) {
        let data = self.machine.data();
        let mut to = data.allocate(Level::L3).unwrap();
        let from = self.vm.query(page).unwrap().descriptor.output();
        while let Err(refused) = self.vm.migrate_page(page, from, to, &mut data.copier()) {
            assert_eq!(refused.reason, MigrateError::Busy);
            to = refused.frame;
            std::thread::yield_now();
        }
    }

    /// Frees tables, also those that another thread is about to use.
    fn sweep(&self) {
        while self.owners.load(Ordering::Acquire) > 0 {
            self.vm
                .free_empty_tables(IpaRange::entry(Ipa::new(0), Level::L1));
            std::thread::yield_now();
        }
    }

    /// Looks at tables that may go at any time.
    fn watch(&self) {
        for _ in 0..SWEEPS {
            if self.owners.load(Ordering::Acquire) == 0 {
                return;
            }
            let reader = self.vm.read();
            let root = reader.root(Ipa::new(0)).unwrap();
            match root.slot(Ipa::new(0)).map() {
                Ok(blocks) => {
                    for page in PAGES.map(Ipa::new) {
                        if let Ok(pages) = blocks.slot(page).map() {
                            let kind = pages.kind(page.index(Level::L3));
                            assert!(
                                !matches!(kind, EntryKind::Bad | EntryKind::Table(_)),
                                "{kind:?}"
                            );
                        }
                    }
                }
                Err(absent) => assert!(matches!(absent, Absent::Empty | Absent::Busy(_))),
            }
            drop(reader);
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_few_pages_and_everybody() {
    let machine = FakeMachine::new(Setup {
        cpus: OWNERS + 2,
        table_frames: 12,
        data_pages: 16,
        ..Setup::default()
    });
    let world = World {
        machine: &machine,
        vm: Stage2::new(&machine, machine.config(1)).unwrap(),
        owners: AtomicUsize::new(OWNERS),
    };
    std::thread::scope(|scope| {
        let world = &world;
        let on_cpu = |cpu: usize, part: fn(&World<'_>, usize)| {
            scope.spawn(move || {
                let _cpu = world.machine.on_cpu(cpu);
                part(world, cpu);
            });
        };
        on_cpu(1, |world, cpu| world.owner(cpu));
        on_cpu(OWNERS, |world, _| world.sweep());
        on_cpu(OWNERS + 1, |world, _| world.watch());
        world.owner(0);
    });
    let World { vm, .. } = world;
    vm.free_empty_tables(IpaRange::entry(Ipa::new(0), Level::L1));
    let counted = |counter| machine.cpus().counted(counter);
    assert_eq!(
        counted(Counter::TablesInstalled),
        counted(Counter::TablesFreed)
    );
    assert_eq!(machine.frames().outstanding(), 1);
    assert_eq!(machine.data().outstanding(), 0);
    machine.leave_all();
    vm.destroy(|leaf| panic!("{leaf:?} was left")).unwrap();
}
