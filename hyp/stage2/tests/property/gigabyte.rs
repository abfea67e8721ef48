//! Random operations on a gigabyte that is a block, a table of blocks, or deeper, with the same
//! frame behind each address throughout. A few pages are looked at after each operation.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use stage2::fake::{FakeData, FakeMachine, Setup};
use stage2::{
    Attributes, CollapseError, DirtyState, Environment, Ipa, IpaRange, Level, MapError, PAGE_SIZE,
    Pa, Rights, SplitError, Stage2,
};

const GIGABYTE: u64 = Level::L1.size();
const BLOCK: u64 = Level::L2.size();
const BASE: Ipa = Ipa::new(3 * GIGABYTE);

/// Pages at the ends of the gigabyte and of some of its blocks.
const PROBES: [u64; 10] = [
    0,
    PAGE_SIZE,
    BLOCK - PAGE_SIZE,
    BLOCK,
    2 * BLOCK - PAGE_SIZE,
    7 * BLOCK + 100 * PAGE_SIZE,
    8 * BLOCK,
    GIGABYTE - BLOCK - PAGE_SIZE,
    GIGABYTE - BLOCK,
    GIGABYTE - PAGE_SIZE,
];

#[derive(Clone, Debug)]
enum Op {
    MapGigabyte,
    /// Maps what is not mapped, in blocks where whole ones are missing.
    MapMissing,
    Split(Level, u64),
    Collapse(Level, u64),
    /// Collapses everything, from below.
    CollapseAll,
    Unmap(u64, u64),
    Protect(u64, u64, bool),
    FreeEmptyTables,
}

fn offset() -> impl Strategy<Value = u64> {
    prop::sample::select(PROBES.to_vec())
}

fn op() -> BoxedStrategy<Op> {
    let level = prop_oneof![Just(Level::L1), Just(Level::L2)];
    let size = prop_oneof![
        2 => Just(PAGE_SIZE),
        1 => Just(BLOCK),
        1 => Just(3 * BLOCK + PAGE_SIZE),
        1 => Just(GIGABYTE),
    ];
    prop_oneof![
        Just(Op::MapGigabyte),
        Just(Op::MapMissing),
        (level.clone(), offset()).prop_map(|(level, at)| Op::Split(level, at)),
        (level, offset()).prop_map(|(level, at)| Op::Collapse(level, at)),
        Just(Op::CollapseAll),
        (offset(), size.clone()).prop_map(|(at, size)| Op::Unmap(at, size)),
        (offset(), size, any::<bool>()).prop_map(|(at, size, write)| Op::Protect(at, size, write)),
        Just(Op::FreeEmptyTables),
    ]
    .boxed()
}

struct World<'m> {
    machine: &'m FakeMachine,
    vm: Stage2<&'m FakeMachine>,
    frames: Pa,
    /// Of each probe, if it is mapped, whether stores are allowed.
    probes: [Option<bool>; PROBES.len()],
    mapped: u64,
}

fn range(offset: u64, size: u64) -> IpaRange {
    let end = (offset + size).min(GIGABYTE);
    IpaRange::new(BASE.offset(offset), BASE.offset(end)).unwrap()
}

