//! Does one thing as often as it can, to see what that costs other machines.

use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::Ordering;

use guest::{boot, hypervisor, machine::Machine, println, psci, time};

/// `GICD_TYPER`, which never changes, and `GICD_ISPENDR1`, which may depend on list registers.
const TYPE: u64 = 0x4;
const PENDING: u64 = 0x204;
/// `ICC_SGI1R_EL1.IRM`: all vCPUs but this one.
const ALL_OTHERS: u64 = 1 << 40;
/// How much memory is given back at a time: as much as one call can.
const RELEASED: u64 = 2 << 20;

/// For `milliseconds` does what `kind` names; `reset` has the machine reset `times` times instead.
pub(crate) fn run(machine: &'static Machine<'static>, kind: &str, milliseconds: u64, times: u64) {
    if kind == "reset" {
        return reset(machine, times);
    }
    let [distributor, _] = machine
        .interrupt_controller()
        .expect("the device tree has a GICv3");
    let end = time::now() + milliseconds * time::frequency() / 1000;
    let mut count = 0_u64;
    while time::now() < end {
        once(machine, kind, distributor.start);
        count += 1;
    }
    println!("storm: {kind}, {}", plural::count(count, "time", "times"));
}

fn once(machine: &'static Machine<'static>, kind: &str, distributor: u64) {
    match kind {
        "work" => (0..100).for_each(|word| {
            black_box(word);
        }),
        "calls" => {
            black_box(psci::version().is_ok());
        }
        "registers" => registers(distributor),
        "memory" => memory(machine),
        "console" => println!("storm: all work and no play makes a dull console"),
        "maintenance" => maintenance(),
        "interrupts" => interrupts(),
        other => panic!("mode=storm has no kind={other}"),
    }
}

/// Loads of registers that the hypervisor emulates.
fn registers(distributor: u64) {
    for offset in [TYPE, PENDING] {
        // SAFETY: the registers are there, and loads do not change them.
        unsafe {
            asm!(
                "ldr {value:w}, [{address}]",
                value = out(reg) _,
                address = in(reg) distributor + offset,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Touches pages and gives them back.
fn memory(machine: &'static Machine<'static>) {
    let pool = boot::pool(machine);
    let first = pool.ipa(0).next_multiple_of(RELEASED);
    let skipped = ((first - pool.ipa(0)) / 4096) as usize;
    for page in 0..512 {
        pool.page(skipped + page).0[0].store(1, Ordering::Relaxed);
    }
    // SAFETY: the pages are the pool's, of which only this function has taken any.
    let is_taken = unsafe { hypervisor::release_memory(first..first + RELEASED) };
    assert!(is_taken, "the hypervisor did not take the memory");
}

/// Invalidates the TLBs of all CPUs and the instruction caches, and cleans by set and way.
fn maintenance() {
    // SAFETY: all tables are whole, and what is cached is written back, not dropped.
    unsafe {
        asm!(
            "tlbi vmalle1is",
            "ic ialluis",
            "dc csw, xzr",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags),
        );
    }
}

/// Interrupts all other vCPUs.
fn interrupts() {
    // SAFETY: no vCPU of this guest has enabled an interrupt.
    unsafe {
        asm!(
            "msr s3_0_c12_c11_5, {}",
            "isb",
            in(reg) ALL_OTHERS,
            options(nostack, preserves_flags),
        );
    }
}

fn reset(machine: &'static Machine<'static>, times: u64) {
    match machine.boot_count() {
        Some(count) if u64::from(count) < times => psci::system_reset(),
        Some(count) => println!("storm: reset, {}", plural::count(count, "time", "times")),
        None => panic!("no tessera,boot-count in /chosen tells the boots apart"),
    }
}
