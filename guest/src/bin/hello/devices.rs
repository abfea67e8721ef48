//! Loads and stores of every kind to devices' registers, and other instructions that the hypervisor
//! has to take apart: each must do what it does on hardware.

use core::arch::asm;

use guest::{machine::Machine, println};

use crate::sizes;

/// `GICD_TYPER` and `GICD_PIDR2`, behind the distributor's first register.
const TYPE: u64 = 0x4;
const IDENTIFICATION_2: u64 = 0xffe8;
/// `GICD_IPRIORITYR8`: the priorities of the first four shared interrupts, of which the upper five
/// bits are kept.
const PRIORITIES: u64 = 0x420;
/// `UARTPCellID1` and `UARTIBRD`, behind the PL011's first register.
const CELL_1: u64 = 0xff4;
const BAUD_RATE: u64 = 0x24;
/// `SCTLR_EL1.M` and `EE`.
const SCTLR_M: u64 = 1 << 0;
const SCTLR_EE: u64 = 1 << 25;

/// Executes one load of `$address`, with the register written as `$register`, which holds all ones
/// before.
macro_rules! load {
    ($instruction:literal, $address:expr) => {{
        let value: u64;
        // SAFETY: the address is that of a device's register which loads do not change.
        unsafe {
            asm!(
                concat!($instruction, ", [{address}]"),
                address = in(reg) $address,
                value = inout(reg) u64::MAX => value,
                options(nostack, preserves_flags),
            );
        }
        value
    }};
}

/// Executes one store of `$value` to `$address`.
macro_rules! store {
    ($instruction:literal, $address:expr, $value:expr) => {
        // SAFETY: the address is that of a device's register that nothing else here uses.
        unsafe {
            asm!(
                concat!($instruction, ", [{address}]"),
                address = in(reg) $address,
                value = in(reg) $value,
                options(nostack, preserves_flags),
            );
        }
    };
}

/// Counts what is not as it must be.
struct Check {
    wrong: u32,
}

impl Check {
    fn is(&mut self, what: &str, value: u64, expected: u64) {
        if value != expected {
            println!("devices: {what}: {value:#x}, not {expected:#x}");
            self.wrong += 1;
        }
    }
}

/// Tries them all; panics after the last if one went wrong.
pub(crate) fn run(machine: &'static Machine<'static>) {
    let [distributor, _] = machine
        .interrupt_controller()
        .expect("the device tree has a GICv3");
    let wrong = sizes::run(machine);
    let mut check = Check { wrong };
    loads(&mut check, distributor.start, machine.uart);
    stores(&mut check, distributor.start, machine.uart);
    big_endian(&mut check, distributor.start + TYPE);
    calls(&mut check);
    registers(&mut check);
    assert!(check.wrong == 0, "{} accesses went wrong", check.wrong);
    println!("devices: every access is right");
}

/// Loads of all sizes, and how they extend.
fn loads(check: &mut Check, distributor: u64, uart: u64) {
    let (pidr2, cell1) = (distributor + IDENTIFICATION_2, uart + CELL_1);
    check.is("ldr w", load!("ldr {value:w}", pidr2), 0x3b);
    check.is("ldrsw", load!("ldrsw {value}", pidr2), 0x3b);
    check.is("ldrb", load!("ldrb {value:w}", cell1), 0xf0);
    check.is("ldrsb w", load!("ldrsb {value:w}", cell1), 0xffff_fff0);
    check.is("ldrsb x", load!("ldrsb {value}", cell1), u64::MAX - 0xf);
    check.is("ldrh", load!("ldrh {value:w}", cell1), 0xf0);
    check.is("ldrsh x", load!("ldrsh {value}", cell1), 0xf0);
    // The distributor has no registers of this size here.
    check.is("ldr x", load!("ldr {value}", pidr2), 0);
    check.is("ldrh of a word", load!("ldrh {value:w}", pidr2), 0);
    // Not aligned, and into no register at all.
    check.is("ldr between two", load!("ldr {value:w}", pidr2 + 2), 0);
    let untouched = load!("/* {value} */ ldr wzr", pidr2);
    check.is("ldr wzr", untouched, u64::MAX);
}

