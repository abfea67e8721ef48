//! The first CPU's way from the device tree to the scheduler.

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use bootargs::BootArgs;
use log::{LevelFilter, info, warn};
use platform::Board;
use platform::board::{Conduit, Mpidr, Uart};
use platform::uart::Console;

use super::{fault_injection, secondary, work};
use crate::board::{self, clock};
use crate::cpu::{features, speculation};
use crate::el2::{mmu, tables};
use crate::exits::{hypercall, vectors};
use crate::percpu::PER_CPU;
use crate::services::senders;
use crate::{console, crash, logging, mm, sched, vcpu};

/// The device tree's physical address, kept from [`before_mmu`] to [`with_mmu`].
static DEVICE_TREE: AtomicU64 = AtomicU64::new(0);

/// Says that the loader entered at `level` instead of EL2, and gives up.
pub(super) extern "C" fn wrong_level(level: u64, address: u64) -> ! {
    say_without_el2(
        address,
        format_args!(
            "entered at EL{level}, but only EL2 will do; start QEMU with `-M virt,virtualization=on`"
        ),
    );
    // Without EL2 the firmware that QEMU plays is called by HVC.
    Conduit::Hvc.system_off()
}

/// Says that HCR_EL2.E2H cannot be cleared, and gives up.
pub(super) extern "C" fn wrong_kind(address: u64) -> ! {
    say_without_el2(
        address,
        format_args!(
            "HCR_EL2.E2H stays set: this CPU has no FEAT_E2H0, which Tessera needs since it keeps the state of \
             EL1 in the CPU while EL2 runs; take another CPU model"
        ),
    );
    Conduit::Smc.system_off()
}

/// Prints why the hypervisor cannot run here; `address` is the device tree's. No register of EL2
/// may be touched where this is called, so it does not panic.
fn say_without_el2(address: u64, reason: core::fmt::Arguments<'_>) {
    // SAFETY: As in `before_mmu`.
    let blob = unsafe { platform::device_tree_at(address) };
    if let Ok(uart) = blob.and_then(Uart::from_device_tree)
        // SAFETY: The MMU is off, and nothing else runs.
        && let Some(mut console) = unsafe { Console::new(uart.registers.base) }
    {
        // The console's writer does not fail.
        let _ = writeln!(console, "tessera: PANIC: {reason}");
    }
}

/// Builds EL2's tables from the device tree at `address`. Runs with the MMU off; the entry code
/// turns it on next.
pub(super) extern "C" fn before_mmu(address: u64) {
    DEVICE_TREE.store(address, Ordering::Relaxed);
    // SAFETY: The boot protocol puts the tree's address into x0; it is reserved, so it stays.
    let uart = unsafe { platform::device_tree_at(address) }.and_then(Uart::from_device_tree);
    match uart {
        Ok(uart) => console::announce(&uart),
        Err(error) => panic!("{error}"),
    }
    let board = read_board();
    for (cpu, &mpidr) in PER_CPU.iter().zip(&board.cpus) {
        cpu.prepare(mpidr);
    }
    // SAFETY: This is the first CPU, alone, with its MMU off, and comes by once.
    match unsafe { tables::build(&board) } {
        // SAFETY: As above; the tables map the image and are never taken apart.
        Ok(root) => unsafe { mmu::describe(root) },
        Err(error) => panic!("EL2's translation tables: {error}"),
    }
}

/// Goes on with MMU and caches on. The firmware is to start the other CPUs at the physical address
/// `secondary_entry`.
pub(super) extern "C" fn with_mmu(secondary_entry: u64) -> ! {
    let board = board::set(read_board);
    console::open(&board.uart);
    clock::start(board);
    logging::start(LevelFilter::Info);
    info!("Tessera {} at EL2", env!("CARGO_PKG_VERSION"));
    let arguments = boot_arguments(board);
    start_interrupts();
    features::add_this_cpu();
    speculation::start(arguments.mitigations);
    vectors::use_sequence(speculation::protect_this_cpu());
    secondary::start_all(board, secondary_entry);
    features::fix();
    speculation::fix();
    if let Some(way) = arguments.panic {
        fault_injection::fail(way);
    }
    if let Err(error) = mm::init(board, &arguments) {
        panic!("{error}");
    }
    crash::name_threads_by(sched::current_name);
    if mm::start_tracing(&arguments)
        && let Err(reason) = senders::start_trace()
    {
        warn!("no trace is sent: {reason}");
    }
    if let Some(baud) = arguments.console_baud {
        console::slow_down(baud);
    }
    if arguments.error_calls {
        hypercall::allow_error_calls();
    }
    if !arguments.gic_tdir {
        vcpu::interface::forgo_tdir();
    }
    secondary::release();
    work::start_guests(board, &arguments);
    work::join()
}

/// Sets up the interrupt controller, and this CPU's part of it.
fn start_interrupts() {
    // SAFETY: EL2's tables map its registers as devices, and this is called once.
    if let Err(error) = unsafe { board::start_gic() } {
        panic!("{error}");
    }
    secondary::join_interrupts();
}

/// Parses the boot arguments, applies the log level, and names what was not understood.
fn boot_arguments(board: &Board<'static>) -> BootArgs<'static> {
    let text = board.boot_arguments;
    info!("boot arguments: \"{text}\"");
    let mut complaints = 0;
    let arguments = bootargs::parse(text, &mut |complaint| {
        warn!("{complaint}");
        complaints += 1;
    });
    if complaints > 0 {
        warn!("known boot arguments:");
        for known in bootargs::KNOWN {
            warn!("    {known}");
        }
    }
    log::set_max_level(arguments.log);
    arguments
}

/// Reads the device tree, and puts the CPU that this runs on first, whatever the tree's order.
fn read_board() -> Board<'static> {
    let address = DEVICE_TREE.load(Ordering::Relaxed);
    // SAFETY: As in `before_mmu`, which stored the address.
    let board = unsafe { platform::device_tree_at(address) }
        .and_then(|blob| Board::from_device_tree(blob, address));
    let mut board = match board {
        Ok(board) => board,
        Err(error) => panic!("{error}"),
    };
    let own = Mpidr::from_raw(MPIDR_EL1.get());
    match board.cpus.iter().position(|&cpu| cpu == own) {
        Some(place) => board.cpus.swap(0, place),
        None => panic!(
            "the device tree has no CPU with the affinity of this one, {:#x}",
            own.raw()
        ),
    }
    board
}
