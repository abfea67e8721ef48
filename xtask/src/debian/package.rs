//! Single files out of Debian packages. `dpkg-deb` unpacks the compression, whatever it is, to a
//! tar stream, which is read here only as far as needed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tar::Archive;

/// Writes the first file of `package` whose path contains `path` to `target`.
///
/// # Errors
///
/// When the package cannot be read or has no such file.
pub(super) fn extract(package: &Path, path: &str, target: &Path) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--fsys-tarfile").arg(package);
    // It complains of a broken pipe when the rest is not read.
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("could not run dpkg-deb")?;
    let found = match child.stdout.take() {
        Some(stream) => copy_first(stream, path, target),
        None => Ok(false),
    };
    child.wait().context("could not wait for dpkg-deb")?;
    let name = package.display();
    match found {
        Ok(true) => Ok(()),
        Ok(false) => bail!("{name} has no file *{path}*"),
        Err(error) => Err(error).with_context(|| format!("could not unpack {name}")),
    }
}

/// Copies the first file of a tar stream whose path contains `path`; says whether there is one.
fn copy_first(stream: impl Read, path: &str, target: &Path) -> io::Result<bool> {
    for entry in Archive::new(stream).entries()? {
        let mut entry = entry?;
        let wanted = String::from_utf8_lossy(&entry.path_bytes()).contains(path);
        if wanted && entry.header().entry_type().is_file() {
            // A file that is there is whole.
            let part = target.with_extension("part");
            io::copy(&mut entry, &mut File::create(&part)?)?;
            fs::rename(&part, target)?;
            return Ok(true);
        }
    }
    Ok(false)
}
