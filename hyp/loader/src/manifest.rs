//! A virtual machine's manifest: what it is made of, in a small text of lines `field = value`.
//!
//! ```text
//! name   = linux
//! kernel = Image
//! initrd = initramfs
//! append = console=ttyAMA0
//! vcpus  = 2
//! memory = 256M
//! restarts = 0
//! ```
//!
//! Empty lines and lines that begin with `#` are comments, and a byte order mark at the start is
//! skipped. Values go to the end of the line, without blanks at either end. `name` has to be there,
//! and either `kernel` or, for a machine that starts from flash, `firmware`; files are named by
//! their path in the archive that the manifest is in.

use bootargs;
use core::fmt;
use thiserror::Error;

/// Files of an archive whose name ends so are manifests.
pub const EXTENSION: &str = ".vm";

/// The fields and what they take, as shown to a user whose manifest was not understood.
pub const FIELDS: &str = "name=NAME, kernel=FILE, firmware=FILE, initrd=FILE, append=TEXT, vcpus=1..8, memory=SIZE, restarts=N";

/// What some editors begin each file with.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Longest name of a machine, in characters.
const NAME_LENGTH: usize = 32;

/// A machine as its manifest describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// What people call it: letters, digits, `.`, `_` and `-`.
    pub name: &'a str,
    /// What runs first.
    pub start: Start<'a>,
    /// The initial RAM disk: a file of the archive.
    pub initrd: Option<&'a str>,
    /// The guest's boot arguments.
    pub append: Option<&'a str>,
    /// Number of vCPUs, 1 to 8.
    pub vcpus: Option<usize>,
    /// Size of the RAM in bytes, a multiple of 4 KiB.
    pub memory: Option<u64>,
    /// How often the machine is made anew after it has switched itself off.
    pub restarts: Option<u32>,
}

/// What runs first: a file of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// A kernel, or something like it, in RAM.
    Kernel(&'a str),
    /// Firmware, in flash.
    Firmware(&'a str),
}

/// Why a manifest cannot be used: which machine, which field, what is wrong with it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub struct ManifestError<'a> {
    /// The machine's name; its manifest's file name if the manifest does not tell.
    pub vm: &'a str,
    /// The field; `None` if it is not about one.
    pub field: Option<&'a str>,
    /// What is wrong.
    pub reason: Reason<'a>,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Reason<'a> {
    /// The manifest is no text.
    #[error("its manifest is not UTF-8")]
    NoText,
    /// A line has no `=`.
    #[error("line {0} of its manifest is not `field = value`")]
    NoField(usize),
    /// There is no such field.
    #[error("unknown; there are {FIELDS}")]
    Unknown,
    /// The field is there twice.
    #[error("given twice")]
    Twice,
    /// The field is not there, and has to be.
    #[error("missing")]
    Missing,
    /// The value is not one that the field takes.
    #[error("`{value}` is not {expected}")]
    Expected {
        /// The value as it was given.
        value: &'a str,
        /// What the field takes.
        expected: &'static str,
    },
    /// A machine starts in one way.
    #[error("a machine starts from a kernel or from firmware; firmware is given nothing else")]
    WithFirmware,
    /// The value names a file that the archive does not have.
    #[error("the archive has no file `{0}`")]
    NoFile(&'a str),
}

impl fmt::Display for ManifestError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM `{}`", self.vm)?;
        if let Some(field) = self.field {
            write!(f, ", field `{field}`")?;
        }
        write!(f, ": {}", self.reason)?;
        let is_commented = match self.reason {
            Reason::Expected { value, .. } | Reason::NoFile(value) => value.contains('#'),
            _ => false,
        };
        if is_commented {
            write!(f, " (a comment has a line of its own)")?;
        }
        Ok(())
    }
}

/// Reads the manifest called `file`.
///
/// # Errors
///
/// The first field that cannot be used.
pub fn parse<'a>(file: &'a str, text: &'a [u8]) -> Result<Manifest<'a>, ManifestError<'a>> {
    let error = |field, reason| ManifestError {
        vm: file,
        field,
        reason,
    };
    let text = str::from_utf8(text).map_err(|_| error(None, Reason::NoText))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut fields = Fields::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (field, value) = line
            .split_once('=')
            .ok_or(error(None, Reason::NoField(number)))?;
        let field = field.trim_end();
        fields
            .set(field, value.trim_start())
            .map_err(|reason| error(Some(field), reason))?;
    }
    fields.finish().map_err(|(field, reason)| ManifestError {
        vm: fields.name.unwrap_or(file),
        field: Some(field),
        reason,
    })
}

