//! From the entry to the guest's `run`, on vCPU 0 and on the others.
//!
//! Entry, .bss, stacks and vectors come from `aarch64-rt`; the MMU and the caches are on before any
//! Rust code runs, since atomics need cacheable memory. Stage 1 is one constant table of 1 GiB
//! blocks that maps IPA to itself: the first is device memory and never executable, those above it,
//! where RAM lies, are normal memory with all rights (the guests write code and run it). RAM may
//! end inside a block; what lies above its end is then mapped here and nowhere else.

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_rt::{InitialPagetable, Stack};
use dtoolkit::fdt::Fdt;
use spin::Once;

use crate::{
    console,
    machine::{MAX_VCPUS, Machine},
    pool::Pool,
    psci,
    span::Span,
    verdict,
};

/// VMSAv8-64 block descriptor (Arm ARM, "Translation table descriptor formats"): valid, access flag
/// set.
const BLOCK: usize = 1 << 10 | 1;
/// Attribute 0 of `aarch64-rt`'s MAIR, device-nGnRE; UXN and PXN.
const DEVICE: usize = BLOCK | 1 << 54 | 1 << 53;
/// Attribute 1 of that MAIR, normal write-back memory; inner shareable.
const NORMAL: usize = BLOCK | 3 << 8 | 1 << 2;
const GIB: usize = 1 << 30;
/// GiBs of normal memory from 1 GiB on: RAM is at most this large.
const RAM_BLOCKS: usize = 8;

aarch64_rt::initial_pagetable!({
    let mut table = [0; 512];
    table[0] = DEVICE;
    let mut block = 1;
    while block <= RAM_BLOCKS {
        table[block] = NORMAL | (block * GIB);
        block += 1;
    }
    InitialPagetable(table)
});

const STACK_PAGES: usize = 8;

aarch64_rt::entry!(start, 8);

/// Stacks of the vCPUs from 1 on.
static mut STACKS: [Stack<STACK_PAGES>; MAX_VCPUS - 1] = [const { Stack::new() }; MAX_VCPUS - 1];
/// Which of them have been given away.
static STARTED: [AtomicBool; MAX_VCPUS - 1] = [const { AtomicBool::new(false) }; MAX_VCPUS - 1];

static MACHINE: Once<Machine<'static>> = Once::new();

unsafe extern "Rust" {
    /// The guest's own part, which `guest::main!` defines with this very signature.
    safe fn guest_run(machine: &'static Machine<'static>);
}

fn start(tree: u64, _x1: u64, _x2: u64, _x3: u64) -> ! {
    let machine = MACHINE.call_once(|| read_machine(tree));
    psci::set_conduit(machine.conduit);
    console::open(machine.uart);
    guest_run(machine);
    verdict::passed()
}

/// Reads the device tree at IPA `tree`.
fn read_machine(tree: u64) -> Machine<'static> {
    // SAFETY: x0 at entry is the address of a device tree by the boot protocol; it lies in RAM,
    // which is mapped, and nothing writes to it: it is outside the image and pools leave it out.
    let tree_at_x0 = unsafe { Fdt::from_raw(tree as *const u8) };
    let machine = tree_at_x0
        .map_err(|_| "no valid device tree there")
        .and_then(Machine::from_tree);
    machine.unwrap_or_else(|reason| panic!("x0 = {tree:#x}: {reason}"))
}

/// The RAM that is free for the guest's use.
pub fn pool(machine: &Machine<'static>) -> Pool {
    let mapped = Span::sized(GIB as u64, (RAM_BLOCKS * GIB) as u64);
    let memory = Span {
        start: machine.memory.start,
        end: machine.memory.end.min(mapped.end),
    };
    assert!(
        mapped.contains(memory.start),
        "RAM at {memory} is not where virt has it"
    );
    // SAFETY: the tree says that it is RAM, the stage-1 table maps it as demanded, and the guest
    // uses nothing above its image but through pools and, read-only, the tree.
    unsafe { Pool::new(memory, image().end, machine.tree_span()) }
}

/// The image in memory, with .bss and stacks.
pub fn image() -> Span {
    unsafe extern "C" {
        static text_begin: u8;
        static dma_region: u8;
    }
    Span {
        start: &raw const text_begin as u64,
        end: &raw const dma_region as u64,
    }
}

/// Starts vCPU `index` (1 or more, each once), which runs `body(index)` and then turns itself off.
/// Panics when PSCI refuses.
pub fn start_vcpu(machine: &Machine<'static>, index: usize, body: fn(usize)) {
    let mpidr = machine.mpidrs()[index];
    assert!(
        !STARTED[index - 1].swap(true, Ordering::Relaxed),
        "vcpu {index} was started already"
    );
    let run = move || {
        body(index);
        psci::cpu_off()
    };
    // SAFETY: the stack is a static, mapped alike on every vCPU, and the swap above gave it to this
    // vCPU alone and for ever.
    let started = unsafe {
        let stack = &raw mut STACKS[index - 1];
        psci::start_core(mpidr, stack, run)
    };
    if let Err(reason) = started {
        panic!("CPU_ON of vcpu {index} (MPIDR {mpidr:#x}): {reason}");
    }
}
