//! The calls that a hypervisor on one CPU makes: PSCI's, as far as it does, and the architecture's
//! (DEN 0022, DEN 0028).

use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

const PSCI_VERSION: u32 = 0x8400_0000;
const PSCI_1_1: u32 = 0x1_0001;
const SYSTEM_OFF: u32 = 0x8400_0008;
const PSCI_FEATURES: u32 = 0x8400_000a;
const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_1_2: u32 = 0x1_0002;
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
/// `SMCCC_ARCH_WORKAROUND_1` to 3.
const WORKAROUNDS: [u32; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];
const NOT_SUPPORTED: u32 = -1_i32 as u32;

/// QEMU virt's PL011: its data register.
const UART: *mut u32 = 0x0900_0000 as *mut u32;

/// How often each of [`WORKAROUNDS`] was called, in Secure RAM, which is zero when the machine
/// starts.
static CALLS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

/// Carries out the call `function`.
pub(super) extern "C" fn answer(function: u32, argument: u32) -> u32 {
    if let Some(place) = WORKAROUNDS.iter().position(|&known| known == function) {
        let calls = &CALLS[place];
        calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // It returns nothing, so anything may be in the register.
        return 0xdead;
    }
    match (function, argument) {
        (PSCI_VERSION, _) => PSCI_1_1,
        (PSCI_FEATURES, SMCCC_VERSION) => 0,
        (SMCCC_VERSION, _) => SMCCC_1_2,
        (SMCCC_ARCH_FEATURES, about) if WORKAROUNDS.contains(&about) => 0,
        (SYSTEM_OFF, _) => off(),
        _ => NOT_SUPPORTED,
    }
}

/// Says how often the workarounds were called, and ends QEMU.
fn off() -> ! {
    let [first, second, third] = CALLS.each_ref().map(|calls| calls.load(Ordering::Relaxed));
    // The UART takes everything.
    let _ = writeln!(
        Uart,
        "firmware: workarounds 1 to 3 were called {first}, {second}, {third} times"
    );
    exit()
}

/// Ends QEMU with status 0, by semihosting: SYS_EXIT with ADP_Stopped_ApplicationExit.
fn exit() -> ! {
    let block: [u64; 2] = [0x2_0026, 0];
    loop {
        // SAFETY: QEMU ends; where semihosting is off it stops here again and again.
        unsafe { asm!("hlt #0xf000", in("w0") 0x18, in("x1") &raw const block) };
    }
}

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: It is the UART's register, and takes a byte at any time in QEMU.
            unsafe { UART.write_volatile(byte.into()) };
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Uart, "firmware: PANIC: {info}");
    loop {}
}
