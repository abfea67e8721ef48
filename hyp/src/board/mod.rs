//! The board: what the device tree says of it, its interrupt controller, and its clock.
//!
//! Ground facts: they are fixed while the first CPU boots, before anything asks for them.

pub(crate) mod clock;
pub(crate) mod ipi;

use platform::Board;
use platform::board::Conduit;
use platform::gic::{Error, Gic};
use spin::Once;
use vgic::Wiring;

/// The board, from the moment the first CPU's MMU is on.
static BOARD: Once<Board<'static>> = Once::new();

/// The interrupt controller, as soon as the first CPU has set it up.
static GIC: Once<Gic> = Once::new();

/// Says what board this is. Called once, when the first CPU's MMU is on.
pub(crate) fn set(read: impl FnOnce() -> Board<'static>) -> &'static Board<'static> {
    BOARD.call_once(read)
}

/// The board the hypervisor runs on.
///
/// # Panics
///
/// Before the first CPU's MMU is on, which is before anything but the entry code runs.
pub(crate) fn board() -> &'static Board<'static> {
    BOARD.get().expect("the board is known once the MMU is on")
}

/// Sets the interrupt controller up.
///
/// # Safety
///
/// EL2's tables map its registers as devices, and this is called once.
pub(crate) unsafe fn start_gic() -> Result<(), Error> {
    let board = board();
    // SAFETY: As the caller promises.
    let gic = unsafe { Gic::new(&board.gic, &board.cpus) }?;
    GIC.call_once(|| gic);
    Ok(())
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

/// By which numbers this board's CPUs know the guests' timers.
pub(crate) fn wiring() -> Wiring {
    let timer = board().timer;
    Wiring {
        virtual_timer: timer.el1_virtual,
        physical_timer: timer.el1_physical,
    }
}
