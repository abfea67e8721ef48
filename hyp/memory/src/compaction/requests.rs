//! What compaction does, done to a guest's memory because the guest asks for it.
//!
//! Owns the answers to the calls of [`psci::table_calls`]. Nothing that a guest asks for reaches
//! memory that is not its own, and what its memory holds stays as it is.

use super::collapse::{collapse_into, new_block};
use super::defragment::replace_frame_by;
use crate::page_copier::PageCopier;
use crate::{GuestMemory, Parts};
use core::ops::Range;
use frames::Fill;
use psci::calls::{DENIED, INVALID_PARAMETERS, NOT_SUPPORTED};
use psci::table_calls::{MOST_FRAMES, Step, TableCall};
use stage2::{
    Access, CopyPages as _, CopyPlan, DirtyGranule, EntryKind, Environment, GuestFrame, GuestPage,
    Ipa, IpaRange, Level, Observer, PAGE_SIZE, Pa, Unmapped, Unreadable,
};

/// What an answer may hold behind its status, for the registers from x1 on: a bit for each page of
/// 2 MiB, or ticks in the first.
pub type Values = [u64; 8];

/// The status of a call that did what it was asked for.
const DONE: u64 = 0;

/// Answers the call with the guest's x0 to x3: returns its status, for x0, and changes `values` if
/// there is more to tell. Called outside read sections, with no lock held.
pub fn answer<P: Parts>(
    memory: &GuestMemory<'_, P>,
    arguments: [u64; 4],
    values: &mut Values,
) -> u64 {
    if !memory.allows_table_calls() {
        return NOT_SUPPORTED;
    }
    TableCall::new(arguments)
        .and_then(|call| perform(memory, call, values))
        .unwrap_or(INVALID_PARAMETERS)
}

fn status(done: bool) -> u64 {
    if done { DONE } else { DENIED }
}

/// Puts ticks where they are told, if there are any.
fn told(ticks: Option<u64>, values: &mut Values) -> u64 {
    if let Some(ticks) = ticks {
        *values = [ticks, 0, 0, 0, 0, 0, 0, 0];
    }
    status(ticks.is_some())
}

/// Does it, unless it is about what is not the guest's RAM.
fn perform<P: Parts>(
    memory: &GuestMemory<'_, P>,
    call: TableCall,
    values: &mut Values,
) -> Option<u64> {
    let (machine, stage2) = (memory.machine(), memory.stage2());
    let ram = |range: IpaRange| Some(range).filter(|range| memory.ram().covers(range));
    let region = |ipa| ram(entry(memory, ipa, Level::L2)?);
    Some(match call {
        TableCall::Log(on) => {
            memory.set_logging(on);
            DONE
        }
        TableCall::Clean(range) => {
            memory.collect_dirty(ram(range)?, |_| {});
            DONE
        }
        TableCall::Collect(range) => collect(memory, ram(range)?, values),
        TableCall::Split(ipa) => {
            status(stage2.split_block(region(ipa)?.start(), Level::L2).is_ok())
        }
        TableCall::CollapseInPlace(ipa) => {
            let region = region(ipa)?;
            status(stage2.collapse_in_place(region.start(), Level::L2).is_ok())
        }
        TableCall::CollapseByCopying(ipa, stores) => {
            told(collapse_by_copying(memory, region(ipa)?, stores), values)
        }
        TableCall::Move(ipa, turns) => {
            move_page(memory, ram(entry(memory, ipa, Level::L3)?)?.start(), turns)
        }
        TableCall::Grace => {
            stage2.synchronize();
            DONE
        }
        TableCall::YieldCpu => {
            machine.yield_now();
            DONE
        }
        TableCall::Cost(step, count) => told(cost(memory, step, count), values),
    })
}

/// What an entry of `level` covers round `ipa`; none if that is no RAM.
fn entry<P: Parts>(memory: &GuestMemory<'_, P>, ipa: Ipa, level: Level) -> Option<IpaRange> {
    let ram = memory.ram();
    (ram.start() <= ipa && ipa < ram.end()).then(|| IpaRange::entry(ipa, level))
}

fn collect<P: Parts>(memory: &GuestMemory<'_, P>, range: IpaRange, pages: &mut Values) -> u64 {
    *pages = [0; 8];
    memory.collect_dirty(range, |dirty| {
        let first = (dirty.start().get() - range.start().get()) / PAGE_SIZE;
        for page in first..first + dirty.pages() {
            if let Some(word) = pages.get_mut(page as usize / 64) {
                *word |= 1 << (page % 64);
            }
        }
    });
    let count = pages
        .iter()
        .map(|word: &u64| word.count_ones())
        .sum::<u32>();
    count.into()
}

