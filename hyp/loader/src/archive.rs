//! Reads the archive in which guests' files come: cpio in the "new ASCII" form (newc), which boot
//! loaders and Linux use for initial RAM disks.
//!
//! An entry is a header of 110 characters (a magic number and thirteen hexadecimal fields of
//! eight), the name with a terminating zero, and the contents; name and contents are filled up to
//! multiples of four bytes. The entry called `TRAILER!!!` is the last.
//!
//! Contents are handed out in place and never looked at, so that reading a large archive costs
//! nothing.

use thiserror::Error;

/// What entries begin with; the second has a checksum, which boot loaders do not check either.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
const HEADER_SIZE: usize = 110;
const FIELD_SIZE: usize = 8;
/// The places of fields in the header, in bytes.
const MODE_AT: usize = 14;
const FILE_SIZE_AT: usize = 54;
const NAME_SIZE_AT: usize = 94;
/// The part of the mode that says what kind of entry it is, and the value of a regular file.
const KIND_MASK: u32 = 0o170_000;
const KIND_FILE: u32 = 0o100_000;
const TRAILER: &str = "TRAILER!!!";

/// Why bytes are no archive.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ArchiveError {
    /// There is no header, or a malformed one.
    #[error("no cpio header (newc) at byte {0}")]
    NoHeader(usize),
    /// An entry is longer than what is there.
    #[error("the entry at byte {0} is cut off")]
    CutOff(usize),
    /// A name is empty, has no terminating zero, or is not UTF-8.
    #[error("the entry at byte {0} has a name that cannot be read")]
    Name(usize),
}

/// A regular file in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// Its path in the archive.
    pub name: &'a str,
    /// Its bytes.
    pub contents: &'a [u8],
}

/// An archive, all of whose entries can be read.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a>(&'a [u8]);

/// Whether `bytes` are meant to be an archive: its first entry has the magic number.
pub fn is_archive(bytes: &[u8]) -> bool {
    MAGICS.iter().any(|magic| bytes.starts_with(magic))
}

impl<'a> Archive<'a> {
    /// Opens an archive.
    ///
    /// # Errors
    ///
    /// What is wrong with the first entry that cannot be read.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let mut entries = Entries { bytes, at: 0 };
        while entries.advance()?.is_some() {}
        Ok(Self(bytes))
    }

    /// The regular files, in the archive's order.
    pub fn files(&self) -> impl Iterator<Item = File<'a>> + use<'a> {
        let mut entries = Entries {
            bytes: self.0,
            at: 0,
        };
        // `open` has seen that there are no errors.
        core::iter::from_fn(move || entries.advance().ok().flatten())
            .filter(|entry| entry.mode & KIND_MASK == KIND_FILE)
            .map(|entry| entry.file)
    }

    /// The contents of the file called `name`.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        let mut files = self.files();
        files
            .find(|file| file.name == name)
            .map(|file| file.contents)
    }
}

struct Entry<'a> {
    mode: u32,
    file: File<'a>,
}

/// The way through an archive, entry by entry.
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    /// The next entry; `None` at the trailer.
    fn advance(&mut self) -> Result<Option<Entry<'a>>, ArchiveError> {
        let start = self.at;
        let header = self
            .take(HEADER_SIZE)
            .filter(|header| is_archive(header))
            .ok_or(ArchiveError::NoHeader(start))?;
        let field = |at| hexadecimal(header, at).ok_or(ArchiveError::NoHeader(start));
        let mode = field(MODE_AT)?;
        let (name_size, size) = (field(NAME_SIZE_AT)?, field(FILE_SIZE_AT)?);

        let name = self
            .take(name_size as usize)
            .ok_or(ArchiveError::CutOff(start))?;
        let name = name_of(name).ok_or(ArchiveError::Name(start))?;
        self.align();
        let contents = self
            .take(size as usize)
            .ok_or(ArchiveError::CutOff(start))?;
        self.align();
        let file = File { name, contents };
        Ok((name != TRAILER).then_some(Entry { mode, file }))
    }

    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..size)?;
        self.at += size;
        Some(taken)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(4);
    }
}

