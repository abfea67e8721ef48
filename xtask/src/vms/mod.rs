//! The virtual machines of a run: what the user asks for, put together as the one file that QEMU
//! passes to the hypervisor.

mod kernel;
mod pack;
mod spec;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::{Images, unknown_guest};
use crate::linux::Linux;
use pack::pack;
pub use spec::Spec;

/// The guest that comes from Debian instead of this workspace.
pub const LINUX: &str = "linux";

/// Where guests' files come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The guests of this workspace.
    pub images: &'a Images,
    /// Linux, where some machine needs it.
    pub linux: Option<&'a Linux>,
}

/// Checks the guests' names against those of the workspace's guests.
///
/// # Errors
///
/// A guest that is unknown; the message lists those there are.
pub fn check_guests(specs: &[Spec], workspace: &[String]) -> Result<()> {
    for guest in specs.iter().filter_map(|spec| spec.guest.as_ref()) {
        if guest != LINUX && !workspace.contains(guest) {
            let mut known = workspace.to_vec();
            known.push(LINUX.to_owned());
            bail!(unknown_guest(guest, known));
        }
    }
    Ok(())
}

/// Linux, if one of the machines needs it; see [`Linux::new`].
///
/// # Errors
///
/// As [`Linux::new`].
pub fn linux(specs: &[Spec], target: &Path) -> Result<Option<Linux>> {
    let needed = specs.iter().any(Spec::needs_debian);
    needed.then(|| Linux::new(target)).transpose()
}

/// The file for QEMU's `-initrd`: a guest's image as it is, where nothing else is asked for, or
/// else an archive of all machines, written to `file`.
///
/// # Errors
///
/// When a file of a machine is missing or no kernel, or the archive cannot be written.
pub fn initrd(specs: &[Spec], sources: &Sources<'_>, file: PathBuf) -> Result<PathBuf> {
    if let [spec] = specs
        && let Some(guest) = spec.plain_guest()
    {
        return Ok(sources.images.guest(guest)?.flat.clone());
    }
    let archive = pack(specs, sources)?;
    // A QEMU that is just reading an older one goes on with that.
    let part = file.with_extension("part");
    fs::write(&part, archive)
        .and_then(|()| fs::rename(&part, &file))
        .with_context(|| format!("could not write {}", file.display()))?;
    Ok(file)
}