/// Collapses a region; returns for how many ticks a store would have been held up at most, if it
/// could be done.
// On its own: what it has on the stack is not for every other call to make room for.
#[inline(never)]
fn collapse_by_copying<P: Parts>(
    memory: &GuestMemory<'_, P>,
    region: IpaRange,
    stores: u64,
) -> Option<u64> {
    let plan = CopyPlan {
        max_empty: stage2::ENTRIES - 1,
        max_hot: super::Policy::MAX_HOT,
        rounds: super::Policy::ROUNDS,
    };
    let block = new_block(memory, region.start())?;
    let mut contents = StoredTo {
        copier: PageCopier::new(memory.machine()),
        memory,
        pages: region.start()..region.start().offset(stores * PAGE_SIZE),
        copies: 0,
    };
    collapse_into(memory, region, block, plan, &mut contents).ok()?;
    Some(contents.copier.longest_hold_up())
}

/// Copies, and answers write faults of these pages after all were copied once.
struct StoredTo<'a, 'm, P: Parts> {
    copier: PageCopier<'m, P>,
    memory: &'a GuestMemory<'m, P>,
    pages: Range<Ipa>,
    copies: usize,
}

impl<P: Parts> StoredTo<'_, '_, P> {
    fn copied(&mut self) {
        self.copies += 1;
        if self.copies == stage2::ENTRIES {
            let stage2 = self.memory.stage2();
            let mut page = self.pages.start;
            while page < self.pages.end {
                // Whatever it says, nobody waits for the page.
                let _ = stage2.resolve_fault(page, Access::Write, DirtyGranule::Leaf);
                page = page.offset(PAGE_SIZE);
                self.memory.machine().cond_resched();
            }
        }
    }
}

impl<P: Parts> stage2::CopyPages for StoredTo<'_, '_, P> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        self.copier.copy(from, to)?;
        self.copied();
        Ok(())
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
        self.copied();
    }

    fn held_up(&mut self, ticks: u64) {
        self.copier.held_up(ticks);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.copier.release(leaf);
    }
}

/// The frame of the page at `ipa`, if it is mapped as a page.
fn page_at<P: Parts>(memory: &GuestMemory<'_, P>, ipa: Ipa) -> Option<Pa> {
    let entry = memory.stage2().query(ipa)?;
    match entry.kind() {
        EntryKind::Leaf(pa) if entry.level == Level::L3 => Some(pa),
        _ => None,
    }
}

fn move_page<P: Parts>(memory: &GuestMemory<'_, P>, ipa: Ipa, turns: u64) -> u64 {
    let Some(from) = page_at(memory, ipa) else {
        return DENIED;
    };
    let copier = PageCopier::new(memory.machine());
    let moved = replace_frame_by(
        memory,
        ipa,
        from,
        &mut Interrupted {
            copier,
            memory,
            turns,
        },
    );
    status(moved.is_some_and(|moved| moved.is_ok()))
}

/// Copies, after other threads had their turns.
struct Interrupted<'a, 'm, P: Parts> {
    copier: PageCopier<'m, P>,
    memory: &'a GuestMemory<'m, P>,
    turns: u64,
}

impl<P: Parts> stage2::CopyPages for Interrupted<'_, '_, P> {
    fn copy(&mut self, from: GuestPage<'_>, to: GuestPage<'_>) -> Result<(), Unreadable> {
        (0..self.turns).for_each(|_| self.memory.machine().yield_now());
        self.copier.copy(from, to)
    }

    fn zero(&mut self, to: GuestPage<'_>) {
        self.copier.zero(to);
    }

    fn release(&mut self, leaf: Unmapped) {
        self.copier.release(leaf);
    }
}

