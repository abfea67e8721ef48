//! QEMU: found, installed with apt-get where that asks no question, or asked for.

use std::ffi::OsStr;
use std::fmt;
use std::process::Command;

use anyhow::{Result, bail};

use super::{apt, command, output_of};
use crate::qemu::{PROGRAM, VARIABLE, named};

/// The oldest QEMU that is good enough.
const OLDEST: Version = Version(7, 2);

/// Debian's and Ubuntu's package that holds [`PROGRAM`].
const APT_PACKAGE: &str = "qemu-system-arm";

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
    if let Some(named) = named() {
        return check(named);
    }
    let found = installed();
    if found.is_some_and(|version| version >= OLDEST) {
        return Ok(());
    }
    if let Err(reason) = apt::install(APT_PACKAGE, PROGRAM, refuse_old) {
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

/// Makes sure that the QEMU that the user has named will do.
fn check(named: &OsStr) -> Result<()> {
    let name = named.display();
    let hint = format!(
        "name a qemu-system-aarch64 of version {OLDEST} or newer with --qemu or {VARIABLE}, or neither"
    );
    let output = match Command::new(named).arg("--version").output() {
        Ok(output) => output,
        Err(error) => bail!("{name} cannot be run ({error}); {hint}"),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match version_in(&said) {
        Some(version) if said.contains("QEMU") && version < OLDEST => {
            bail!("{name} is QEMU {version}, which is too old; {hint}")
        }
        Some(_) if said.contains("QEMU") => (),
        _ => bail!(
            "{name} is no QEMU: it answers --version with {:?}; {hint}",
            said.lines().next().unwrap_or_default()
        ),
    }
    let machines = Command::new(named).args(["-machine", "help"]).output();
    let machines = machines.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let is_arms = |text: String| text.to_ascii_lowercase().contains("arm virtual machine");
    if !machines.is_ok_and(is_arms) {
        bail!("{name} is no QEMU for Arm machines; {hint}");
    }
    Ok(())
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

/// Refuses a version that would be of no use, before anything is installed.
fn refuse_old(candidate: &str) -> Result<()> {
    match version_in(candidate) {
        Some(version) if version < OLDEST => {
            bail!("apt-get would install version {version} here")
        }
        _ => Ok(()),
    }
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
    fn what_is_named_must_be_a_qemu() {
        let refused = |path: &str| check(OsStr::new(path)).expect_err(path).to_string();
        let missing = refused("/no/such/qemu");
        assert!(missing.contains("cannot be run") && missing.contains("TESSERA_QEMU"));
        assert!(refused("true").contains("is no QEMU"));
        assert!(refused("rustc").contains("is no QEMU: it answers"));
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
}
