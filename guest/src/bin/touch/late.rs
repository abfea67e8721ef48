//! How late an interrupt comes while the hypervisor works.
//!
//! The hypervisor does its work with interrupts masked, so the latest of many tells the longest
//! time for which it does so without looking at what is pending, with the way into the guest added.
//! What interrupts a store is taken by this guest's handler, which looks how long ago the timer
//! fired; what ends a wait stays masked.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use aarch64_cpu::asm::wfi;
use aarch64_cpu::registers::{CNTV_CVAL_EL0, Readable};
use guest::{exceptions, pool::PAGE_SIZE, random::Random, span::Span, time};

use crate::fresh::{BLOCK_SIZE, Fresh};
use crate::nap::Timer;
use crate::row::{self, Access};

/// Stores that find no memory yet, in each of which the timer fires.
const STORES: u64 = 8;
/// How long after it is set the timer fires then: in the middle of zeroing a block.
const INTO_A_STORE: u64 = 20_000;
/// Regions that are filled page by page, for the hypervisor to make blocks of.
const REGIONS: u64 = 8;
/// Memory that this takes, with some to spare, in bytes. The rows are left out where there is less.
pub(crate) const NEEDED: u64 = (STORES + REGIONS + 8) * BLOCK_SIZE;
/// Waits meanwhile, and the longest of them, as a part of a second.
const WAITS: usize = 4000;
const WAITS_PER_SECOND: u64 = 10_000;

/// The longest time for which an interrupt was late, in ticks, and whether one came.
static LATEST: AtomicU64 = AtomicU64::new(0);
static CAME: AtomicBool = AtomicBool::new(false);

/// Prints the rows.
pub(crate) fn measure(timer: &Timer, fresh: &mut Fresh) {
    exceptions::on_interrupt(note);
    let stores = fresh.take(STORES);
    latest("late_store", || during_stores(timer, stores));
    let regions = fresh.take(REGIONS);
    row::time_accesses(Access::Store, regions, PAGE_SIZE);
    latest("late_wait", || during_waits(timer));
}

/// Prints by how much the latest interrupt was late while `act` ran.
fn latest(name: &str, act: impl FnOnce()) {
    LATEST.store(0, Relaxed);
    act();
    row::print_whole(name, 1, LATEST.load(Relaxed));
}

/// Interrupts while memory is zeroed for a store.
fn during_stores(timer: &Timer, memory: Span) {
    for block in 0..STORES {
        let block = Span::sized(memory.start + block * BLOCK_SIZE, BLOCK_SIZE);
        CAME.store(false, Relaxed);
        timer.set(time::now() + ticks(INTO_A_STORE));
        // SAFETY: the only interrupt that is let through is the timer's, which `note` handles.
        unsafe { asm!("msr daifclr, #2", options(nostack)) };
        row::time_accesses(Access::Store, block, BLOCK_SIZE);
        while !CAME.load(Relaxed) {
            core::hint::spin_loop();
        }
        // SAFETY: interrupts are masked again, as they were.
        unsafe { asm!("msr daifset, #2", options(nostack)) };
    }
}

/// Interrupts that end a wait, while the hypervisor makes blocks of pages.
fn during_waits(timer: &Timer) {
    let mut random = Random::new(1);
    let longest = (time::frequency() / WAITS_PER_SECOND) as usize;
    for _ in 0..WAITS {
        let wait = 1 + random.below(longest) as u64;
        timer.set(time::now() + wait);
        wfi();
        note();
    }
}

/// Instructions, as ticks under `-icount shift=0`.
fn ticks(instructions: u64) -> u64 {
    instructions * time::frequency() / 1_000_000_000
}

/// Handles the timer's interrupt: notes how late it is.
fn note() {
    let late = time::now().saturating_sub(CNTV_CVAL_EL0.get());
    LATEST.fetch_max(late, Relaxed);
    Timer::end();
    CAME.store(true, Relaxed);
}
