//! QEMU: found, installed with apt-get where nobody has to be asked, or asked for.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use super::{command, install, output_of, say, succeeds};
use crate::qemu::PROGRAM;

/// The oldest QEMU that is good enough.
const OLDEST: Version = Version(7, 2);

/// Debian's and Ubuntu's package that holds [`PROGRAM`].
const APT_PACKAGE: &str = "qemu-system-arm";

/// Where apt-get keeps its package lists.
const APT_LISTS: &str = "/var/lib/apt/lists";

/// How to install QEMU by hand.
const BY_HAND: &str =
    "    Debian, Ubuntu:   sudo apt-get update && sudo apt-get install qemu-system-arm
    Fedora:           sudo dnf install qemu-system-aarch64
    Arch:             sudo pacman -S qemu-system-aarch64
    macOS (Homebrew): brew install qemu";

/// A version of QEMU: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The first `N.N` in `text`, whatever follows: `QEMU emulator version 7.2.22 (...)`, and after an
/// epoch `1:7.2+dfsg-7`.
fn version_in(text: &str) -> Option<Version> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| {
            let mut numbers = word.split('.').map(|number| number.parse().ok());
            Some(Version(numbers.next()??, numbers.next()??))
        })
}

/// Makes sure that a QEMU that is new enough is there.
pub(super) fn qemu() -> Result<()> {
    let found = installed();
    if found.is_some_and(|version| version >= OLDEST) {
        return Ok(());
    }
    if let Err(reason) = install_with_apt() {
        bail!(by_hand(found, &format!("{reason:#}")));
    }
    match installed() {
        Some(version) if version >= OLDEST => Ok(()),
        after => bail!(by_hand(
            after,
            "apt-get has installed one, but it is not the one that PATH leads to"
        )),
    }
}

/// The version of the QEMU that PATH leads to.
fn installed() -> Option<Version> {
    version_in(&output_of(&mut command(PROGRAM, &["--version"]))?)
}

/// The message where QEMU was not installed, for this `reason`.
fn by_hand(found: Option<Version>, reason: &str) -> String {
    let found = match found {
        Some(version) => format!("version {version} is too old"),
        None => "it was not found".to_owned(),
    };
    format!(
        "{PROGRAM} {OLDEST} or newer is needed, and {found}.\n\
         It could not be installed for you: {reason}.\n\
         Install it with your system's line and run this again:\n{BY_HAND}"
    )
}

/// Installs QEMU on Debian and Ubuntu, where that needs no password.
///
/// # Errors
///
/// Why it was not done.
fn install_with_apt() -> Result<()> {
    if !(Path::new("/etc/debian_version").exists() && succeeds(&mut apt_get(&[], &["--version"]))) {
        bail!("only Debian's and Ubuntu's apt-get is used without asking, and it is not here");
    }
    let as_root = as_root()?;
    let mut updated = false;
    if lists_are_missing(Path::new(APT_LISTS)) {
        say("fetching apt-get's package lists, which are missing");
        install(&mut apt_get(as_root, &["update"]))?;
        updated = true;
    }
    refuse_old_candidate()?;
    say(&format!(
        "installing the package {APT_PACKAGE}, which holds {PROGRAM}"
    ));
    let args = ["install", "--yes", "--no-install-recommends", APT_PACKAGE];
    let first = install(&mut apt_get(as_root, &args));
    if first.is_ok() || updated {
        return first;
    }
    say("fetching apt-get's package lists, which may be out of date");
    install(&mut apt_get(as_root, &["update"]))?;
    refuse_old_candidate()?;
    install(&mut apt_get(as_root, &args))
}

/// The words before `apt-get` that make it run as root without a question.
fn as_root() -> Result<&'static [&'static str]> {
    if geteuid().is_root() {
        Ok(&[])
    } else if succeeds(&mut command("sudo", &["-n", "true"])) {
        Ok(&["sudo", "-n"])
    } else {
        bail!("apt-get needs root, and sudo asks for a password")
    }
}

/// `apt-get` with `args`, after the words in `as_root`; asks nothing.
fn apt_get(as_root: &[&str], args: &[&str]) -> std::process::Command {
    let frontend = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"];
    let words = [as_root, &frontend, args].concat();
    command(words[0], &words[1..])
}

/// Whether apt-get has never fetched its lists, or they were removed, as container images do.
fn lists_are_missing(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    !entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| name.contains("_Packages"))
}

/// Refuses a version that would be of no use, before anything is installed.
fn refuse_old_candidate() -> Result<()> {
    let policy = output_of(&mut command("apt-cache", &["policy", APT_PACKAGE]));
    match policy.as_deref().and_then(candidate) {
        Some(version) if version < OLDEST => {
            bail!("apt-get would install version {version} here")
        }
        _ => Ok(()),
    }
}

/// The version that `apt-cache policy` says would be installed.
fn candidate(policy: &str) -> Option<Version> {
    let mut lines = policy.lines().map(str::trim);
    version_in(lines.find_map(|line| line.strip_prefix("Candidate:"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let qemu = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(version_in(qemu), Some(Version(7, 2)));
        assert_eq!(
            version_in("QEMU emulator version 10.0.50-v9"),
            Some(Version(10, 0))
        );
        assert_eq!(version_in(" 1:6.2+dfsg-2ubuntu6.26"), Some(Version(6, 2)));
        assert_eq!(version_in("QEMU"), None);
        assert!(Version(10, 0) > OLDEST && Version(7, 1) < OLDEST);
    }

    #[test]
    fn the_candidate_is_found() {
        let policy = "qemu-system-arm:\n  Installed: (none)\n  Candidate: 1:8.2.2+ds-0ubuntu1\n";
        assert_eq!(candidate(policy), Some(Version(8, 2)));
        assert_eq!(
            candidate("x:\n  Installed: 1:7.2\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn the_message_has_a_line_for_every_system() {
        let message = by_hand(Some(Version(6, 2)), "no");
        for part in [
            "7.2 or newer",
            "6.2 is too old",
            "apt-get",
            "dnf",
            "pacman",
            "brew",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(by_hand(None, "no").contains("not found"));
    }

    #[test]
    fn missing_lists_are_noticed() {
        assert!(lists_are_missing(Path::new("/nonexistent")));
        let directory = crate::workspace::root().join("xtask");
        assert!(lists_are_missing(&directory));
    }
}
