//! Random sequences of calls against a simple model: a map of what is allocated.

use super::super::{Fill, FrameAllocator, Isolation, Order, Use};
use super::audit::audit;
use super::{MIB, allocator, data, range, reserved};
use crate::testing::Arena;
use proptest::prelude::*;
use stage2::Pa;
use std::collections::BTreeMap;

const CPUS: usize = 2;
/// MiB of memory behind the hole: more than one 2 MiB block, and less than two where it is
/// interpreted.
const RAM: u64 = if cfg!(miri) { 3 } else { 13 };
/// Fewer than so many pages are zeroed ahead by one call.
const AHEAD: usize = if cfg!(miri) { 48 } else { 700 };

#[derive(Clone, Copy, Debug)]
enum Call {
    Alloc {
        cpu: usize,
        order: Order,
        fill: Fill,
        used: Use,
    },
    Free {
        cpu: usize,
        which: usize,
        zeroed: bool,
    },
    Split {
        which: usize,
    },
    Join {
        which: usize,
    },
    ChangeUse {
        cpu: usize,
        which: usize,
        to: Use,
    },
    FreeSomethingElse {
        cpu: usize,
        page: u64,
    },
    Isolate {
        block: u64,
    },
    FreeIsolated {
        cpu: usize,
        which: usize,
    },
    EndIsolation {
        which: usize,
        used: Use,
    },
    Drain,
    ZeroAhead {
        cpu: usize,
        pages: usize,
    },
}

fn uses() -> impl Strategy<Value = Use> {
    prop_oneof![
        Just(Use::Hypervisor),
        Just(Use::Table),
        (0..4u16, 0..1u64 << 30).prop_map(|(vm, page)| data(vm, page)),
        (0..4u16, 0..1u64 << 30).prop_map(|(vm, page)| reserved(vm, page)),
    ]
}

fn calls() -> impl Strategy<Value = Call> {
    let cpu = 0..CPUS + 1; // One more than there are caches.
    let which = any::<usize>();
    let order = prop_oneof![6 => Just(0), 3 => 1..9u8, 2 => Just(9), 1 => 10..12u8]
        .prop_map(|order| Order::new(order).expect("an order"));
    let fill = prop_oneof![Just(Fill::Zeroed), Just(Fill::Dirty)];
    prop_oneof![
        10 => (cpu.clone(), order, fill, uses())
            .prop_map(|(cpu, order, fill, used)| Call::Alloc { cpu, order, fill, used }),
        8 => (cpu.clone(), which, any::<bool>())
            .prop_map(|(cpu, which, zeroed)| Call::Free { cpu, which, zeroed }),
        2 => which.prop_map(|which| Call::Split { which }),
        2 => which.prop_map(|which| Call::Join { which }),
        2 => (cpu.clone(), which, uses())
            .prop_map(|(cpu, which, to)| Call::ChangeUse { cpu, which, to }),
        1 => (cpu.clone(), 0..4096u64)
            .prop_map(|(cpu, page)| Call::FreeSomethingElse { cpu, page }),
        2 => (0..8u64).prop_map(|block| Call::Isolate { block }),
        2 => (cpu.clone(), which).prop_map(|(cpu, which)| Call::FreeIsolated { cpu, which }),
        2 => (which, uses()).prop_map(|(which, used)| Call::EndIsolation { which, used }),
        1 => Just(Call::Drain),
        1 => (cpu, 0..AHEAD).prop_map(|(cpu, pages)| Call::ZeroAhead { cpu, pages }),
    ]
}

/// The allocator, and what it should have allocated and isolated.
struct Model<'a> {
    frames: &'a FrameAllocator<Arena>,
    allocated: BTreeMap<Pa, (Order, Use)>,
    isolations: Vec<Isolation<'a, Arena>>,
}

impl<'a> Model<'a> {
    fn apply(&mut self, call: Call) {
        let frames = self.frames;
        match call {
            Call::Alloc {
                cpu,
                order,
                fill,
                used,
            } => {
                self.alloc(cpu, order, fill, used);
            }
            Call::Free { cpu, which, zeroed } => {
                if let Some((pa, (order, _))) = self.pick(which) {
                    self.free(cpu, pa, order, zeroed);
                }
            }
            Call::Split { which } => self.split(which),
            Call::Join { which } => self.join(which),
            Call::ChangeUse { cpu, which, to } => {
                if let Some((pa, (order, used))) = self.pick(which) {
                    frames.change_use(cpu, pa, used, to).expect("it is used so");
                    self.allocated.insert(pa, (order, to));
                }
            }
            Call::FreeSomethingElse { cpu, page } => {
                let pa = Pa::new(16 * MIB + page * 4096);
                let block = Pa::new(pa.get() & !(2 * MIB - 1));
                match (self.allocated.get(&pa), self.allocated.get(&block)) {
                    (Some((Order::PAGE, _)), _) => {}
                    (_, Some(&(Order::BLOCK_2M, used @ Use::Data { .. }))) => {
                        frames.free(cpu, pa, Order::PAGE).expect("a guest's data");
                        self.note_single(block, Order::BLOCK_2M, used);
                        self.allocated.remove(&pa);
                    }
                    _ => assert!(frames.free(cpu, pa, Order::PAGE).is_err()),
                }
            }
            Call::Isolate { block } => {
                self.isolations
                    .extend(frames.isolate(Pa::new((16 + 2 * block) * MIB)));
            }
            Call::FreeIsolated { cpu, which } => self.free_isolated(cpu, which),
            Call::EndIsolation { which, used } => self.end_isolation(which, used),
            Call::Drain => frames.drain_caches(),
            Call::ZeroAhead { cpu, pages } => {
                (0..pages).find(|_| !frames.prezero(cpu));
            }
        }
    }

