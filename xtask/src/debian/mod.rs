//! Guests that come from Debian: their files through apt, and for Linux an initial RAM disk made of
//! them.
//!
//! What was fetched is kept in `debian/` under the target directory, and used until that is
//! removed.

mod apt;
mod fetch;
mod initramfs;
mod package;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::{build, setup};
use fetch::{File, Package, fetched};
use initramfs::initramfs;

/// The guests, by the names that users give.
pub const GUESTS: [&str; 4] = [LINUX, INSTALLER, U_BOOT, EDK2];

/// Those that have an initial RAM disk, which can be had with another kernel.
pub const WITH_DISK: [&str; 2] = [LINUX, INSTALLER];

/// Debian's kernel, with BusyBox and the programs of this workspace.
pub const LINUX: &str = "linux";
/// Debian's installer, with its text frontend.
const INSTALLER: &str = "installer";
/// U-Boot for QEMU's board.
const U_BOOT: &str = "u-boot";
/// EDK2 for QEMU's board: UEFI firmware, with its shell.
pub const EDK2: &str = "edk2";

/// Debian's files, each with the package that has it and a part of its path there.
const KERNEL: File = File {
    name: "vmlinuz",
    package: Package::DependencyOf("linux-image-arm64"),
    path: "/boot/vmlinuz-",
};
const BUSYBOX: File = File {
    name: "busybox",
    package: Package::Named("busybox-static"),
    path: "/bin/busybox",
};
const INSTALLER_PACKAGE: Package = Package::Latest("debian-installer-", "-netboot-arm64");
const INSTALLER_KERNEL: File = File {
    name: "installer-linux",
    package: INSTALLER_PACKAGE,
    path: "/text/debian-installer/arm64/linux",
};
const INSTALLER_DISK: File = File {
    name: "installer-initrd.gz",
    package: INSTALLER_PACKAGE,
    path: "/text/debian-installer/arm64/initrd.gz",
};
const U_BOOT_BINARY: File = File {
    name: "u-boot.bin",
    package: Package::Named("u-boot-qemu"),
    path: "/qemu_arm64/u-boot.bin",
};

const EDK2_BINARY: File = File {
    name: "QEMU_EFI.fd",
    package: Package::Named("qemu-efi-aarch64"),
    path: "/qemu-efi-aarch64/QEMU_EFI.fd",
};

/// Where the files are, in the target directory.
const FOLDER: &str = "debian";

/// How a user gets along without apt.
const BY_HAND: &str = "A guest can also be booted from files of your own: --kernel FILE with a raw or \
                       gzip-compressed Image or a flat binary, and --initrd FILE, or --firmware FILE.";

/// A guest, ready to be packed.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The file of the kernel or the firmware, as Debian ships it.
    pub kernel: PathBuf,
    /// Whether that is firmware.
    pub is_firmware: bool,
    /// The initial RAM disk, if it has one.
    pub initrd: Option<Vec<u8>>,
}

impl Guest {
    /// Fetches the files of the guest called `name`, one of [`GUESTS`], if they are not there yet.
    /// For Linux the programs are built and the initial RAM disk is made.
    ///
    /// # Errors
    ///
    /// When apt is not there, or does not get the files, or the build fails; the message says what
    /// to do.
    pub fn new(name: &str, target: &Path) -> Result<Self> {
        let folder = target.join(FOLDER);
        let get = |files: &[File]| {
            let paths = fetched(files, &folder);
            paths.map_err(|error| anyhow!("{error:#}\n{BY_HAND}"))
        };
        match name {
            INSTALLER => {
                let paths = get(&[INSTALLER_KERNEL, INSTALLER_DISK])?;
                let disk = fs::read(&paths[1]);
                Ok(Self {
                    kernel: paths[0].clone(),
                    is_firmware: false,
                    initrd: Some(disk.context("could not read the installer's initial RAM disk")?),
                })
            }
            U_BOOT => Ok(Self {
                kernel: get(&[U_BOOT_BINARY])?.remove(0),
                is_firmware: true,
                initrd: None,
            }),
            EDK2 => Ok(Self {
                kernel: get(&[EDK2_BINARY])?.remove(0),
                is_firmware: true,
                initrd: None,
            }),
            _ => {
                let mut paths = get(&[KERNEL, BUSYBOX])?;
                Ok(Self {
                    initrd: Some(initramfs_with(paths.remove(1))?),
                    kernel: paths.remove(0),
                    is_firmware: false,
                })
            }
        }
    }
}

/// The kernel of the guest called `name`, if that was fetched before.
pub fn fetched_kernel(name: &str, target: &Path) -> Option<PathBuf> {
    let file = match name {
        LINUX => KERNEL,
        INSTALLER => INSTALLER_KERNEL,
        _ => return None,
    };
    Some(target.join(FOLDER).join(file.name)).filter(|path| path.is_file())
}

/// The tests of the guest [`LINUX`], which its boot argument `test=` names.
pub fn linux_tests() -> impl Iterator<Item = &'static str> {
    let function = |line: &'static str| line.strip_prefix("test_")?.strip_suffix("() {");
    initramfs::INIT.lines().filter_map(function)
}

/// Linux's initial RAM disk with this BusyBox.
fn initramfs_with(busybox: PathBuf) -> Result<Vec<u8>> {
    setup::for_linux()?;
    let mut files = vec![("busybox".to_owned(), busybox)];
    for program in build::linux_programs()? {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        files.push((name.into_owned(), program));
    }
    initramfs(&files)
}

/// Says on standard error what is going on.
fn say(what: &str) {
    eprintln!("debian: {what}");
}
