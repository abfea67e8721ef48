//! Comes to where nothing gets a vCPU going again, as kernels do that give up. The hypervisor has
//! to notice, and to say what it was.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use guest::{boot, machine::Machine, println, time};

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
        "while" => for_a_while(machine),
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

/// One vCPU is in a loop until another writes over its branch, and waits for what comes of that.
fn for_a_while(machine: &'static Machine<'static>) {
    /// RET.
    const RETURN: u32 = 0xd65f_03c0;
    static CODE: AtomicU64 = AtomicU64::new(0);
    static RETURNED: AtomicUsize = AtomicUsize::new(0);
    let pool = boot::pool(machine);
    let code = &pool.page(0).0[0];
    // B to itself, twice.
    code.store(0x1400_0000_1400_0000, Ordering::Relaxed);
    publish(code);
    CODE.store(pool.ipa(0), Ordering::Relaxed);
    boot::start_vcpu(machine, 1, |_| {
        HALTING.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the code is a branch to itself, and a return once that is overwritten; it changes
        // no register.
        unsafe {
            asm!(
                "msr daifset, #0xf",
                "isb",
                "blr {code}",
                code = in(reg) CODE.load(Ordering::Relaxed),
                out("x30") _,
            );
        }
        RETURNED.fetch_add(1, Ordering::Relaxed);
    });
    while HALTING.load(Ordering::Relaxed) == 0 {
        core::hint::spin_loop();
    }
    // Long enough that the hypervisor has noticed.
    let deadline = time::now() + 2 * time::frequency();
    while time::now() < deadline {
        core::hint::spin_loop();
    }
    code.store(u64::from(RETURN), Ordering::Relaxed);
    publish(code);
    let deadline = time::now() + 10 * time::frequency();
    while RETURNED.load(Ordering::Relaxed) == 0 {
        assert!(
            time::now() < deadline,
            "the vCPU does not execute what was written over its loop"
        );
    }
    println!("halting: the other vCPU goes on");
}

/// Has all vCPUs fetch what was stored to `code`.
fn publish(code: &AtomicU64) {
    let at = core::ptr::from_ref(code);
    // SAFETY: cache maintenance of one line, and barriers.
    unsafe {
        asm!("dc cvau, {at}", "dsb ish", "ic ivau, {at}", "dsb ish", "isb", at = in(reg) at);
    }
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
    // SAFETY: memory is mapped at its own address, so the code goes on without an MMU; nothing else
    // follows.
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
    // SAFETY: as for `early`; without vectors nothing is executed behind the last instruction, nor
    // anything else.
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
    // SAFETY: as for `privileged`; the vectors are in a page of the pool, which is zero and used by
    // nobody.
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
