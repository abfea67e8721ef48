//! Hypercalls, trapped registers and devices.

use core::arch::asm;

use guest::{
    machine::{Conduit, Machine},
    psci, time,
};
use smccc::psci::PSCI_VERSION;

use crate::row;

/// Iterations of each row.
const CALLS: u64 = 10_000;
/// Offset of the PL011's interrupt mask register. The mask is all zero from reset on and the guest
/// leaves it so, which makes a store of zero to it the one that changes nothing.
const UARTIMSC: u64 = 0x38;
/// Offset of GICD_TYPER in the distributor.
const GICD_TYPER: u64 = 4;

/// Ticks that [`CALLS`] iterations of the given instructions take, with w0 = PSCI_VERSION's number
/// and x20 = `$x20` before each; they may change x0 to x17.
macro_rules! time_calls {
    ($x20:expr, $($instruction:literal),*) => {{
        let begin = time::now();
        // SAFETY: the instructions are those of this file's rows: calls and accesses that change no
        // memory and no registers but the clobbered ones.
        unsafe {
            asm!(
                "2: mov w0, {function:w}",
                $($instruction,)*
                "subs x21, x21, #1",
                "b.ne 2b",
                function = in(reg) PSCI_VERSION,
                inout("x21") CALLS => _,
                in("x20") $x20,
                clobber_abi("C"),
            );
        }
        time::now() - begin
    }};
}

/// Prints the rows of this file.
pub(crate) fn measure(machine: &Machine<'_>) {
    let empty = time_calls!(0,);
    let print = |name, ticks| row::print(name, CALLS, ticks, empty);
    match psci::conduit() {
        Conduit::Hvc => print("hvc", time_calls!(0, "hvc #0")),
        Conduit::Smc => print("smc", time_calls!(0, "smc #0")),
    }
    print("id_register", time_calls!(0, "mrs x1, ID_AA64PFR0_EL1"));
    if let Some([distributor, _]) = machine.interrupt_controller() {
        let register = distributor.start + GICD_TYPER;
        print("gicd_typer", time_calls!(register, "ldr w1, [x20]"));
    }
    let mask = machine.uart + UARTIMSC;
    print("pl011_store", time_calls!(mask, "str wzr, [x20]"));
    print("pl011_load", time_calls!(mask, "ldr w1, [x20]"));
}
