//! Comes to where nothing gets a vCPU going again, as kernels do that give up. The hypervisor has to notice, and to
//! say what it was.

use core::arch::asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use guest::{boot, machine::Machine, println};

/// How many vCPUs are about to halt.
static HALTING: AtomicUsize = AtomicUsize::new(0);

/// Halts as `kind` says.
pub(crate) fn run(machine: &'static Machine<'static>, kind: &str) {
    println!("halting: {kind}");
    match kind {
        "all" => all(machine),
        "loop" => halt(),
        "early" => early(),
        "el2" => privileged(),
        "zeros" => zeros(machine),
        other => panic!("mode=halt has no kind={other}"),
    }
}

/// All vCPUs halt, but for those with an even number, which switch themselves off.
fn all(machine: &'static Machine<'static>) {
    let vcpus = machine.mpidrs().len();
    for vcpu in 1..vcpus {
        boot::start_vcpu(machine, vcpu, |vcpu| {
            HALTING.fetch_add(1, Ordering::Relaxed);
            if vcpu % 2 == 1 {
                halt();
            }
        });
    }
    while HALTING.load(Ordering::Relaxed) + 1 < vcpus {
        core::hint::spin_loop();
    }
    halt();
}

/// As a kernel ends that cannot go on.
fn halt() -> ! {
    // SAFETY: nothing follows.
    unsafe {
        asm!(
            "msr daifset, #0xf",
            "1:",
            "wfe",
            "wfi",
            "b 1b",
            options(noreturn)
        )
    }
}

/// As a kernel that finds at its start that it is at the wrong exception level.
fn early() -> ! {
    // SAFETY: memory is mapped at its own address, so the code goes on without an MMU; nothing else follows.
    unsafe {
        asm!(
            "msr daifset, #0xf",
            "mrs x9, sctlr_el1",
            "bic x9, x9, #1",
            "msr sctlr_el1, x9",
            "isb",
            "1:",
            "wfe",
            "b 1b",
            options(noreturn)
        )
    }
}

/// As a hypervisor that does not ask where it is.
fn privileged() -> ! {
    // SAFETY: as for `early`; without vectors nothing is executed behind the last instruction, nor anything else.
    unsafe {
        asm!(
            "mrs x9, sctlr_el1",
            "bic x9, x9, #1",
            "msr vbar_el1, xzr",
            "msr sctlr_el1, x9",
            "isb",
            "msr vbar_el2, x9",
            "1:",
            "b 1b",
            options(noreturn)
        )
    }
}

/// With vectors in memory that holds nothing yet.
fn zeros(machine: &Machine<'static>) -> ! {
    let pool = boot::pool(machine);
    // SAFETY: as for `privileged`; the vectors are in a page of the pool, which is zero and used by nobody.
    unsafe {
        asm!(
            "mrs x9, sctlr_el1",
            "bic x9, x9, #1",
            "msr vbar_el1, {vectors}",
            "msr sctlr_el1, x9",
            "isb",
            "udf #0",
            vectors = in(reg) pool.ipa(0),
            options(noreturn)
        )
    }
}
