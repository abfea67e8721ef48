//! The PL011, shared by all vCPUs: one lock, held for a whole line, so that lines are never torn.

use core::{
    fmt::{self, Write},
    ptr::NonNull,
};

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use spin::Mutex;

/// IPA of the PL011 on QEMU `virt`, for the case that the device tree can't be asked.
pub const USUAL_PLACE: u64 = 0x900_0000;

/// How often a panicking vCPU tries for the lock before it writes nevertheless.
const PATIENCE: usize = 1_000_000;

static CONSOLE: Mutex<Option<Uart<'static>>> = Mutex::new(None);

/// Sends output to the PL011 at IPA `base` from now on; lines printed before are lost.
pub fn open(base: u64) {
    let Some(registers) = NonNull::new(base as *mut PL011Registers) else {
        return;
    };
    // SAFETY: `base` is where the device tree has the PL011; stage 1 maps it as device memory at its
    // own address, and it is touched through this value only, or by `touch` in a way that changes
    // nothing.
    let registers = unsafe { UniqueMmioPointer::new(registers) };
    *CONSOLE.lock() = Some(Uart::new(registers));
}

/// Writes `line` and a line end; [`println!`](crate::println) is more convenient.
pub fn write_line(line: fmt::Arguments<'_>) {
    if let Some(uart) = CONSOLE.lock().as_mut() {
        // The PL011 never refuses a byte, so the only error would be of formatting itself.
        let _ = uart.write_fmt(line);
        let _ = uart.write_str("\n");
    }
}

/// As [`write_line`], for a panic: begins a new line, and gives up waiting for a vCPU that holds the
/// lock and may never come back.
pub(crate) fn write_last_line(line: fmt::Arguments<'_>) {
    let mut tries = 0;
    while CONSOLE.is_locked() && tries < PATIENCE {
        tries += 1;
        core::hint::spin_loop();
    }
    // SAFETY: the holder, if there still is one, is this vCPU, in the middle of a line it will never
    // finish, or one that hung; either way the machine is about to be powered off.
    unsafe { CONSOLE.force_unlock() };
    write_line(line);
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::console::write_line(format_args!($($argument)*))
    };
}
