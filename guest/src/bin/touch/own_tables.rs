//! What is done to this guest's tables: dirty logging, splits, collapses, moves.
//!
//! Where memory is mapped by pages, the rows come from one region of 2 MiB, each from the state
//! that the one before has left. Where it is mapped by blocks there are the rows for blocks only.
//! What logging tells is checked here, page by page: a figure for a log that forgets would be worth
//! nothing.

use guest::{
    machine::Machine,
    pool::PAGE_SIZE,
    span::Span,
    tables::{self, Step},
};

use crate::fresh::{BLOCK_SIZE, Fresh};
use crate::row::{self, Access};
use crate::turns;

/// Pages of a block.
const PAGES: u64 = BLOCK_SIZE / PAGE_SIZE;
/// Blocks that are written to under dirty logging.
const BLOCKS: u64 = 8;
/// Collapses, and splits.
const REGIONS: u64 = 4;
/// Pages stored to while a region is copied: as many as may be left for when stores are held up.
const STORES: u64 = 2;
/// Pages that are moved.
const MOVES: u64 = 64;
/// Grace periods.
const GRACES: u64 = 256;
/// Repetitions of a step that is timed by the hypervisor, and how often it is asked.
const STEPS: u64 = 32;
const ASKED: u64 = 32;

/// Prints the rows.
pub(crate) fn measure(machine: &'static Machine<'static>, fresh: &mut Fresh) {
    let first = fresh.take(1);
    row::time_accesses(Access::Store, first, PAGE_SIZE);
    // Pages cannot be split, blocks can.
    if tables::split(first.start) {
        blocks(fresh.take(BLOCKS));
    } else {
        logging(first);
        regions(fresh.take(REGIONS));
        moves(first);
        turns::measure(machine, first.start);
        steps();
    }
}

/// Dirty logging of a region that is mapped by pages, all of them written.
fn logging(region: Span) {
    assert!(tables::log(true), "dirty logging cannot be switched on");
    let cleaned = row::time(|| assert!(tables::clean(region), "{region} cannot be cleaned"));
    row::print_whole("write_protect", PAGES, cleaned);
    let first = row::time_accesses(Access::Store, region, PAGE_SIZE);
    let again = row::time_accesses(Access::Store, region, PAGE_SIZE);
    row::print("dirty_fault_4k", PAGES, first, again);
    let mut count = 0;
    let collected = row::time(|| count = tables::collect(region).map_or(0, |dirty| dirty.count));
    assert!(count == PAGES, "{count} pages of {PAGES} are dirty");
    row::print_whole("dirty_collect", PAGES, collected);
    check_log(region);
    assert!(tables::log(false), "dirty logging cannot be switched off");
}

/// Stores to some pages of a clean region, and asks which.
fn check_log(region: Span) {
    const WRITTEN: [usize; 5] = [0, 7, 63, 64, 511];
    for page in WRITTEN {
        let page = Span::sized(region.start + page as u64 * PAGE_SIZE, PAGE_SIZE);
        row::time_accesses(Access::Store, page, PAGE_SIZE);
    }
    let dirty = tables::collect(region).expect("a region that can be collected");
    for page in 0..PAGES as usize {
        let (told, written) = (dirty.has(page), WRITTEN.contains(&page));
        assert!(
            told == written,
            "page {page} of {region}: written {written}, told {told}"
        );
    }
}

/// The first store to blocks under dirty logging.
fn blocks(memory: Span) {
    row::time_accesses(Access::Store, memory, BLOCK_SIZE);
    assert!(tables::log(true), "dirty logging cannot be switched on");
    let block = |number| Span::sized(memory.start + number * BLOCK_SIZE, BLOCK_SIZE);
    for number in 0..BLOCKS {
        assert!(tables::clean(block(number)), "a block cannot be cleaned");
    }
    let first = row::time_accesses(Access::Store, memory, BLOCK_SIZE);
    let again = row::time_accesses(Access::Store, memory, BLOCK_SIZE);
    row::print("dirty_split_2m", BLOCKS, first, again);
    for number in 0..BLOCKS {
        let dirty = tables::collect(block(number)).expect("a region that can be collected");
        let only_first = dirty.count == 1 && dirty.has(0);
        assert!(only_first, "one page was written, told are {}", dirty.count);
        check_log(block(number));
    }
    assert!(tables::log(false), "dirty logging cannot be switched off");
}

/// Collapses by copying, splits, and collapses in place of regions that are mapped by pages.
fn regions(memory: Span) {
    row::time_accesses(Access::Store, memory, PAGE_SIZE);
    let each = |act: &mut dyn FnMut(u64)| {
        row::time(|| (0..REGIONS).for_each(|number| act(memory.start + number * BLOCK_SIZE)))
    };
    let mut longest = 0;
    let copied = each(&mut |region| {
        let held_up = tables::collapse_by_copying(region, STORES);
        longest = longest.max(held_up.expect("a region that can be copied"));
    });
    row::print_whole("collapse_copy", REGIONS, copied);
    row::print_whole("collapse_held_up", 1, longest);
    let split = each(&mut |region| assert!(tables::split(region), "a block cannot be split"));
    row::print_whole("split", REGIONS, split);
    let collapsed = each(&mut |region| {
        assert!(
            tables::collapse_in_place(region),
            "a region cannot be collapsed"
        );
    });
    row::print_whole("collapse_in_place", REGIONS, collapsed);
}

fn moves(region: Span) {
    let moved = row::time(|| {
        for page in 0..MOVES {
            let moved = tables::move_page(region.start + page * PAGE_SIZE, 0);
            assert!(moved, "page {page} of {region} cannot be moved");
        }
    });
    row::print_whole("move", MOVES, moved);
    let awaited = row::time(|| {
        (0..GRACES).for_each(|_| assert!(tables::await_grace(), "no grace period"));
    });
    row::print_whole("grace", GRACES, awaited);
}

/// Steps that the hypervisor times by itself.
fn steps() {
    let cost = |step| {
        let ticks = (0..ASKED).filter_map(|_| tables::cost(step, STEPS));
        ticks.sum::<u64>()
    };
    let allocated = cost(Step::Allocate);
    row::print_whole("allocate", ASKED * STEPS, allocated);
    let zeroed = cost(Step::AllocateZeroed);
    row::print("zero", ASKED * STEPS, zeroed, allocated);
    row::print_whole("copy", ASKED * STEPS, cost(Step::Copy));
}
