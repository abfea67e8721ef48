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
            // A file that is there is whole: also after a power failure, and where the package was
            // cut off.
            let part = target.with_extension("part");
            let mut file = File::create(&part)?;
            let copied = io::copy(&mut entry, &mut file)?;
            if copied != entry.size() {
                let what = format!("it is cut off: of {} bytes it has {copied}", entry.size());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            file.sync_all()?;
            fs::rename(&part, target)?;
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let mut header = Header::new_gnu();
        header.set_size(2000);
        header.set_cksum();
        let mut archive = Builder::new(Vec::new());
        archive
            .append_data(&mut header, "./usr/boot/vmlinuz-1", &[7; 2000][..])
            .expect("memory");
        let archive = archive.into_inner().expect("memory");
        let folder = std::env::temp_dir().join(format!("xtask-package-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let target = folder.join("vmlinuz");
        copy_first(&archive[..1500], "/boot/vmlinuz-", &target).expect_err("cut off");
        assert!(!target.exists());
        assert!(!copy_first(&archive[..], "/boot/initrd", &target).expect("an archive"));
        assert!(copy_first(&archive[..], "/boot/vmlinuz-", &target).expect("an archive"));
        assert_eq!(fs::read(&target).expect("a file"), [7; 2000]);
        fs::remove_dir_all(folder).expect("the folder");
    }
}