/// Stores of several sizes.
fn stores(check: &mut Check, distributor: u64, uart: u64) {
    let (priorities, baud_rate) = (distributor + PRIORITIES, uart + BAUD_RATE);
    let before = load!("ldr {value:w}", priorities);
    store!("str {value:w}", priorities, 0x1234_5678_a0b0_c0d0_u64);
    store!("strb {value:w}", priorities + 1, 0xffff_ff18_u64);
    // No register of this size, so nothing changes.
    store!("strh {value:w}", priorities, 0_u64);
    check.is(
        "str and strb",
        load!("ldr {value:w}", priorities),
        0xa0b0_18d0,
    );
    store!("/* {value} */ str wzr", priorities, 0_u64);
    check.is("str wzr", load!("ldr {value:w}", priorities), 0);
    store!("str {value:w}", priorities, before);

    let before = load!("ldr {value:w}", baud_rate);
    store!("strh {value:w}", baud_rate, 0xffff_0123_u64);
    check.is("strh", load!("ldr {value:w}", baud_rate), 0x123);
    store!("str {value:w}", baud_rate, before);
}

/// A register as a big-endian guest loads it: the bytes come the other way round.
fn big_endian(check: &mut Check, register: u64) {
    let little: u32 = load!("ldr {value:w}", register) as u32;
    let big: u32;
    // SAFETY: the code is mapped to itself, so it goes on while the MMU is off; between the two
    // changes of SCTLR_EL1 no interrupt is taken and no memory but the device's is accessed.
    unsafe {
        asm!(
            "mrs {daif}, daif",
            "msr daifset, #0xf",
            "mrs {kept}, sctlr_el1",
            "bic {changed}, {kept}, {mmu}",
            "orr {changed}, {changed}, {big_endian}",
            "msr sctlr_el1, {changed}",
            "isb",
            "ldr {value:w}, [{address}]",
            "msr sctlr_el1, {kept}",
            "isb",
            "msr daif, {daif}",
            daif = out(reg) _,
            kept = out(reg) _,
            changed = out(reg) _,
            mmu = in(reg) SCTLR_M,
            big_endian = in(reg) SCTLR_EE,
            address = in(reg) register,
            value = lateout(reg) big,
            options(nostack),
        );
    }
    check.is("ldr, big-endian", big.into(), little.swap_bytes().into());
}

/// Calls whose instruction has another immediate than zero are nobody's.
fn calls(check: &mut Check) {
    macro_rules! call {
        ($instruction:literal) => {{
            let result: u64;
            // SAFETY: PSCI_VERSION, if anything, which changes no more than x0 to x3.
            unsafe {
                asm!(
                    $instruction,
                    inout("x0") 0x8400_0000_u64 => result,
                    out("x1") _, out("x2") _, out("x3") _,
                    options(nostack),
                );
            }
            result
        }};
    }
    check.is("hvc #0", call!("hvc #0"), 0x1_0001);
    check.is("smc #0", call!("smc #0"), 0x1_0001);
    check.is("hvc #1", call!("hvc #1"), u64::MAX);
    check.is("smc #0xffff", call!("smc #0xffff"), u64::MAX);
}

/// Registers of a debugger that is not there, the OS lock, and of features that are hidden.
fn registers(check: &mut Check) {
    macro_rules! read {
        ($register:literal) => {{
            let value: u64;
            // SAFETY: reading the register has no effect.
            unsafe {
                asm!(
                    concat!("mrs {}, ", $register),
                    out(reg) value,
                    options(nomem, nostack, preserves_flags),
                );
            }
            value
        }};
    }
    check.is("MDCCSR_EL0", read!("mdccsr_el0"), 0);
    check.is("MDSCR_EL1", read!("mdscr_el1"), 0);
    check.is("OSLSR_EL1", read!("oslsr_el1"), 1 << 3 | 1 << 1);
    // ID_AA64ZFR0_EL1, and one that is yet to be defined.
    check.is("ID_AA64ZFR0_EL1", read!("s3_0_c0_c4_4"), 0);
    check.is("S3_0_C0_C7_7", read!("s3_0_c0_c7_7"), 0);
    // SVE, MTE, RAS.
    check.is(
        "ID_AA64PFR0_EL1",
        read!("id_aa64pfr0_el1") & 0xff_f000_0000,
        0,
    );
    check.is("ID_AA64PFR1_EL1", read!("id_aa64pfr1_el1") & !0xff, 0);
}
