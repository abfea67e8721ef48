//! Ctrl-C, and the signals that ask a program to end, as a flag that waiting loops look at, so
//! that whoever started a child ends it and puts the terminal right.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static RAISED: AtomicBool = AtomicBool::new(false);

/// The exit status of a program that Ctrl-C ended, as shells know it.
pub const EXIT_STATUS: u8 = 130;

/// Catches SIGINT, SIGTERM and SIGHUP from here on. To be called once.
///
/// # Errors
///
/// When the process has such a handler already.
pub fn catch() -> Result<()> {
    ctrlc::set_handler(|| RAISED.store(true, Ordering::SeqCst)).context("could not catch Ctrl-C")
}

/// Whether one of the signals has come.
pub fn raised() -> bool {
    RAISED.load(Ordering::SeqCst)
}
