//! Starting the other CPUs, and their way to the scheduler.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use log::info;
use platform::{Board, timer};

use super::work;
use crate::board::gic;
use crate::cpu::{features, speculation};
use crate::exits::vectors;
use crate::percpu::{self, PER_CPU};

/// How long the CPUs get to come up, in seconds.
const PATIENCE_S: u64 = 10;

/// How many CPUs are up, the first included.
static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// Whether what threads need is there.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Lets the other CPUs turn to the scheduler: what threads need is there.
pub(super) fn release() {
    RELEASED.store(true, Ordering::Release);
}

/// Has the firmware start all other CPUs at the physical address `entry`, and waits until they are
/// up.
///
/// # Panics
///
/// If the firmware refuses to start one, or one does not come up: the machine is not what its
/// device tree says.
pub(super) fn start_all(board: &Board<'_>, entry: u64) {
    for (cpu, &mpidr) in PER_CPU.iter().zip(&board.cpus).skip(1) {
        let context = core::ptr::from_ref(cpu) as u64;
        // SAFETY: The entry code runs with the MMU off and expects the CPU's PerCpu, prepared.
        if let Err(error) = unsafe { board.psci.cpu_on(mpidr, entry, context) } {
            panic!(
                "the firmware does not start cpu{} (affinity {:#x}): {error}",
                cpu.index(),
                mpidr.raw()
            );
        }
    }
    let deadline = timer::now() + timer::frequency() * PATIENCE_S;
    while ONLINE.load(Ordering::Acquire) < board.cpus.len() {
        assert!(
            timer::now() < deadline,
            "{} of {} CPUs came up within {PATIENCE_S} seconds; those without FEAT_E2H0 cannot",
            ONLINE.load(Ordering::Relaxed),
            board.cpus.len()
        );
        spin_loop();
    }
}

/// Makes the CPU that calls this able to take interrupts.
pub(super) fn join_interrupts() {
    if let Err(error) = gic().init_cpu(percpu::this().mpidr()) {
        panic!("{error}");
    }
}

/// A started CPU goes on here, with MMU and caches on.
pub(super) extern "C" fn with_mmu() -> ! {
    join_interrupts();
    features::add_this_cpu();
    vectors::use_sequence(speculation::protect_this_cpu());
    info!("up, affinity {:#x}", percpu::this().mpidr().raw());
    ONLINE.fetch_add(1, Ordering::Release);
    while !RELEASED.load(Ordering::Acquire) {
        spin_loop();
    }
    work::join()
}