impl World<'_> {
    fn probes_in(&mut self, range: IpaRange) -> impl Iterator<Item = &mut Option<bool>> {
        let all = self.probes.iter_mut().zip(PROBES);
        all.filter(move |(_, at)| range.covers(&IpaRange::entry(BASE.offset(*at), Level::L3)))
            .map(|(probe, _)| probe)
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::MapGigabyte => {
                let frame = FakeData::frame(self.frames, Level::L1);
                match self
                    .vm
                    .map_block(BASE, frame, Attributes::RAM, DirtyState::Dirty)
                {
                    Ok(()) => {
                        assert_eq!(self.mapped, 0);
                        self.mapped = GIGABYTE;
                        self.probes = [Some(true); PROBES.len()];
                    }
                    Err(refused) => assert!(matches!(refused.reason, MapError::Occupied(_))),
                }
            }
            Op::MapMissing => self.map_missing(),
            Op::Split(level, at) => {
                let was = self.level_at(at);
                let result = self.vm.split_block(BASE.offset(at), level);
                let expected = if was == Some(level) {
                    Ok(())
                } else {
                    Err(SplitError::NoBlock)
                };
                assert_eq!(result, expected);
            }
            Op::Collapse(level, at) => drop(self.collapse(level, at)),
            Op::CollapseAll => self.collapse_all(),
            Op::Unmap(at, size) => {
                let mut unmapped = 0;
                let range = range(at, size);
                self.vm
                    .unmap(range, |leaf| unmapped += leaf.level().size())
                    .unwrap();
                self.mapped -= unmapped;
                self.probes_in(range).for_each(|probe| *probe = None);
            }
            Op::Protect(at, size, write) => {
                let rights = Rights {
                    write,
                    ..Rights::ALL
                };
                let range = range(at, size);
                self.vm.protect(range, rights).unwrap();
                self.probes_in(range)
                    .flatten()
                    .for_each(|probe| *probe = write);
            }
            Op::FreeEmptyTables => drop(self.vm.free_empty_tables(range(0, GIGABYTE))),
        }
    }

    /// Of which level the leaf is that maps this, if any.
    fn level_at(&self, offset: u64) -> Option<Level> {
        let entry = self.vm.query(BASE.offset(offset))?;
        matches!(entry.kind(), stage2::EntryKind::Leaf(_)).then_some(entry.level)
    }

    fn map_missing(&mut self) {
        for block in (0..GIGABYTE).step_by(BLOCK as usize) {
            let frame = FakeData::frame(self.frames.offset(block), Level::L2);
            let ipa = BASE.offset(block);
            match self
                .vm
                .map_block(ipa, frame, Attributes::RAM, DirtyState::Dirty)
            {
                Ok(()) => self.mapped += BLOCK,
                Err(_) if self.level_at(block) == Some(Level::L1) => return,
                Err(_) if self.level_at(block) == Some(Level::L2) => {}
                Err(_) => self.map_missing_pages(block),
            }
            self.probes_in(range(block, BLOCK))
                .for_each(|probe| *probe = Some(probe.unwrap_or(true)));
        }
    }

    fn map_missing_pages(&mut self, block: u64) {
        for page in (block..block + BLOCK).step_by(PAGE_SIZE as usize) {
            let frame = FakeData::frame(self.frames.offset(page), Level::L3);
            let result =
                self.vm
                    .map_page(BASE.offset(page), frame, Attributes::RAM, DirtyState::Dirty);
            self.mapped += if result.is_ok() { PAGE_SIZE } else { 0 };
        }
    }

    fn collapse(&self, level: Level, offset: u64) -> Result<(), CollapseError> {
        let result = self.vm.collapse_in_place(BASE.offset(offset), level);
        assert!(result.is_err() || self.level_at(offset) == Some(level));
        result
    }

    /// Everything is mapped to the right frames, so with equal rights it becomes one block.
    fn collapse_all(&mut self) {
        self.apply(&Op::MapMissing);
        self.apply(&Op::Protect(0, GIGABYTE, true));
        for block in (0..GIGABYTE).step_by(BLOCK as usize) {
            let _ = self.collapse(Level::L2, block);
        }
        let _ = self.collapse(Level::L1, 0);
        assert_eq!(self.level_at(BLOCK), Some(Level::L1));
    }

    fn check(&self) {
        let mut mapped = 0;
        self.vm.walk(range(0, GIGABYTE), |entry| {
            if let stage2::EntryKind::Leaf(pa) = entry.kind() {
                assert_eq!(pa.get() - self.frames.get(), entry.ipa.get() - BASE.get());
                mapped += entry.level.size();
            }
        });
        assert_eq!(mapped, self.mapped);
        for cpu in 0..2 {
            let guest = self.machine.enter_on(cpu, &self.vm);
            for (at, probe) in PROBES.into_iter().zip(self.probes) {
                assert_eq!(guest.read(BASE.offset(at)).ok(), probe.map(|_| at));
                // All is mapped as written already, but what was protected in between.
                assert!(probe == Some(true) || guest.write(BASE.offset(at), at).is_err());
            }
        }
    }
}

fn run(start: Level, direct_size_change: bool, ops: &[Op]) {
    let machine = FakeMachine::new(Setup {
        ipa_bits: 40,
        start,
        direct_size_change,
        table_frames: 600,
        data_pages: (GIGABYTE / PAGE_SIZE) as usize,
        ..Setup::default()
    });
    let frames = machine.data().allocate(Level::L1).unwrap().into_pa();
    for at in PROBES {
        machine.data().write(frames.offset(at), at);
    }
    let mut world = World {
        machine: &machine,
        vm: Stage2::new(&machine, machine.config(1)).unwrap(),
        frames,
        probes: [None; PROBES.len()],
        mapped: 0,
    };
    for op in ops {
        world.apply(op);
        world.check();
    }
    // Nothing is kept for blocks that are no more.
    world.apply(&Op::Unmap(0, GIGABYTE));
    let vm = world.vm;
    vm.free_empty_tables(vm.geometry().range());
    assert_eq!(
        machine.frames().outstanding(),
        1 << vm.geometry().root_order()
    );
    machine.leave_all();
    vm.destroy(|leaf| panic!("{leaf:?} was left")).unwrap();
    assert_eq!(machine.frames().outstanding(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(30),
        ..ProptestConfig::default()
    })]

    #[test]
    #[cfg_attr(miri, ignore = "takes minutes when interpreted")]
    fn a_gigabyte(
        start in prop_oneof![Just(Level::L0), Just(Level::L1)],
        direct: bool,
        ops in prop::collection::vec(op(), 1..16),
    ) {
        run(start, direct, &ops);
    }
}

/// Rule: a block that becomes part of a larger one needs no table kept for it any more. Taken out
/// by `26-kept-for-blocks-that-are-gone.patch`.
#[test]
#[cfg_attr(miri, ignore = "takes minutes when interpreted")]
fn race_26_nothing_is_kept_for_blocks_that_are_gone() {
    let split = [
        Op::MapGigabyte,
        Op::Split(Level::L1, 0),
        Op::Split(Level::L2, 0),
    ];
    let collapse = [Op::CollapseAll, Op::Split(Level::L1, 0)];
    run(Level::L1, false, &[split.as_slice(), &collapse].concat());
}
