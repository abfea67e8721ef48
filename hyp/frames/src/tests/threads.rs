//! Many CPUs at once.

use super::super::{Fill, LinearMap, Order, Use};
use super::audit::audit;
use super::{MIB, allocator, data, range};
use stage2::Pa;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

const ROUNDS: u32 = if cfg!(miri) { 60 } else { 20_000 };

/// A small generator of numbers for tests: a thread's own, so that threads share nothing with it.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn no_frame_has_two_owners() {
    let frames = &allocator(&[range(16, 4)], 3);
    let before = audit(frames);
    let owners: &Vec<AtomicU32> = &(0..1024).map(|_| AtomicU32::new(0)).collect();
    let claim = |pa: Pa, order: Order, from: u32, to: u32| {
        for page in 0..u64::from(order.frames()) {
            let owner = &owners[(pa.get() / 4096 + page) as usize - 4096];
            assert_eq!(owner.swap(to, Ordering::Relaxed), from);
        }
    };
    // Blocks that one thread allocated and another may free.
    let handed_on = &Mutex::new(Vec::<(Pa, Order)>::new());
    thread::scope(|scope| {
        for cpu in 0..3 {
            scope.spawn(move || {
                let mut numbers = Numbers(cpu as u64);
                let mut mine = Vec::new();
                for _ in 0..ROUNDS {
                    let order = Order::new([0, 0, 0, 1, 4][numbers.below(5)]).unwrap();
                    match numbers.below(4) {
                        0 | 1 => {
                            let used = data(cpu as u16, 1);
                            if let Ok(pa) = frames.alloc(cpu, order, Fill::Dirty, used) {
                                claim(pa, order, 0, cpu as u32 + 1);
                                mine.push((pa, order));
                            }
                        }
                        2 if !mine.is_empty() => {
                            let (pa, order) = mine.swap_remove(numbers.below(mine.len()));
                            claim(pa, order, cpu as u32 + 1, 9);
                            handed_on.lock().unwrap().push((pa, order));
                        }
                        _ => {
                            let other = handed_on.lock().unwrap().pop();
                            if let Some((pa, order)) = other {
                                claim(pa, order, 9, 0);
                                frames.free(cpu, pa, order).unwrap();
                            }
                        }
                    }
                }
                for (pa, order) in mine {
                    claim(pa, order, cpu as u32 + 1, 0);
                    frames.free(cpu, pa, order).unwrap();
                }
            });
        }
    });
    for (pa, order) in handed_on.lock().unwrap().drain(..) {
        frames.free(0, pa, order).unwrap();
    }
    frames.drain_caches();
    assert_eq!(audit(frames).free_blocks, before.free_blocks);
}

#[test]
fn of_two_frees_one_is_refused() {
    let (frames, count) = (&allocator(&[range(16, 4)], 2), ROUNDS.min(900) as usize);
    for _ in 0..ROUNDS.div_ceil(100) {
        let all: &Vec<Pa> = &(0..count)
            .map(|_| {
                frames
                    .alloc(0, Order::PAGE, Fill::Dirty, Use::Table)
                    .unwrap()
            })
            .collect();
        // Both free the same frames in the same order, side by side.
        let ready = &Barrier::new(2);
        let free_all = move |cpu| {
            ready.wait();
            let freed = |pa: &&Pa| frames.free(cpu, **pa, Order::PAGE).is_ok();
            all.iter().filter(freed).count()
        };
        let freed = thread::scope(|scope| {
            let other = scope.spawn(move || free_all(1));
            free_all(0) + other.join().unwrap()
        });
        assert_eq!(freed, count);
    }
    audit(frames);
}

#[test]
fn isolation_gathers_a_block_while_others_allocate_and_free() {
    const BLOCK: u64 = 18 * MIB;
    let frames = &allocator(&[range(16, 6)], 3);
    let isolated = &AtomicU32::new(0);
    thread::scope(|scope| {
        for cpu in 0..2 {
            scope.spawn(move || {
                let mut numbers = Numbers(cpu as u64);
                let mut mine = Vec::<Pa>::new();
                while isolated.load(Ordering::Relaxed) < 3 {
                    if mine.len() < 500 && numbers.below(8) < 5 {
                        let announced = isolated.load(Ordering::Acquire) == 1;
                        let used = data(cpu as u16, 1);
                        let pa = frames.alloc(cpu, Order::PAGE, Fill::Dirty, used).unwrap();
                        let still = isolated.load(Ordering::Acquire) == 1;
                        let inside = pa.get() / (2 * MIB) == BLOCK / (2 * MIB);
                        assert!(!(announced && still && inside), "allocated while isolated");
                        mine.push(pa);
                    } else if !mine.is_empty() {
                        let pa = mine.swap_remove(numbers.below(mine.len()));
                        frames.free(cpu, pa, Order::PAGE).unwrap();
                    }
                    thread::yield_now();
                }
                for pa in mine {
                    frames.free(cpu, pa, Order::PAGE).unwrap();
                }
            });
        }
        for _ in 0..ROUNDS / 10 {
            let Ok(isolation) = frames.isolate(Pa::new(BLOCK)) else {
                continue;
            };
            isolated.store(1, Ordering::Release);
            thread::yield_now();
            let outcome = isolation.finish(Use::Hypervisor);
            isolated.store(0, Ordering::Release);
            match outcome {
                Ok(pa) => frames.free(2, pa, Order::BLOCK_2M).unwrap(),
                Err(isolation) => drop(isolation),
            }
        }
        isolated.store(3, Ordering::Relaxed);
    });
    frames.drain_caches();
    assert_eq!(audit(frames).isolated, 0);
}

/// A frame that is handed on by its state alone: under Miri, stores that are not ordered by it are
/// found.
#[test]
fn who_changes_the_use_of_a_frame_finds_what_was_stored_there() {
    let frames = &allocator(&[range(16, 4)], 2);
    let (lies, taken) = (super::reserved(1, 7), data(1, 7));
    let pa = frames.alloc(0, Order::PAGE, Fill::Zeroed, lies).unwrap();
    let rounds = ROUNDS.min(2000);
    thread::scope(|scope| {
        for cpu in 0..2 {
            scope.spawn(move || {
                let mut done = 0;
                while done < rounds {
                    if !frames.try_change_use(cpu, pa, lies, taken) {
                        thread::yield_now();
                        continue;
                    }
                    let word = frames.map().pointer(pa).cast::<u32>();
                    // SAFETY: a word of a frame whose use this thread has just changed: it is its
                    // owner.
                    unsafe { *word.as_ptr() += 1 };
                    assert!(frames.try_change_use(cpu, pa, taken, lies));
                    done += 1;
                }
            });
        }
    });
    let word = frames.map().pointer(pa).cast::<u32>();
    // SAFETY: as above; the threads have ended.
    assert_eq!(unsafe { word.read() }, 2 * rounds);
}
