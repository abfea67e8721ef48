//! A copy of the source tree, to be patched and put right again.
//!
//! Invariant: files that are as they should be are never written, so that cargo builds only what a
//! patch has changed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, bail};

use super::patch::Patch;

/// The folder, within the tree, that patches are relative to.
const PATCHED: &str = "hyp/stage2";

/// The copy.
pub(super) struct Tree {
    original: PathBuf,
    root: PathBuf,
}

impl Tree {
    /// Copies the tree at `original` to `root`, but for builds and history.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub(super) fn copy(original: &Path, root: &Path) -> Result<Self> {
        let tree = Self {
            original: original.to_path_buf(),
            root: root.to_path_buf(),
        };
        mirror(original, root).context("could not copy the source tree")?;
        Ok(tree)
    }

    /// A tree as it is, for tests that change nothing.
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self {
            original: root.to_path_buf(),
            root: root.to_path_buf(),
        }
    }

    /// Where the copy is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts back what patches have changed.
    ///
    /// # Errors
    ///
    /// As [`Tree::copy`].
    pub(super) fn restore(&self) -> Result<()> {
        mirror(&self.original.join(PATCHED), &self.root.join(PATCHED))
            .context("could not restore the source tree")
    }

    /// Applies a patch.
    ///
    /// # Errors
    ///
    /// When it does not fit the source.
    pub(super) fn apply(&self, patch: &Patch) -> Result<()> {
        apply(patch, &self.root, &[])
    }
}

fn apply(patch: &Patch, root: &Path, options: &[&str]) -> Result<()> {
    let output = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .args(options)
        .arg(&patch.path)
        .current_dir(root.join(PATCHED))
        // The copy lies within the repository, which git must not take it for.
        .env("GIT_CEILING_DIRECTORIES", root)
        .output()
        .context("could not run git, which applies the patches")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} does not fit the source:\n{}",
            patch.path.display(),
            message.trim_end()
        );
    }
    Ok(())
}

/// Makes `to` hold what `from` holds, but for builds and history.
fn mirror(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if from.join(entry.file_name()).exists() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && !is_left_out(&entry.file_name()) {
            mirror(&entry.path(), &target)?;
        } else if kind.is_file() {
            let contents = fs::read(entry.path())?;
            if !fs::read(&target).is_ok_and(|old| old == contents) {
                fs::write(&target, contents)?;
            }
        }
    }
    Ok(())
}

fn is_left_out(name: &OsStr) -> bool {
    name == ".git" || name == "target"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_fits_the_source() {
        let root = crate::workspace::root();
        let folder = root.join(crate::rules::FOLDER);
        let patches = crate::rules::patch::read_all(&folder).expect("the rules");
        assert!(!patches.is_empty());
        for patch in patches {
            apply(&patch, &root, &["--check"]).unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    #[test]
    fn the_copy_follows_the_original() {
        let folder = std::env::temp_dir().join(format!("tessera-mirror-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write(&from.join("a/b"), "1");
        write(&from.join("target/c"), "2");
        write(&to.join("a/b"), "patched");
        write(&to.join("old/d"), "3");
        mirror(&from, &to).expect("a copy");
        assert_eq!(fs::read_to_string(to.join("a/b")).expect("a file"), "1");
        assert!(!to.join("target").exists() && !to.join("old").exists());
        fs::remove_dir_all(&folder).expect("the folder removed");
    }
}
