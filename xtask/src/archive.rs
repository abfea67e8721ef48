//! Archives in the form of initial RAM disks (cpio, newc), made in memory: Linux unpacks one, and
//! the hypervisor reads its guests from one.

use std::io::{Error, Result, Write};

use cpio::newc::{Builder, ModeFileType, trailer};

/// Bytes of an entry before its name.
const HEADER_SIZE: usize = 110;

/// An archive that grows.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a regular file with access `rights` (0o755).
    ///
    /// # Errors
    ///
    /// When it is larger than the format can say, 4 GiB.
    pub fn file(&mut self, path: &str, rights: u32, contents: &[u8]) -> Result<()> {
        let mut path = path.to_owned();
        // Zeros behind a name have contents begin at a multiple of 8, from where they are copied
        // fast.
        let start = self.bytes.len() + (HEADER_SIZE + path.len() + 1).next_multiple_of(4);
        if !start.is_multiple_of(8) {
            path.push_str("\0\0\0\0");
        }
        self.add(entry(&path, rights, ModeFileType::Regular), contents)
    }

    /// Adds a folder that everybody may use.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.add(entry(path, 0o755, ModeFileType::Directory), &[])
    }

    /// Adds a symbolic link to `target`.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let entry = entry(path, 0o777, ModeFileType::Symlink);
        self.add(entry, target.as_bytes())
    }

    /// Adds a character device with these numbers.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn device(&mut self, path: &str, (major, minor): (u32, u32)) -> Result<()> {
        let entry = entry(path, 0o600, ModeFileType::Char);
        self.add(entry.rdev_major(major).rdev_minor(minor), &[])
    }

    fn add(&mut self, entry: Builder, contents: &[u8]) -> Result<()> {
        let size = contents.len().try_into();
        let size = size.map_err(|_| Error::other("a file larger than 4 GiB"))?;
        let bytes = std::mem::take(&mut self.bytes);
        let mut writer = entry.ino(self.entries).write(bytes, size);
        writer.write_all(contents)?;
        self.bytes = writer.finish()?;
        self.entries += 1;
        Ok(())
    }

    /// Ends the archive and returns it.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub fn finish(self) -> Result<Vec<u8>> {
        trailer(self.bytes)
    }
}

fn entry(path: &str, rights: u32, kind: ModeFileType) -> Builder {
    Builder::new(path).mode(rights).set_mode_file_type(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_aligned() {
        for path in ["a", "ab", "abc", "abcdefg", "abcdefgh"] {
            let mut archive = Archive::default();
            for contents in ["first", "second", "third"] {
                archive
                    .file(path, 0o644, contents.as_bytes())
                    .expect("a file");
            }
            let bytes = archive.finish().expect("an archive");
            let text = String::from_utf8_lossy(&bytes);
            for contents in ["first", "second", "third"] {
                let at = text.find(contents).expect(contents);
                assert!(at.is_multiple_of(8), "{path}: {contents} at {at}");
            }
        }
    }

    #[test]
    fn entries_say_what_they_are() {
        let mut archive = Archive::default();
        archive.folder("dev").expect("a folder");
        archive.device("dev/console", (5, 1)).expect("a device");
        archive.link("bin/sh", "busybox").expect("a link");
        archive.file("init", 0o755, b"#!").expect("a file");
        let bytes = archive.finish().expect("an archive");
        let text = String::from_utf8_lossy(&bytes);
        let modes: Vec<_> = text
            .split("070701")
            .filter_map(|entry| entry.get(8..16))
            .collect();
        let expected = ["000041ed", "00002180", "0000a1ff", "000081ed", "00000000"];
        assert_eq!(modes, expected);
        assert!(text.contains("bin/sh\0\0\0\0busybox"));
    }
}