/// The number in the field at byte `at` of a header.
fn hexadecimal(header: &[u8], at: usize) -> Option<u32> {
    let digits = str::from_utf8(header.get(at..at + FIELD_SIZE)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// A name without its zero; some writers put more than one.
fn name_of(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    let name = str::from_utf8(bytes.get(..end)?).ok()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn entry(name: &str, mode: u32, contents: &[u8]) -> Vec<u8> {
        let (size, name_size) = (contents.len(), name.len() + 1);
        let mut entry = format!("070701{:08x}{mode:08x}", 7).into_bytes();
        for field in [0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            entry.extend(format!("{field:08x}").bytes());
        }
        entry.extend(name.bytes());
        entry.push(0);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry.extend(contents);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry
    }

    /// An archive of these files.
    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes: Vec<u8> = files
            .iter()
            .flat_map(|(name, contents)| entry(name, KIND_FILE | 0o644, contents))
            .collect();
        bytes.extend(entry(TRAILER, 0, b""));
        bytes
    }

    #[test]
    fn files_are_found() {
        let mut bytes = entry("folder", 0o040_755, b"");
        bytes.extend(archive(&[("a", b"12345"), ("folder/b", b"")]));
        assert!(is_archive(&bytes));
        let archive = Archive::open(&bytes).unwrap();
        let names: Vec<_> = archive.files().map(|file| file.name).collect();
        assert_eq!(names, ["a", "folder/b"]);
        assert_eq!(archive.find("a"), Some(&b"12345"[..]));
        assert_eq!(archive.find("folder/b"), Some(&b""[..]));
        assert_eq!(archive.find("folder"), None);
    }

    #[test]
    fn what_follows_the_trailer_is_no_concern() {
        let mut bytes = archive(&[("a", b"1")]);
        bytes.extend([0; 512]);
        assert_eq!(Archive::open(&bytes).unwrap().files().count(), 1);
    }

    #[test]
    fn archives_that_are_cut_off_are_errors() {
        let bytes = archive(&[("name", b"contents"), ("other", b"1")]);
        let second = entry("name", 0, b"contents").len();
        let trailer = bytes.len() - entry(TRAILER, 0, b"").len();
        for length in 0..bytes.len() - 1 {
            let error = Archive::open(&bytes[..length]).unwrap_err();
            let at = match error {
                ArchiveError::NoHeader(at) | ArchiveError::CutOff(at) => at,
                ArchiveError::Name(_) => panic!("{length}: {error}"),
            };
            assert!([0, second, trailer].contains(&at), "{length}: {error}");
        }
    }

    #[test]
    fn malformed_entries_are_errors() {
        let good = archive(&[("name", b"contents")]);
        let with = |at: usize, byte| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Archive::open(&bytes).map(|_| ())
        };
        assert_eq!(with(0, b'1'), Err(ArchiveError::NoHeader(0)));
        assert_eq!(with(FILE_SIZE_AT, b'x'), Err(ArchiveError::NoHeader(0)));
        assert_eq!(with(FILE_SIZE_AT, b'f'), Err(ArchiveError::CutOff(0)));
        assert_eq!(with(NAME_SIZE_AT, b'f'), Err(ArchiveError::CutOff(0)));
        assert_eq!(with(HEADER_SIZE, 0), Err(ArchiveError::Name(0)));
        assert_eq!(with(HEADER_SIZE, 0xff), Err(ArchiveError::Name(0)));
        assert_eq!(with(HEADER_SIZE + 4, b'x'), Err(ArchiveError::Name(0)));
    }

    #[test]
    fn other_files_are_not_archives() {
        assert!(!is_archive(b"") && !is_archive(b"MZ@") && !is_archive(b"07070"));
        assert_eq!(
            Archive::open(b"").map(|_| ()),
            Err(ArchiveError::NoHeader(0))
        );
    }
}
