//! Linux as a guest: Debian's kernel and BusyBox through apt, and an initial RAM disk made of that.
//!
//! What was fetched is kept in `linux/` under the target directory, and used until that is removed.

mod apt;
mod initramfs;
mod package;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::{build, setup};
use apt::Apt;
use initramfs::initramfs;

/// Debian's package that depends on the current kernel for arm64.
const KERNEL_METAPACKAGE: &str = "linux-image-arm64";

/// Debian's package of one static binary with all applets.
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// Where Debian's packages have what is wanted of them, as the start of a path.
const KERNEL_PATH: &str = "./boot/vmlinuz-";
const BUSYBOX_PATH: &str = "./bin/busybox";

/// How a user gets along without apt.
const BY_HAND: &str = "Linux can also be booted from files of your own: --kernel FILE with a raw or \
                       gzip-compressed Image, and --initrd FILE.";

/// Linux, ready to be packed.
#[derive(Clone, Debug)]
pub struct Linux {
    /// The kernel's file, as Debian ships it.
    pub kernel: PathBuf,
    /// The initial RAM disk, with BusyBox and the programs of this workspace.
    pub initramfs: Vec<u8>,
}

impl Linux {
    /// Fetches Debian's files if they are not there yet, builds the programs and makes the initial RAM
    /// disk.
    ///
    /// # Errors
    ///
    /// When apt is not there, or does not get the files, or the build fails; the message says what
    /// to do.
    pub fn new(target: &Path) -> Result<Self> {
        let debian = Debian::fetched(&target.join("linux"))?;
        setup::for_linux()?;
        let programs = build::linux_programs()?;
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let mut files = vec![("busybox".to_owned(), debian.busybox)];
        files.extend(
            programs
                .into_iter()
                .filter_map(|path| Some((name(&path)?, path))),
        );
        Ok(Self {
            kernel: debian.kernel,
            initramfs: initramfs(&files)?,
        })
    }
}

/// Debian's files, on disk.
struct Debian {
    kernel: PathBuf,
    busybox: PathBuf,
}

impl Debian {
    fn fetched(folder: &Path) -> Result<Self> {
        let debian = Self {
            kernel: folder.join("vmlinuz"),
            busybox: folder.join("busybox"),
        };
        fs::create_dir_all(folder)
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
        // Of two that run at once the second finds what the first has fetched.
        let lock = File::create(folder.join("lock")).context("could not make a lock file")?;
        lock.lock().context("could not take the lock file")?;
        if !debian.is_there() {
            let fetched = debian.fetch(&folder.join("apt"));
            fetched.map_err(|error| anyhow!("{error:#}\n{BY_HAND}"))?;
        }
        Ok(debian)
    }

    fn is_there(&self) -> bool {
        self.kernel.is_file() && self.busybox.is_file()
    }

    fn fetch(&self, folder: &Path) -> Result<()> {
        let apt = Apt::new(folder)?;
        apt.update();
        let kernel = apt.dependency(KERNEL_METAPACKAGE)?;
        for (package, path, file) in [
            (BUSYBOX_PACKAGE, BUSYBOX_PATH, &self.busybox),
            (&kernel, KERNEL_PATH, &self.kernel),
        ] {
            let archive = apt.download(package)?;
            package::extract(&archive, path, file)?;
            // Nothing else of it is wanted, and it is large.
            let _ = fs::remove_file(archive);
        }
        Ok(())
    }
}

/// Says on standard error what is going on.
fn say(what: &str) {
    eprintln!("linux: {what}");
}
