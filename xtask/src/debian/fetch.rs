//! Single files of Debian packages, fetched once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::apt::Apt;
use super::package;

/// A file that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    /// What it is called in the folder.
    pub(super) name: &'static str,
    /// The package that has it.
    pub(super) package: Package,
    /// A part of its path in the package; the first file with it is the one.
    pub(super) path: &'static str,
}

/// A package, some of whose name may change from one release to the next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Package {
    /// The one with this name.
    Named(&'static str),
    /// The first that this one depends on.
    DependencyOf(&'static str),
    /// The last of those whose names begin and end so.
    Latest(&'static str, &'static str),
}

impl Package {
    fn name(self, apt: &Apt) -> Result<String> {
        match self {
            Self::Named(name) => Ok(name.to_owned()),
            Self::DependencyOf(name) => apt.dependency(name),
            Self::Latest(start, end) => apt.latest(start, end),
        }
    }
}

/// The paths of `files` in `folder`, in their order, after those that were missing were fetched.
///
/// # Errors
///
/// When apt is not there, or does not get one.
pub(super) fn fetched(files: &[File], folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    // Of two that run at once the second finds what the first has fetched.
    let lock = fs::File::create(folder.join("lock")).context("could not make a lock file")?;
    lock.lock().context("could not take the lock file")?;
    let path = |file: &File| folder.join(file.name);
    let is_missing = |file: &&File| !path(file).is_file();
    let missing: Vec<_> = files.iter().filter(is_missing).collect();
    if !missing.is_empty() {
        let apt = Apt::new(&folder.join("apt"))?;
        apt.update();
        for file in missing {
            let archive = apt.download(&file.package.name(&apt)?)?;
            package::extract(&archive, file.path, &path(file))?;
        }
        // Nothing else of the packages is wanted, and they are large.
        apt.forget_packages();
    }
    Ok(files.iter().map(path).collect())
}