/// The values as they were given.
#[derive(Default)]
struct Fields<'a> {
    name: Option<&'a str>,
    kernel: Option<&'a str>,
    firmware: Option<&'a str>,
    initrd: Option<&'a str>,
    append: Option<&'a str>,
    vcpus: Option<&'a str>,
    memory: Option<&'a str>,
    restarts: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, field: &str, value: &'a str) -> Result<(), Reason<'a>> {
        let place = match field {
            "name" => &mut self.name,
            "kernel" => &mut self.kernel,
            "firmware" => &mut self.firmware,
            "initrd" => &mut self.initrd,
            "append" => &mut self.append,
            "vcpus" => &mut self.vcpus,
            "memory" => &mut self.memory,
            "restarts" => &mut self.restarts,
            _ => return Err(Reason::Unknown),
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(Reason::Twice),
        }
    }

    fn start(&self) -> Result<Start<'a>, (&'static str, Reason<'a>)> {
        match (self.firmware, self.kernel, self.initrd) {
            (Some(firmware), None, None) => Ok(Start::Firmware(firmware)),
            (Some(_), _, _) => Err(("firmware", Reason::WithFirmware)),
            (None, Some(kernel), _) => Ok(Start::Kernel(kernel)),
            (None, None, _) => Err(("kernel", Reason::Missing)),
        }
    }

    fn finish(&self) -> Result<Manifest<'a>, (&'static str, Reason<'a>)> {
        let needed = |field, value: Option<&'a str>| value.ok_or((field, Reason::Missing));
        Ok(Manifest {
            name: expect("name", needed("name", self.name)?, NAME, name)?,
            start: self.start()?,
            initrd: self.initrd,
            append: self.append,
            vcpus: optional("vcpus", self.vcpus, bootargs::VCPUS, bootargs::vcpus)?,
            memory: optional("memory", self.memory, bootargs::SIZE, bootargs::size)?,
            restarts: optional("restarts", self.restarts, "a number", |text| {
                text.parse().ok()
            })?,
        })
    }
}

/// What `name` takes.
const NAME: &str = "a name of at most 32 letters, digits, `.`, `_` and `-`";

fn name(value: &str) -> Option<&str> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fits = !value.is_empty() && value.len() <= NAME_LENGTH && value.chars().all(fit);
    fits.then_some(value)
}

fn optional<'a, T>(
    field: &'static str,
    value: Option<&'a str>,
    expected: &'static str,
    read: impl Fn(&'a str) -> Option<T>,
) -> Result<Option<T>, (&'static str, Reason<'a>)> {
    value
        .map(|value| expect(field, value, expected, read))
        .transpose()
}

fn expect<'a, T>(
    field: &'static str,
    value: &'a str,
    expected: &'static str,
    read: impl Fn(&'a str) -> Option<T>,
) -> Result<T, (&'static str, Reason<'a>)> {
    read(value).ok_or((field, Reason::Expected { value, expected }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("a.vm", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_field_is_understood() {
        let text = "# a comment\n\n name = linux \nkernel=Image\ninitrd = initramfs\n\
                    append = console=ttyAMA0 x=\"a b\"\nvcpus = 8\r\nmemory = 256M\nrestarts = 3\n";
        assert_eq!(
            parse("a.vm", text.as_bytes()),
            Ok(Manifest {
                name: "linux",
                start: Start::Kernel("Image"),
                initrd: Some("initramfs"),
                append: Some("console=ttyAMA0 x=\"a b\""),
                vcpus: Some(8),
                memory: Some(256 << 20),
                restarts: Some(3),
            })
        );
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_a_comment_behind_a_value_explained() {
        let manifest = parse("a.vm", "\u{feff}name=a\nkernel=b".as_bytes()).unwrap();
        assert_eq!(manifest.name, "a");
        assert_eq!(
            error("name = x\nkernel = b\nvcpus = 2 # two"),
            "VM `x`, field `vcpus`: `2 # two` is not a number from 1 to 8 (a comment has a line of its own)"
        );
        let no_file = ManifestError {
            vm: "x",
            field: Some("kernel"),
            reason: Reason::NoFile("b # mine"),
        };
        assert!(no_file.to_string().ends_with("of its own)"));
    }

    #[test]
    fn little_is_needed() {
        let manifest = parse("a.vm", b"name=a\nkernel=b").unwrap();
        assert_eq!((manifest.name, manifest.start), ("a", Start::Kernel("b")));
        let manifest = parse("a.vm", b"name=a\nfirmware=b").unwrap();
        assert_eq!(manifest.start, Start::Firmware("b"));
        assert_eq!((manifest.initrd, manifest.append), (None, None));
        assert_eq!((manifest.vcpus, manifest.memory), (None, None));
        assert_eq!(manifest.restarts, None);
    }

    #[test]
    fn errors_name_the_machine_and_the_field() {
        for (text, expected) in [
            ("kernel = b", "VM `a.vm`, field `name`: missing"),
            ("name = x", "VM `x`, field `kernel`: missing"),
            ("name = x\nname = y", "VM `a.vm`, field `name`: given twice"),
            (
                "name = x\nkernel = b\nvcpus = nine",
                "VM `x`, field `vcpus`: `nine` is not a number from 1 to 8",
            ),
            (
                "name = x\nwibble",
                "VM `a.vm`: line 2 of its manifest is not `field = value`",
            ),
        ] {
            assert_eq!(error(text), expected);
        }
        for (text, field) in [
            (
                "name = x\nkernel = b\nmemory = 5",
                "`memory`: `5` is not a size",
            ),
            (
                "name = x\nkernel = b\nfirmware = c",
                "`firmware`: a machine starts from",
            ),
            ("name = a b\nkernel = b", "`name`: `a b` is not a name"),
            ("name =\nkernel = b", "`name`: `` is not a name"),
            ("disk = x", "`disk`: unknown; there are name=NAME, "),
        ] {
            assert!(error(text).contains(field), "{text}: {}", error(text));
        }
        let error = parse("a.vm", b"\xff").unwrap_err();
        assert_eq!(error.to_string(), "VM `a.vm`: its manifest is not UTF-8");
    }
}