    fn pick(&self, which: usize) -> Option<(Pa, (Order, Use))> {
        let index = which.checked_rem(self.allocated.len())?;
        self.allocated
            .iter()
            .nth(index)
            .map(|(pa, block)| (*pa, *block))
    }

    fn alloc(&mut self, cpu: usize, order: Order, fill: Fill, used: Use) {
        let Ok(pa) = self.frames.alloc(cpu, order, fill, used) else {
            return;
        };
        let end = pa.offset(order.bytes());
        if let Some((other, (other_order, _))) = self.allocated.range(..end).next_back() {
            assert!(
                other.offset(other_order.bytes()) <= pa,
                "{pa} and {other} overlap"
            );
        }
        for isolation in &self.isolations {
            let start = isolation.pa();
            assert!(
                end <= start || start.offset(2 * MIB) <= pa,
                "{pa} is isolated"
            );
        }
        if fill == Fill::Zeroed {
            assert!(self.frames.map().is_zero(pa, order.frames()));
        }
        self.frames.map().scribble(pa, order.frames());
        self.allocated.insert(pa, (order, used));
    }

    fn free(&mut self, cpu: usize, pa: Pa, order: Order, zeroed: bool) {
        self.allocated.remove(&pa);
        if zeroed && order == Order::PAGE {
            // SAFETY: the frame is allocated, and the test's.
            unsafe { super::super::LinearMap::zero(self.frames.map(), pa, 4096) };
            self.frames.free_zeroed(cpu, pa).expect("it is allocated");
        } else {
            self.frames.free(cpu, pa, order).expect("it is allocated");
        }
        assert!(self.frames.free(cpu, pa, order).is_err(), "freed twice");
    }

    fn split(&mut self, which: usize) {
        let Some((pa, (order, used))) = self.pick(which) else {
            return;
        };
        self.frames.split(pa, order).expect("it is of this order");
        self.note_single(pa, order, used);
    }

    fn note_single(&mut self, pa: Pa, order: Order, used: Use) {
        for page in 0..order.frames() {
            let at = pa.offset(u64::from(page) * 4096);
            self.allocated.insert(at, (Order::PAGE, used.at(page)));
        }
    }

    fn join(&mut self, which: usize) {
        let Some((pa, (_, used))) = self.pick(which) else {
            return;
        };
        let order = Order::new(pa.get().trailing_zeros().saturating_sub(12).min(9) as u8);
        let order = order.expect("an order");
        let frames = |page: u32| pa.offset(u64::from(page) * 4096);
        let alike = (0..order.frames())
            .all(|page| self.allocated.get(&frames(page)) == Some(&(Order::PAGE, used.at(page))));
        assert_eq!(self.frames.join(pa, order).is_ok(), alike);
        if alike {
            for page in 1..order.frames() {
                self.allocated.remove(&frames(page));
            }
            self.allocated.insert(pa, (order, used));
        }
    }

    /// Frees what is still in use in an isolated block, as if it had been moved away.
    fn free_isolated(&mut self, cpu: usize, which: usize) {
        let Some(index) = which.checked_rem(self.isolations.len()) else {
            return;
        };
        let in_use: Vec<_> = self.isolations[index].in_use().collect();
        for (pa, used, order) in in_use {
            assert_eq!(self.allocated.get(&pa), Some(&(order, used)));
            self.free(cpu, pa, order, false);
        }
    }

    fn end_isolation(&mut self, which: usize, used: Use) {
        let Some(index) = which.checked_rem(self.isolations.len()) else {
            return;
        };
        let isolation = self.isolations.swap_remove(index);
        let empty = isolation.held() == 512;
        let finished = isolation.finish(used);
        assert_eq!(finished.is_ok(), empty);
        if let Ok(pa) = finished {
            self.allocated.insert(pa, (Order::BLOCK_2M, used));
        }
    }

    fn check(&self) {
        audit(self.frames);
        for (pa, (order, used)) in &self.allocated {
            let last = order.frames() - 1;
            assert_eq!(self.frames.use_of(*pa), Some(*used));
            let end = pa.offset(u64::from(last) * 4096);
            assert_eq!(self.frames.use_of(end), Some(used.at(last)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_allocator_does_what_the_model_does(
        calls in prop::collection::vec(calls(), 1..if cfg!(miri) { 32 } else { 300 }),
    ) {
        // Not a power of two long, and with a hole: 17 to 18 MiB is missing.
        let frames = allocator(&[range(16, 1), range(18, RAM)], CPUS);
        let before = audit(&frames);
        let mut model = Model { frames: &frames, allocated: BTreeMap::new(), isolations: vec![] };
        for call in calls {
            model.apply(call);
        }
        model.check();
        model.isolations.clear();
        model.check();
        while let Some((pa, (order, _))) = model.pick(0) {
            model.free(0, pa, order, false);
        }
        frames.drain_caches();
        prop_assert_eq!(audit(&frames).free_blocks, before.free_blocks);
    }
}
