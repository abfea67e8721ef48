//! What the guest sees of its machine, with the checks that need no more than a look.

use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::registers::{
    CurrentEL, ID_AA64MMFR0_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, MIDR_EL1, MPIDR_EL1, Readable,
};
use guest::{
    boot,
    machine::Machine,
    println,
    psci::{self, Error},
    time,
};

/// MPIDR_EL1.{Aff3, Aff2, Aff1, Aff0}.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// An affinity that no machine of these guests has.
const NOBODY: u64 = 0x12_0034_5678;

/// The functions of SMCCC_ARCH_WORKAROUND_1 to 3, in this order.
const WORKAROUNDS: [u32; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];

/// How many of the other vCPUs have come up.
static UP: AtomicUsize = AtomicUsize::new(0);

/// Prints the facts, and starts the other vCPUs, each of which prints a line.
pub(crate) fn print(machine: &'static Machine<'static>) {
    let el = CurrentEL.read(CurrentEL::EL);
    assert!(el == 1, "the guest runs at EL{el}");
    println!(
        "hello from EL1, MIDR {:#x}, {} PA bits",
        MIDR_EL1.get(),
        pa_bits()
    );
    println!(
        "memory {}, image {}, device tree {}",
        machine.memory,
        boot::image(),
        machine.tree_span()
    );
    println!("{} MiB free for use", boot::pool(machine).pages() / 256);
    println!("counter {} at {} Hz", time::now(), time::frequency());
    println!("console PL011 at {:#x}", machine.uart);
    println!("arguments \"{}\"", machine.arguments);
    check_psci(machine);
    check_workarounds();
    start_others(machine);
}

/// PA bits of `ID_AA64MMFR0_EL1.PARange`.
pub(crate) fn pa_bits() -> u32 {
    match ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange) {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        _ => 52,
    }
}

fn check_psci(machine: &Machine<'static>) {
    match psci::version() {
        Ok(version) => println!("PSCI {version} by {:?}", psci::conduit()),
        Err(error) => panic!("PSCI_VERSION: {error}"),
    }
    // SAFETY: one CPU is on already and the other does not exist, so neither starts anywhere.
    let (again, nobody) = unsafe {
        (
            psci::cpu_on(machine.mpidrs()[0], 0),
            psci::cpu_on(NOBODY, 0),
        )
    };
    assert!(
        again == Err(Error::AlreadyOn),
        "CPU_ON of the vCPU that calls: {again:?}"
    );
    assert!(
        nobody == Err(Error::InvalidParameters),
        "CPU_ON of a vCPU that is not there: {nobody:?}"
    );
}

/// What the firmware offers against attacks by speculation is there, and agrees with what the ID
/// registers say.
fn check_workarounds() {
    let [targets, bypass, history] = WORKAROUNDS.map(psci::architecture_feature);
    let csv2 = ID_AA64PFR0_EL1.get() >> 56 & 0xf;
    let ssbs = ID_AA64PFR1_EL1.get() >> 4 & 0xf;
    println!("workarounds {targets}, {bypass}, {history}; CSV2 {csv2}, SSBS {ssbs}");
    assert!(csv2 == 0 || targets == 1, "CSV2 says not affected");
    assert!(ssbs == 0 || bypass == -1, "it is up to SSBS");
    for function in WORKAROUNDS {
        let (offered, called) = (
            psci::architecture_feature(function),
            psci::architecture_call(function),
        );
        let expected = if offered == -1 { -1 } else { 0 };
        assert!(
            called == expected,
            "workaround {function:#x}, offered as {offered}, returns {called}"
        );
    }
}

fn start_others(machine: &'static Machine<'static>) {
    println!("vcpu 0 is up, MPIDR {:#x}", MPIDR_EL1.get() & AFFINITY);
    let deadline = time::now() + 10 * time::frequency();
    for index in 1..machine.mpidrs().len() {
        boot::start_vcpu(machine, index, say_hello);
        while UP.load(Ordering::Acquire) < index {
            assert!(time::now() < deadline, "vcpu {index} did not come up");
            core::hint::spin_loop();
        }
    }
}

fn say_hello(index: usize) {
    println!(
        "vcpu {index} is up, MPIDR {:#x}",
        MPIDR_EL1.get() & AFFINITY
    );
    UP.fetch_add(1, Ordering::Release);
}
