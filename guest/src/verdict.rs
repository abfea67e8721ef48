//! How a guest ends: one line with its verdict, then power-off. What a failing guest says must fit
//! in that line, so guests use `assert!` with a message, not `assert_eq!`, which adds lines of its
//! own.

use core::panic::PanicInfo;

use crate::{console, println, psci};

/// Prints `verdict: passed` and powers off.
pub fn passed() -> ! {
    println!("verdict: passed");
    psci::system_off()
}

/// A panic on any vCPU is the guest's failure.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Some(location) = info.location() {
        console::write_last_line(format_args!("panic at {location}"));
    }
    console::write_last_line(format_args!("verdict: failed: {}", info.message()));
    psci::system_off()
}
