//! Files that a verb writes where the user says.
//!
//! A file that is there already is replaced only if it is empty or of the kind that is written, and
//! is none that the verb reads: a slip in a name costs no file. And what was not written whole is
//! an error, also where the system says so only when the file is closed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// How much of a file is looked at to tell its kind, in bytes.
const HEAD: u64 = 64 << 10;

/// A kind of files that are written.
#[derive(Clone, Copy)]
pub struct Kind {
    /// What one is called, with an article.
    pub name: &'static str,
    /// Whether a file that begins like this is one.
    pub is_one: fn(&[u8]) -> bool,
}

/// A place for a file of a kind, which may be written: there is none yet, or one that may be
/// replaced.
pub struct Output {
    path: PathBuf,
    kind: Kind,
}

impl Output {
    /// Looks at the place; `inputs` are files that are read. Nothing is changed yet.
    ///
    /// # Errors
    ///
    /// When there is something that must not be replaced, or no folder to put the file in.
    pub fn new(path: &Path, kind: Kind, inputs: &[&Path]) -> Result<Self> {
        let place = path.display();
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path
                    .parent()
                    .filter(|folder| !folder.as_os_str().is_empty());
                if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                    bail!(
                        "there is no folder {} to write {place} to",
                        folder.display()
                    );
                }
            }
            Err(error) => return Err(error).with_context(|| format!("could not look at {place}")),
            Ok(there) if there.is_dir() => bail!("{place} is a folder; name a file"),
            Ok(there) if there.is_file() => {
                if inputs.iter().any(|input| is_same(&there, input)) {
                    bail!("{place} is read, so it is not written over; name another file");
                }
                if there.len() > 0 && !(kind.is_one)(&head(path)?) {
                    bail!(
                        "{place} is there and is not {}, so it is not written over; name another file, or delete \
                         that one",
                        kind.name
                    );
                }
            }
            // A pipe or a device: nothing there is lost.
            Ok(_) => {}
        }
        let path = path.to_owned();
        Ok(Self { path, kind })
    }

    /// Makes the file, or empties the one that it replaces.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or must not be replaced by now.
    pub fn create(self) -> Result<Written> {
        let Self { path, .. } = Self::new(&self.path, self.kind, &[])?;
        let file = File::create(&path);
        let file = file.with_context(|| format!("could not make {}", path.display()))?;
        Ok(Written { file, path })
    }

    /// Writes all of the file.
    ///
    /// # Errors
    ///
    /// As for [`Self::create`], or when not all of it was written.
    pub fn write(self, contents: &str) -> Result<()> {
        let mut written = self.create()?;
        let whole = written.file.write_all(contents.as_bytes());
        whole.with_context(|| written.incomplete())?;
        written.close()
    }
}

/// Shows text on standard output, whose reader may have closed it.
///
/// # Errors
///
/// When it cannot be written, as on a full disk.
pub fn show(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    shown(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What came of writing to standard output.
///
/// # Errors
///
/// Any, but that the reader has closed it.
pub fn shown(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output could not be written whole"),
    }
}

/// Whether a file is this one, under whatever name.
fn is_same(file: &Metadata, other: &Path) -> bool {
    let id = |file: &Metadata| (file.dev(), file.ino());
    fs::metadata(other).is_ok_and(|other| id(&other) == id(file))
}

/// How a file begins.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head))
        .with_context(|| format!("could not read what is in {}", path.display()))?;
    Ok(head)
}

/// A file that is being written.
pub struct Written {
    file: File,
    path: PathBuf,
}

impl Written {
    /// Ends the file.
    ///
    /// # Errors
    ///
    /// When the system has lost some of it: some tell that only now.
    pub fn close(self) -> Result<()> {
        let incomplete = self.incomplete();
        nix::unistd::close(self.file).context(incomplete)
    }

    /// What is said of it where some of it could not be written.
    pub fn incomplete(&self) -> String {
        format!("{} could not be written whole", self.path.display())
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    fn folder() -> TempDir {
        TempDir::new().expect("a folder")
    }

    /// A file in a folder, with these contents.
    fn file(folder: &TempDir, name: &str, contents: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, contents).expect("a file");
        path
    }

    const KIND: Kind = Kind {
        name: "a list",
        is_one: |head| head.starts_with(b"list"),
    };

    fn write(path: &Path, inputs: &[&Path]) -> Result<()> {
        Output::new(path, KIND, inputs)?.write("list: a")
    }

    fn refused(path: &Path, inputs: &[&Path]) -> String {
        format!("{:#}", write(path, inputs).expect_err("a refusal"))
    }

    #[test]
    fn only_files_of_the_kind_are_replaced() {
        let folder = folder();
        for (name, before) in [("empty", &b""[..]), ("list", b"list: x, y, and z")] {
            let path = file(&folder, name, before);
            write(&path, &[]).expect(name);
            assert_eq!(fs::read(&path).expect(name), b"list: a");
        }
        let new = folder.path().join("new");
        write(&new, &[]).expect("a new file");
        let other = file(&folder, "Cargo.toml", b"[package]");
        let said = refused(&other, &[]);
        assert!(
            said.contains("Cargo.toml is there and is not a list"),
            "{said}"
        );
        assert_eq!(fs::read(&other).expect("the file"), b"[package]");
        // Through another name, too.
        let link = folder.path().join("link");
        symlink("Cargo.toml", &link).expect("a link");
        refused(&link, &[]);
        assert_eq!(fs::read(&other).expect("the file"), b"[package]");
    }

    #[test]
    fn what_is_read_is_not_written_over_under_any_name() {
        let folder = folder();
        let input = file(&folder, "input", b"list: precious");
        let link = folder.path().join("link");
        symlink(&input, &link).expect("a link");
        let hard = folder.path().join("hard");
        fs::hard_link(&input, &hard).expect("a second name");
        let detour = folder
            .path()
            .join("..")
            .join(folder.path().file_name().expect("a name"))
            .join("input");
        for path in [&input, &link, &hard, &detour] {
            let said = refused(path, &[&input]);
            assert!(said.contains("is read"), "{said}");
        }
        assert_eq!(fs::read(&input).expect("the file"), b"list: precious");
    }

    #[test]
    fn who_reads_no_more_is_no_error_and_a_full_disk_is() {
        let result = |kind: io::ErrorKind| shown(Err(kind.into()));
        assert!(result(io::ErrorKind::BrokenPipe).is_ok());
        let said = format!(
            "{:#}",
            result(io::ErrorKind::StorageFull).expect_err("an error")
        );
        assert!(
            said.starts_with("standard output could not be written whole: "),
            "{said}"
        );
    }

    #[test]
    fn a_place_that_is_none_is_told() {
        let folder = folder();
        assert!(refused(folder.path(), &[]).contains("is a folder"));
        let nowhere = folder.path().join("no/where");
        assert!(refused(&nowhere, &[]).contains("there is no folder"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error() {
        let said = refused(Path::new("/dev/full"), &[]);
        assert!(
            said.contains("/dev/full could not be written whole: No space left"),
            "{said}"
        );
        // Small writes are kept back by no buffer of ours.
        write(Path::new("/dev/null"), &[]).expect("a device that takes all");
    }
}
