//! A virtual machine as the user asks for it: `key=value,...` on the command line, or a file with a
//! line `key = value` for each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::debian::{self, LINUX};
use crate::qemu::MOST_CPUS;
use crate::size::Size;

/// The keys, as shown to a user who wrote another one.
const KEYS: &str = "name, guest, kernel, firmware, initrd, append, vcpus, memory, restarts";

/// What is asked for; the rest is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// What people call it.
    pub name: Option<String>,
    /// A guest of this workspace, or one of [`debian::GUESTS`].
    pub guest: Option<String>,
    /// A kernel instead of the guest's.
    pub kernel: Option<PathBuf>,
    /// Firmware, in flash, instead of a kernel.
    pub firmware: Option<PathBuf>,
    /// An initial RAM disk instead of the guest's.
    pub initrd: Option<PathBuf>,
    /// The guest's boot arguments.
    pub append: Option<String>,
    /// Number of vCPUs, 1 to [`MOST_CPUS`].
    pub vcpus: Option<u32>,
    /// The guest's RAM.
    pub memory: Option<Size>,
    /// How often it is made anew after it has switched itself off.
    pub restarts: Option<u32>,
}

impl Spec {
    /// A guest as it is.
    pub fn of_guest(name: &str) -> Self {
        Self {
            guest: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// Takes what follows `--vm`: keys and values if there is a `=` in it, or else a file's name.
    ///
    /// # Errors
    ///
    /// When a key or a value makes no sense, or the file cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.contains('=') {
            return Self::read(Path::new(text));
        }
        let mut spec = Self::default();
        for pair in pairs(text)? {
            spec.set(&pair, Path::new(""))?;
        }
        spec.checked()
    }

    /// Reads a file. Paths in it are relative to where it is.
    fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path);
        let text = text.with_context(|| {
            format!("could not read {name}, which would describe a VM (key=value would do it, too)")
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut spec = Self::default();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if !line.is_empty() && !line.starts_with('#') {
                spec.set(line, folder)
                    .with_context(|| format!("line {number} of {name}"))?;
            }
        }
        spec.checked().with_context(|| name.to_string())
    }

    fn set(&mut self, pair: &str, folder: &Path) -> Result<()> {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("`{pair}` is not key=value"))?;
        let (key, value) = (key.trim(), unquoted(value.trim()));
        let wrong = |reason: String| anyhow!("{key} `{value}`: {reason}");
        let text = || Some(value.to_owned());
        let path = || Some(folder.join(value));
        let twice = match key {
            "name" => self.name.replace(name(value).map_err(wrong)?).is_some(),
            "guest" => std::mem::replace(&mut self.guest, text()).is_some(),
            "kernel" => std::mem::replace(&mut self.kernel, path()).is_some(),
            "firmware" => std::mem::replace(&mut self.firmware, path()).is_some(),
            "initrd" => std::mem::replace(&mut self.initrd, path()).is_some(),
            "append" => std::mem::replace(&mut self.append, text()).is_some(),
            "vcpus" => self.vcpus.replace(vcpus(value).map_err(wrong)?).is_some(),
            "memory" => self.memory.replace(value.parse().map_err(wrong)?).is_some(),
            "restarts" => self
                .restarts
                .replace(number(value).map_err(wrong)?)
                .is_some(),
            _ => bail!("there is no key `{key}`; there are {KEYS}"),
        };
        if twice {
            bail!("`{key}` is given twice");
        }
        Ok(())
    }

    fn checked(self) -> Result<Self> {
        if self.guest.is_none() && self.kernel.is_none() && self.firmware.is_none() {
            bail!("a VM needs a guest, a kernel or firmware");
        }
        Ok(self)
    }

    /// Whether it is Linux but for what is said otherwise.
    pub fn is_linux(&self) -> bool {
        self.guest.as_deref() == Some(LINUX)
    }

    /// Whether it is a guest of Debian's but for what is said otherwise.
    pub fn is_debian(&self) -> bool {
        let guest = self.guest.as_deref();
        guest.is_some_and(|guest| debian::GUESTS.contains(&guest))
    }

    /// The guest of Debian's that its kernel or its initial RAM disk comes from.
    pub fn debian_guest(&self) -> Option<&str> {
        let own = self.kernel.is_some() && self.initrd.is_some() || self.firmware.is_some();
        let needed = self.is_debian() && !own;
        self.guest.as_deref().filter(|_| needed)
    }

    /// The guest of this workspace that it is, if it is nothing but that.
    pub fn plain_guest(&self) -> Option<&str> {
        let guest = self.guest.as_deref().filter(|_| !self.is_debian())?;
        (*self == Self::of_guest(guest)).then_some(guest)
    }
}

