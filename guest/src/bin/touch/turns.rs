//! Two vCPUs that take turns on one CPU: what a switch costs, and a store to a page that is away.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use guest::{
    boot,
    machine::{Conduit, Machine},
    pool::PAGE_SIZE,
    psci::{self, AffinityState},
    span::Span,
    tables, time,
};

use crate::row::{self, Access};

/// Switches from the first vCPU to the second.
const SWITCHES: u64 = 2000;
/// How often the store finds that its page is away.
const TURNS: u64 = 1000;

/// What the second vCPU is to do: nothing but give way; end; or move the page with this address.
static ORDER: AtomicU64 = AtomicU64::new(REST);
const REST: u64 = 0;
const END: u64 = 1;

/// Prints the rows, if there are two vCPUs; with more than one CPU they mean nothing. The page at
/// `page` is this file's until it returns.
pub(crate) fn measure(machine: &'static Machine<'static>, page: u64) {
    let Some(&second) = machine.mpidrs().get(1) else {
        return;
    };
    if psci::conduit() != Conduit::Hvc {
        return;
    }
    boot::start_vcpu(machine, 1, obey);
    yield_cpu(SWITCHES);
    let begin = time::now();
    yield_cpu(SWITCHES);
    row::print_whole("vcpu_switch", 2 * SWITCHES, time::now() - begin);
    ORDER.store(page, SeqCst);
    // The other one begins to move the page, and is halfway when it gives way for the first time.
    tables::yield_cpu();
    let ticks = row::time_accesses(Access::Store, Span::sized(page, PAGE_SIZE), PAGE_SIZE);
    row::print_whole("fault_busy", TURNS, ticks);
    ORDER.store(END, SeqCst);
    while psci::affinity_info(second) != Ok(AffinityState::Off) {
        tables::yield_cpu();
    }
}

/// The second vCPU.
fn obey(_: usize) {
    loop {
        match ORDER.load(SeqCst) {
            REST => yield_cpu(1),
            END => return,
            page => {
                assert!(tables::move_page(page, TURNS), "the page cannot be moved");
                let _ = ORDER.compare_exchange(page, REST, SeqCst, SeqCst);
            }
        }
    }
}

/// Gives way so many times, in as few instructions as there can be.
fn yield_cpu(times: u64) {
    // SAFETY: the call changes no memory, and of the registers x0 to x17 at most (Arm DEN 0028).
    unsafe {
        asm!(
            "2: mov w0, w20",
            "hvc #0",
            "subs x21, x21, #1",
            "b.ne 2b",
            in("w20") tables::YIELD_CPU,
            inout("x21") times => _,
            clobber_abi("C"),
        );
    }
}
