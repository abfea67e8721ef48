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

/// Linux's console, as its boot arguments name it.
const LINUX_CONSOLE: &str = "console=ttyAMA0";

/// What a file may begin with that says how it is encoded.
const BYTE_ORDER_MARK: char = '\u{feff}';

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
        if text.trim().is_empty() {
            bail!("describe a VM by key=value, or name a file that does");
        }
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
        // Some editors begin each file with one.
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if !line.is_empty() && !line.starts_with('#') {
                spec.set(line, folder)
                    .with_context(|| format!("line {number} of {name}{}", remark(line)))?;
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

    /// Refuses what cannot be meant together.
    ///
    /// # Errors
    ///
    /// What that is.
    pub fn checked(self) -> Result<Self> {
        let is = |part: bool, what| part.then_some(what);
        let guest = self.guest.as_deref();
        let parts = [
            is(self.firmware.is_some(), "firmware"),
            is(self.kernel.is_some(), "a kernel"),
            // What a kernel of one's own leaves of these guests is their initial RAM disk.
            guest.filter(|guest| self.kernel.is_none() || !debian::WITH_DISK.contains(guest)),
        ];
        match parts.into_iter().flatten().collect::<Vec<_>>()[..] {
            [] => bail!("a VM needs a guest, a kernel or firmware"),
            [_] => {}
            ref parts => bail!(
                "a VM starts from one thing; {} are named",
                parts.join(" and ")
            ),
        }
        let is_firmware = self.firmware.is_some() || guest == Some(debian::EDK2);
        if is_firmware && self.initrd.is_some() {
            bail!("it starts from firmware, which is given no initial RAM disk");
        }
        if self
            .append
            .as_ref()
            .is_some_and(|append| append.contains(['\n', '\r']))
        {
            bail!(
                "the boot arguments of {} have more than one line",
                self.label()
            );
        }
        Ok(self)
    }

    /// What it is called where its user does not say.
    pub fn label(&self) -> String {
        let file = self.kernel.as_deref().or(self.firmware.as_deref());
        let stem = file.and_then(Path::file_stem);
        let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
        let fit = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let made = || {
            let name = self.guest.clone().or(stem).unwrap_or_default();
            name.chars().map(fit).take(24).collect()
        };
        self.name.clone().unwrap_or_else(made)
    }

    /// The boot arguments, if it has some of its own; Linux is told where the console is.
    pub fn boot_arguments(&self) -> Option<String> {
        match &self.append {
            Some(append) if self.is_linux() => Some(format!("{LINUX_CONSOLE} {append}")),
            None if self.is_linux() => Some(LINUX_CONSOLE.to_owned()),
            append => append.clone(),
        }
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
}

/// What is said of a line that may not be what its author has in mind.
fn remark(line: &str) -> &'static str {
    match line.contains(" #") {
        true => " (a comment has a line of its own: what follows `#` here is part of the value)",
        false => "",
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
        assert!(spec.is_linux());

        let spec = Spec::parse("kernel=/k,append=x=1").expect("a VM");
        assert_eq!(spec.kernel.as_deref(), Some(Path::new("/k")));
        assert_eq!(spec.append.as_deref(), Some("x=1"));
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
        fs::write(&path, "\u{feff}kernel = Image\r\n").expect("a file");
        let spec = Spec::parse(path.to_str().expect("text")).expect("a VM");
        assert_eq!(spec.kernel, Some(folder.join("Image")));
        fs::write(&path, "kernel = Image\nvcpus = 2 # two\n").expect("a file");
        let text = error(path.to_str().expect("text"));
        assert!(text.contains("a comment has a line of its own"), "{text}");
        fs::remove_dir_all(folder).expect("the folder");
    }

    #[test]
    fn one_thing_starts_a_machine() {
        for (text, both) in [
            ("guest=hello,kernel=x", "a kernel and hello"),
            ("guest=u-boot,kernel=x", "a kernel and u-boot"),
            ("guest=linux,firmware=x", "firmware and linux"),
            ("firmware=x,kernel=y", "firmware and a kernel"),
        ] {
            let message = error(text);
            assert!(
                message.ends_with(&format!("one thing; {both} are named")),
                "{text}: {message}"
            );
        }
        for text in ["guest=edk2,initrd=x", "firmware=y,initrd=x"] {
            assert!(error(text).contains("no initial RAM disk"), "{text}");
        }
        // What is left of the guest is its initial RAM disk.
        Spec::parse("guest=linux,kernel=x").expect("another kernel");
    }

    #[test]
    fn errors_say_what_to_write() {
        for (text, part) in [
            ("guest=x,cpus=2", "there are name, guest, "),
            ("guest=x,vcpus=0", "from 1 to 8"),
            ("guest=x,memory=12", "such as 512M"),
            (
                "guest=x,append=a\nb",
                "boot arguments of x have more than one line",
            ),
            ("guest=x,name=a b", "letters"),
            ("guest=x,restarts=-1", "a number"),
            ("guest=x,guest=y", "twice"),
            ("guest=x,append=\"a", "quote"),
            ("guest=x,y", "key=value"),
            ("name=x", "needs a guest, a kernel or firmware"),
            (" ", "describe a VM"),
            ("/nonexistent", "could not read /nonexistent"),
        ] {
            let message = error(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