/// Times a step; none if there are too few frames. Those it takes go back.
fn cost<P: Parts>(memory: &GuestMemory<'_, P>, step: Step, count: usize) -> Option<u64> {
    let (machine, clock) = (memory.machine(), || {
        memory.stage2().env().observer().clock()
    });
    let contents = match step {
        Step::Allocate | Step::Copy => Fill::Dirty,
        Step::AllocateZeroed => Fill::Zeroed,
    };
    let ipa = memory.ram().start();
    let allocate = |frame: &mut Option<GuestFrame>| {
        let taken = machine.alloc_for(memory.vm(), ipa, Level::L3, contents);
        *frame = taken.ok();
    };
    let mut room = [const { None }; MOST_FRAMES];
    let frames = room.get_mut(..count).unwrap_or_default();
    let begin = clock();
    frames.iter_mut().for_each(allocate);
    let mut ticks = clock().wrapping_sub(begin);
    if step == Step::Copy {
        let mut copier = PageCopier::new(machine);
        let begin = clock();
        for pair in frames.chunks_exact(2) {
            if let [Some(from), Some(to)] = pair {
                let (from, to) = (from.first_page(), to.first_page());
                copier.copy(from, to).ok()?;
                copier.copy(to, from).ok()?;
            }
        }
        ticks = clock().wrapping_sub(begin);
    }
    let complete = frames.iter().all(Option::is_some);
    let taken = frames.iter_mut().filter_map(Option::take);
    taken.for_each(|frame| machine.free_of_guest(frame));
    complete.then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GUEST, Host, RAM, guest, level_at, machine, page, store};
    use bootargs::HugePolicy;
    use psci::table_calls as calls;

    fn status(memory: &GuestMemory<'_, Host>, function: u32, first: u64, second: u64) -> u64 {
        answer(memory, [function.into(), first, second, 0], &mut [0; 8])
    }

    #[test]
    fn tables_change_and_contents_stay() {
        let machine = machine();
        let memory = guest(&machine, HugePolicy::Never);
        let call = |function, second| status(&memory, function, page(5).get(), second);
        (0..512).for_each(|page| store(&memory, page, page + 1));
        let steps = [
            (calls::MOVE, Level::L3),
            (calls::COLLAPSE_BY_COPYING, Level::L2),
            (calls::SPLIT, Level::L3),
            (calls::COLLAPSE_IN_PLACE, Level::L2),
        ];
        for (function, level) in steps {
            assert_eq!(call(function, 0), 0, "{function:#x}");
            assert_eq!(level_at(&memory, 5), level, "{function:#x}");
            for number in 0..512 {
                assert_eq!(load(&memory, number), number + 1, "{function:#x}");
            }
        }
        // What is there is of another kind by now.
        assert_eq!(call(calls::MOVE, 0), DENIED);
        assert_eq!(call(calls::COLLAPSE_IN_PLACE, 0), DENIED);
        memory.destroy();
    }

    /// Copied again while the guest runs, or while it is held up: what is there stays.
    #[test]
    fn pages_that_are_stored_to_meanwhile_are_copied_again() {
        for stores in [1, 2, 3, 100, 512] {
            let machine = machine();
            let memory = guest(&machine, HugePolicy::Never);
            (0..512).for_each(|page| store(&memory, page, page + 1));
            let region = page(0).get();
            assert_eq!(
                status(&memory, calls::COLLAPSE_BY_COPYING, region, stores),
                0
            );
            assert_eq!(level_at(&memory, 5), Level::L2);
            (0..512).for_each(|number| assert_eq!(load(&memory, number), number + 1));
            memory.destroy();
        }
    }

    fn load(memory: &GuestMemory<'_, Host>, number: u64) -> u64 {
        use frames::LinearMap;
        let entry = memory.stage2().query(page(number)).expect("RAM");
        let EntryKind::Leaf(pa) = entry.kind() else {
            panic!("page {number} is gone");
        };
        let pa = pa.offset(page(number).get() & (entry.level.size() - 1));
        let word = memory.machine().allocator().map().pointer(pa).cast::<u64>();
        // SAFETY: a word of a page that is mapped for the guest, which is this thread.
        unsafe { word.read() }
    }

    /// Whatever the arguments are: an answer, and all frames are where they were.
    #[test]
    fn no_argument_leads_out_of_the_ram() {
        let machine = machine();
        let memory = guest(&machine, HugePolicy::Never);
        store(&memory, 0, 1);
        let used = || memory.machine().allocator().usage().free;
        let before = used();
        let end = RAM + GUEST;
        for function in calls::FIRST..=calls::LAST {
            for first in [
                0,
                4096,
                RAM - 1,
                RAM - 4096,
                end,
                end + 1,
                1 << 52,
                u64::MAX,
            ] {
                for second in [0, 1, 4096, 2 << 20, u64::MAX] {
                    let status = status(&memory, function, first, second);
                    let free = [calls::LOG, calls::GRACE, calls::YIELD_CPU, calls::COST];
                    if !free.contains(&function) {
                        assert_eq!(
                            status, INVALID_PARAMETERS,
                            "{function:#x} {first:#x} {second:#x}"
                        );
                    }
                }
            }
        }
        // Half in, half out.
        assert_eq!(
            status(&memory, calls::COLLECT, end - 4096, 8192),
            INVALID_PARAMETERS
        );
        assert_eq!(used(), before);
        memory.destroy();
    }

    #[test]
    fn costs_are_told_and_frames_come_back() {
        let machine = machine();
        let free = || {
            machine.allocator().drain_caches();
            machine.allocator().usage().free
        };
        let before = free();
        let memory = guest(&machine, HugePolicy::Never);
        for step in 0..3 {
            assert_eq!(status(&memory, calls::COST, step, MOST_FRAMES as u64), 0);
        }
        memory.destroy();
        assert_eq!(free(), before);
    }
}