/// Cuts `text` at its commas, but for those between double quotes.
fn pairs(text: &str) -> Result<Vec<String>> {
    let mut quoted = false;
    let pairs = text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    let pairs = pairs.map(str::to_owned).collect();
    if quoted {
        bail!("a quote is not closed");
    }
    Ok(pairs)
}

fn unquoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    inner.unwrap_or(value)
}

fn name(value: &str) -> Result<String, String> {
    let fit = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if value.is_empty() || value.len() > 32 || !value.chars().all(fit) {
        return Err("write at most 32 letters, digits, `.`, `_` and `-`".to_owned());
    }
    Ok(value.to_owned())
}

fn vcpus(value: &str) -> Result<u32, String> {
    let count = value.parse().ok();
    count
        .filter(|count| (1..=MOST_CPUS).contains(count))
        .ok_or_else(|| format!("write a number from 1 to {MOST_CPUS}"))
}

fn number(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| "write a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        format!("{:#}", Spec::parse(text).expect_err(text))
    }

    #[test]
    fn keys_and_values() {
        let text = r#"name=a,guest=linux,vcpus=2,memory=256M,append="console=ttyAMA0,115200 x""#;
        let spec = Spec::parse(text).expect("a VM");
        assert_eq!(spec.name.as_deref(), Some("a"));
        assert_eq!(spec.append.as_deref(), Some("console=ttyAMA0,115200 x"));
        assert_eq!((spec.vcpus, spec.memory), (Some(2), Some(Size::mib(256))));
        assert!(spec.is_linux() && spec.plain_guest().is_none());

        let spec = Spec::parse("kernel=/k,append=x=1").expect("a VM");
        assert_eq!(spec.kernel.as_deref(), Some(Path::new("/k")));
        assert_eq!(spec.append.as_deref(), Some("x=1"));
        assert_eq!(
            Spec::parse("guest=hello").expect("a VM").plain_guest(),
            Some("hello")
        );
    }

    #[test]
    fn a_file_says_the_same() {
        let folder = std::env::temp_dir().join(format!("xtask-spec-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("a.vm");
        fs::write(&path, "# Linux\n\nkernel = Image\nappend = a, b = c\n").expect("a file");
        let spec = Spec::parse(path.to_str().expect("text")).expect("a VM");
        assert_eq!(spec.kernel, Some(folder.join("Image")));
        assert_eq!(spec.append.as_deref(), Some("a, b = c"));

        fs::write(&path, "kernel = Image\nvcpus = 9\n").expect("a file");
        let text = error(path.to_str().expect("text"));
        assert!(
            text.contains("line 2") && text.contains("vcpus `9`"),
            "{text}"
        );
        fs::remove_dir_all(folder).expect("the folder");
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, part) in [
            ("guest=x,cpus=2", "there are name, guest, "),
            ("guest=x,vcpus=0", "from 1 to 8"),
            ("guest=x,memory=12", "such as 512M"),
            ("guest=x,name=a b", "letters"),
            ("guest=x,restarts=-1", "a number"),
            ("guest=x,guest=y", "twice"),
            ("guest=x,append=\"a", "quote"),
            ("guest=x,y", "key=value"),
            ("name=x", "needs a guest, a kernel or firmware"),
            ("/nonexistent", "could not read /nonexistent"),
        ] {
            let message = error(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
