//! Waits for an asynchronous error (an SError interrupt) that it has the hypervisor find, or to see
//! that none comes.
//!
//! The hypervisor's boot argument `error-calls` allows it.

use core::arch::global_asm;

use aarch64_cpu::registers::{CNTV_CTL_EL0, CNTV_CVAL_EL0, Writeable};
use guest::gic::{Gic, interface};
use guest::machine::Machine;
use guest::{hypervisor, println, time};

use crate::catch::catch;

/// EL1 with its own stack pointer, everything masked but SError interrupts.
const ERRORS_UNMASKED: u64 = 0b1011 << 6 | 0b0101;
/// The vector of SError interrupts from EL1 with its own stack pointer, and that of synchronous
/// exceptions.
const SERROR: u64 = 7;
const SYNCHRONOUS: u64 = 4;

/// The virtual timer's interrupt.
const TIMER: u32 = 27;

/// Asks for an error with this syndrome, unless that is zero, goes on for `milliseconds` as if
/// nothing had happened, and then takes what is there. `comes` says whether something must be. If
/// so, and with a `machine`, it goes on with a WFI, which the error must end.
pub(crate) fn run(
    syndrome: u64,
    comes: bool,
    milliseconds: u64,
    machine: Option<&'static Machine<'static>>,
) {
    let wait = milliseconds * time::frequency() / 1000;
    match machine {
        Some(machine) => wait_for_interrupt(machine, syndrome, wait),
        None => ask(syndrome),
    }
    // Masked: other machines get the CPU meanwhile, and this one gets it back.
    let until = time::now() + wait;
    while time::now() < until {}
    // SAFETY: the code there reads the counter, changes x0 alone and ends in a BRK.
    let caught = unsafe {
        catch(
            error_wait as *const () as u64,
            ERRORS_UNMASKED,
            time::now() + wait,
        )
    };
    println!("error: vector {}, ESR {:#x}", caught.vector, caught.esr);
    assert_eq!(caught.vector, if comes { SERROR } else { SYNCHRONOUS });
}

/// Asks for an error with this syndrome, unless that is zero.
fn ask(syndrome: u64) {
    if syndrome != 0 {
        assert!(
            hypervisor::report_error(syndrome),
            "there are no such calls: boot with error-calls=on"
        );
    }
}

/// Asks for an error, and executes a WFI at once: before the hypervisor has had a reason to look
/// for errors. The WFI must end before the timer ends it.
fn wait_for_interrupt(machine: &'static Machine<'static>, syndrome: u64, longest: u64) {
    let gic = Gic::of(machine, 0);
    gic.init_distributor();
    gic.init_vcpu();
    CNTV_CVAL_EL0.set(time::now() + longest);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET);
    ask(syndrome);
    interface::wait();
    let ended_by = interface::acknowledge();
    CNTV_CTL_EL0.set(0);
    assert_ne!(ended_by, TIMER, "an error does not end a WFI");
}

unsafe extern "C" {
    /// Waits until the counter reaches x1; never called.
    fn error_wait();
}

global_asm!(
    r#"
    .section .text.error_wait, "ax"
    .global error_wait
error_wait:
    mrs     x0, cntvct_el0
    cmp     x0, x1
    b.lo    error_wait
    brk     #0
    "#
);
