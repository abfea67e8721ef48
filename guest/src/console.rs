//! The PL011, shared by all vCPUs: one lock, held for a whole line, so that lines are never torn.

use core::{
    fmt::{self, Write},
    ptr::NonNull,
};

use arm_pl011_uart::{Error, PL011Registers, Uart, UniqueMmioPointer};
use spin::Mutex;

use crate::time;

/// IPA of the PL011 on QEMU `virt`, which serves until the device tree has been read.
const USUAL_PLACE: NonNull<PL011Registers> =
    NonNull::new(0x900_0000 as *mut PL011Registers).unwrap();

/// How long a panicking vCPU waits for the lock.
const PATIENCE_SECONDS: u64 = 1;

static CONSOLE: Mutex<Uart<'static>> = Mutex::new(uart(USUAL_PLACE));

const fn uart(registers: NonNull<PL011Registers>) -> Uart<'static> {
    // SAFETY: stage 1 maps the PL011 at its own address as device memory. Its registers are reached
    // through the one value in `CONSOLE`, and by the guest `touch` in a way that changes nothing.
    Uart::new(unsafe { UniqueMmioPointer::new(registers) })
}

/// Sends output to the PL011 at IPA `base` from now on.
pub fn open(base: u64) {
    if let Some(registers) = NonNull::new(base as *mut PL011Registers) {
        *CONSOLE.lock() = uart(registers);
    }
}

/// Writes `line` and a line end; [`println!`](crate::println) is more convenient.
pub fn write_line(line: fmt::Arguments<'_>) {
    write_to(&mut CONSOLE.lock(), line);
}

/// Writes part of a line.
pub fn write_part(text: &str) {
    // The PL011 never refuses a byte.
    let _ = CONSOLE.lock().write_str(text);
}

/// Waits until something is typed, and takes one byte of it.
///
/// # Errors
///
/// What the UART says was wrong with it, or with what came before.
pub fn read_byte() -> Result<u8, Error> {
    loop {
        if let Some(result) = CONSOLE.lock().read_word().transpose() {
            return result;
        }
        core::hint::spin_loop();
    }
}

/// Waits until something is typed, and takes one byte of it.
pub fn wait_for_byte() -> u8 {
    loop {
        // An error is a byte that was damaged on its way: the next one is as good.
        if let Ok(byte) = read_byte() {
            return byte;
        }
    }
}

/// As [`write_line`], for a panic: does not wait for ever for a vCPU that holds the lock and may
/// never come back.
pub(crate) fn write_last_line(line: fmt::Arguments<'_>) {
    let deadline = time::now().saturating_add(PATIENCE_SECONDS * time::frequency());
    while time::now() < deadline {
        if let Some(mut uart) = CONSOLE.try_lock() {
            return write_to(&mut uart, line);
        }
        core::hint::spin_loop();
    }
    // SAFETY: who has held the lock for so long is this vCPU, in the middle of a line that it will
    // never finish, or one that hangs. If that one wakes up all the same, its line and this one
    // mix, in the data register and nowhere else.
    unsafe { CONSOLE.force_unlock() };
    write_line(line);
}

fn write_to(uart: &mut Uart<'static>, line: fmt::Arguments<'_>) {
    // The PL011 never refuses a byte, so the only error would be of formatting itself.
    let _ = uart.write_fmt(line);
    let _ = uart.write_str("\n");
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::console::write_line(format_args!($($argument)*))
    };
}
