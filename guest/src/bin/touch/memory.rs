//! Memory that is touched for the first time, and given back.
//!
//! What a row means depends on how the hypervisor maps memory (its boot argument `huge`): with
//! single pages a store to each page faults, with blocks the first store to each 2 MiB.

use guest::{boot, hypervisor, machine::Machine, pool::PAGE_SIZE, span::Span, tables, time};

use crate::fresh::{BLOCK_SIZE, Fresh};
use crate::nap::Timer;
use crate::row::{self, Access};
use crate::{fetch, late, own_tables};

/// Blocks of 2 MiB for the stores to new pages.
const PAGE_BLOCKS: u64 = 4;
/// Stores at a stride of 2 MiB at most; fewer if memory is small.
const BLOCKS: u64 = 32;
/// Pages that are touched after each nap: the hypervisor zeroes so many frames ahead, and one may
/// be needed for a table.
const READY_PAGES: u64 = 31;
/// Naps; their pages fit into one block.
const NAPS: u64 = 16;

/// Blocks of 2 MiB that are touched, each after a nap of its own.
const READY_BLOCKS: u64 = 8;

/// Prints the rows about memory.
pub(crate) fn measure(machine: &'static Machine<'static>) {
    let free = boot::pool(machine).longest();
    let mut fresh = Fresh::new(free);
    // Whatever the hypervisor has zeroed ahead is used up.
    row::time_accesses(Access::Store, fresh.take(1), PAGE_SIZE);
    let pages = fresh.take(PAGE_BLOCKS);
    faults("store_4k", Access::Store, pages, PAGE_SIZE);
    release("release_2m", pages);
    faults("load_4k", Access::Load, fresh.take(1), PAGE_SIZE);
    if let Some(timer) = Timer::new(machine) {
        stores_after_naps(&timer, fresh.take(1));
        blocks_after_naps(&timer, fresh.take(READY_BLOCKS));
    }
    fetch::measure(fresh.take(1));
    if tables::are_there() {
        own_tables::measure(machine, &mut fresh);
    }
    if fresh.size() >= late::NEEDED
        && let Some(timer) = Timer::new(machine)
    {
        late::measure(&timer, &mut fresh);
    }
    let left = (fresh.size() / BLOCK_SIZE).min(BLOCKS);
    faults("store_2m", Access::Store, fresh.take(left), BLOCK_SIZE);
}

/// One access every `stride` bytes of untouched memory, less the same accesses once more.
fn faults(name: &str, access: Access, memory: Span, stride: u64) {
    let first = row::time_accesses(access, memory, stride);
    let again = row::time_accesses(access, memory, stride);
    row::print(name, memory.size() / stride, first, again);
}

/// Stores to new pages after the CPU was idle for a while.
fn stores_after_naps(timer: &Timer, memory: Span) {
    let bytes = READY_PAGES * PAGE_SIZE;
    let part = |nap| Span::sized(memory.start + nap * bytes, bytes);
    let (mut first, mut again) = (0, 0);
    for nap in 0..NAPS {
        timer.nap();
        first += row::time_accesses(Access::Store, part(nap), PAGE_SIZE);
        again += row::time_accesses(Access::Store, part(nap), PAGE_SIZE);
    }
    row::print("store_4k_ready", NAPS * READY_PAGES, first, again);
}

/// The first store to each 2 MiB, after the CPU was idle for a while before each.
fn blocks_after_naps(timer: &Timer, memory: Span) {
    let (mut first, mut again) = (0, 0);
    for block in 0..READY_BLOCKS {
        let block = Span::sized(memory.start + block * BLOCK_SIZE, BLOCK_SIZE);
        timer.nap();
        first += row::time_accesses(Access::Store, block, BLOCK_SIZE);
        again += row::time_accesses(Access::Store, block, BLOCK_SIZE);
    }
    row::print("store_2m_ready", READY_BLOCKS, first, again);
}

/// Gives memory back, 2 MiB a call.
fn release(name: &str, memory: Span) {
    let blocks = memory.size() / BLOCK_SIZE;
    let begin = time::now();
    for block in 0..blocks {
        let start = memory.start + block * BLOCK_SIZE;
        // SAFETY: the memory was filled with zeros by this guest's stores, and nothing uses it.
        if !unsafe { hypervisor::release_memory(start..start + BLOCK_SIZE) } {
            return;
        }
    }
    row::print(name, blocks, time::now() - begin, 0);
}
