//! What the programs for a Linux guest share: how they are called and how they end.

use std::ffi::OsString;

use anyhow::Result;

/// A program's own file, whatever it is called.
pub const OWN_FILE: &str = "/proc/self/exe";

/// An argument `key=value`, as the kernel's command line has it (`test=memcheck seconds=20`), is an
/// option.
pub fn as_option(argument: OsString) -> OsString {
    let text = argument.to_str().unwrap_or_default();
    match text.split_once('=') {
        Some((key, _)) if key.starts_with(|c: char| c.is_ascii_lowercase()) => {
            format!("--{text}").into()
        }
        _ => argument,
    }
}

/// Prints the verdict by which a boot test judges the guest.
pub fn give_verdict(result: &Result<()>) {
    match result {
        Ok(()) => println!("verdict: passed"),
        Err(error) => println!("verdict: failed: {error:#}"),
    }
}
