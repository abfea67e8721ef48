//! The virtual machines of a run: what the user asks for, put together as the one file that QEMU
//! passes to the hypervisor.

mod check;
mod disk;
mod kernel;
mod pack;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::build::{Images, unknown_guest};
use crate::debian::{GUESTS, Guest};
pub use check::{Host, check, warning};
use pack::pack;
pub use spec::Spec;

/// Where guests' files come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The guests of this workspace.
    pub images: &'a Images,
    /// The guests of Debian's.
    pub debian: &'a Debian,
}

/// Debian's guests that some machine needs, by name, or why one could not be had.
pub type Debian = BTreeMap<String, Result<Guest>>;

impl<'a> Sources<'a> {
    /// The guest of Debian's that a machine needs, if it needs one.
    fn debian(&self, spec: &Spec) -> Option<Result<&'a Guest>> {
        let name = spec.debian_guest()?;
        Some(match self.debian.get(name) {
            Some(Ok(guest)) => Ok(guest),
            Some(Err(reason)) => Err(anyhow!("{reason:#}")),
            None => Err(anyhow!("{name} was not fetched")),
        })
    }
}

/// Checks the guests' names against those of the workspace's guests.
///
/// # Errors
///
/// A guest that is unknown; the message lists those there are.
pub fn check_guests(specs: &[Spec], workspace: &[String]) -> Result<()> {
    for guest in specs.iter().filter_map(|spec| spec.guest.as_ref()) {
        let known = || workspace.iter().map(String::as_str).chain(GUESTS);
        if !known().any(|name| name == guest) {
            bail!(unknown_guest(guest, known().map(str::to_owned).collect()));
        }
    }
    Ok(())
}

/// Gets those guests of Debian's that the machines need; see [`Guest::new`].
pub fn debian(specs: &[Spec], target: &Path) -> Debian {
    let names = specs.iter().filter_map(Spec::debian_guest);
    let names: BTreeSet<_> = names.collect();
    let guest = |name: &str| (name.to_owned(), Guest::new(name, target));
    names.into_iter().map(guest).collect()
}

/// The file for QEMU's `-initrd`: an archive of all machines, written to `file`.
///
/// # Errors
///
/// When a file of a machine is missing or no kernel, or the archive cannot be written.
pub fn initrd(specs: &[Spec], sources: &Sources<'_>, file: PathBuf) -> Result<PathBuf> {
    let archive = pack(specs, sources)?;
    // A QEMU that is just reading an older one goes on with that.
    let part = file.with_extension("part");
    fs::write(&part, archive)
        .and_then(|()| fs::rename(&part, &file))
        .with_context(|| format!("could not write {}", file.display()))?;
    Ok(file)
}
