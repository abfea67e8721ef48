//! The initial RAM disk: BusyBox, programs of this workspace and the script that runs first.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::archive::Archive;

/// The script that Linux runs first.
pub(super) const INIT: &str = include_str!("../../../guest/linux/init");

/// Folders that mounts and programs need.
const FOLDERS: [&str; 6] = ["bin", "dev", "etc", "proc", "sys", "tmp"];

/// The console, open before `devtmpfs` is mounted; its numbers are in Linux's list of devices
/// (Documentation/admin-guide/devices.txt).
const CONSOLE: (&str, (u32, u32)) = ("dev/console", (5, 1));

/// Makes an initial RAM disk of these programs, static executables with the names they get. One of
/// them is `busybox`.
///
/// # Errors
///
/// When a program cannot be read.
pub(super) fn initramfs(programs: &[(String, PathBuf)]) -> Result<Vec<u8>> {
    let mut disk = Archive::default();
    for folder in FOLDERS {
        disk.folder(folder)?;
    }
    let (path, numbers) = CONSOLE;
    disk.device(path, numbers)?;
    disk.link("bin/sh", "busybox")?;
    disk.file("init", 0o755, INIT.as_bytes())?;
    for (name, file) in programs {
        let contents =
            fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
        disk.file(&format!("bin/{name}"), 0o755, &contents)?;
    }
    Ok(disk.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_finds_what_it_looks_for() {
        let file = crate::workspace::root().join("Cargo.toml");
        let disk = initramfs(&[("busybox".into(), file)]).expect("a disk");
        let text = String::from_utf8_lossy(&disk);
        for part in [
            "bin/busybox\0",
            "init\0",
            "#!/bin/busybox sh",
            "dev/console\0",
        ] {
            assert!(text.contains(part), "{part:?}");
        }
    }
}
