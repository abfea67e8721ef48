//! The first CPU's way from the device tree to the scheduler.

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use bootargs::BootArgs;
use log::{LevelFilter, info, warn};
use platform::Board;
use platform::board::{Conduit, Mpidr, Uart};
use platform::gic::Gic;
use platform::uart::Console;
use spin::Once;

use super::{features, sabotage, secondary, speculation, work};
use crate::el2::{mmu, tables};
use crate::exits::call;
use crate::machine::{clock, tracing};
use crate::percpu::PER_CPU;
use crate::{console, logging, machine, percpu, vcpu};

/// The board, from the moment the first CPU's MMU is on.
static BOARD: Once<Board<'static>> = Once::new();

/// The interrupt controller, as soon as the first CPU has set it up.
static GIC: Once<Gic> = Once::new();

/// The device tree's physical address, kept from [`before_mmu`] to [`with_mmu`].
static DEVICE_TREE: AtomicU64 = AtomicU64::new(0);

/// The board the hypervisor runs on.
///
/// # Panics
///
/// Before the first CPU's MMU is on, which is before anything but this module runs.
pub(crate) fn board() -> &'static Board<'static> {
    BOARD.get().expect("the board is known once the MMU is on")
}

/// The board's interrupt controller.
///
/// # Panics
///
/// Before it is set up, which is before any other CPU is up.
pub(crate) fn gic() -> &'static Gic {
    GIC.get()
        .expect("the GIC is set up before CPUs are started")
}

/// How to call the firmware; QEMU's and Arm's usual way while the board is not known.
pub(crate) fn conduit() -> Conduit {
    BOARD.get().map_or(Conduit::Smc, |board| board.psci)
}

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

/// Prints why the hypervisor cannot run here; `address` is the device tree's. No register of EL2 may be touched
/// where this is called, so it does not panic.
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

/// Builds EL2's tables from the device tree at `address`. Runs with the MMU off; the entry code turns
/// it on next.
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

/// Goes on with MMU and caches on.
pub(super) extern "C" fn with_mmu() -> ! {
    let board = BOARD.call_once(read_board);
    console::open(&board.uart);
    clock::start(board);
    logging::start(LevelFilter::Info);
    info!("Tessera {} at EL2", env!("CARGO_PKG_VERSION"));
    let arguments = boot_arguments(board);
    start_interrupts(board);
    features::add_this_cpu();
    speculation::start(arguments.mitigations);
    speculation::protect_this_cpu();
    secondary::start_all(board);
    features::settle();
    speculation::settle();
    if let Some(sabotage) = arguments.panic {
        sabotage::fail(sabotage);
    }
    if let Err(error) = machine::init(board, &arguments) {
        panic!("{error}");
    }
    tracing::start(arguments.trace, arguments.console);
    if let Some(baud) = arguments.console_baud {
        console::slow_down(baud);
    }
    if arguments.error_calls {
        call::allow_error_calls();
    }
    if !arguments.gic_tdir {
        vcpu::interface::forgo_tdir();
    }
    secondary::release();
    work::start_guests(board, &arguments);
    work::join()
}

/// Sets up the interrupt controller, and this CPU's part of it.
fn start_interrupts(board: &Board<'static>) {
    // SAFETY: EL2's tables map its registers as devices, and this is called once.
    let gic = unsafe { Gic::new(&board.gic, &board.cpus) };
    match gic {
        Ok(gic) => GIC.call_once(|| gic),
        Err(error) => panic!("{error}"),
    };
    join_interrupts();
}

/// Makes the CPU that calls this able to take interrupts.
pub(super) fn join_interrupts() {
    if let Err(error) = gic().init_cpu(percpu::this().mpidr()) {
        panic!("{error}");
    }
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
