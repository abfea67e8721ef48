//! A guest's initial RAM disk as the user has it. What is in it is the guest's own business.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Reads one.
///
/// # Errors
///
/// As [`length`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    length(path)?;
    fs::read(path).with_context(|| unreadable(path))
}

/// How long one is, in bytes.
///
/// # Errors
///
/// When it cannot be read, or nothing is in it.
pub(super) fn length(path: &Path) -> Result<u64> {
    let name = path.display();
    // Opening what is no file could wait for ever.
    let file = fs::metadata(path).with_context(|| unreadable(path))?;
    if !file.is_file() {
        bail!("the initial RAM disk {name} is no file");
    }
    if file.len() == 0 {
        bail!("the initial RAM disk {name} is empty");
    }
    Ok(file.len())
}

fn unreadable(path: &Path) -> String {
    format!("could not read the initial RAM disk {}", path.display())
}
