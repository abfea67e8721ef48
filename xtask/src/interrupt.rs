//! Ctrl-C, and the signals that ask a program to end, as a flag that waiting loops look at, so
//! that the code that started a child ends it and restores the terminal.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, Signal, signal};

static RAISED: AtomicBool = AtomicBool::new(false);

/// The exit status of a program that Ctrl-C ended, as shells know it.
pub const EXIT_STATUS: u8 = 130;

/// Catches SIGINT, SIGTERM and SIGHUP from here on, and has a file that must not grow (`ulimit -f`)
/// be an error of who writes it instead of a signal. To be called once.
///
/// # Errors
///
/// When the process has such a handler already.
pub fn catch() -> Result<()> {
    // SAFETY: the signal is ignored from here on, so there is no handler that could do harm.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }
        .context("could not ignore the signal of files that are too large")?;
    ctrlc::set_handler(|| RAISED.store(true, Ordering::SeqCst)).context("could not catch Ctrl-C")
}

/// Whether one of the signals has come.
pub fn raised() -> bool {
    RAISED.load(Ordering::SeqCst)
}
