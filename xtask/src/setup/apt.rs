//! Installing packages with apt-get on Debian and Ubuntu, where that asks no question.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use super::{command, output_of, say, succeeds};

/// Where apt-get keeps its package lists.
const LISTS: &str = "/var/lib/apt/lists";

/// Installs `package`, which holds `program`, unless `refuse` does not like the version.
///
/// # Errors
///
/// Why it was not done.
pub(super) fn install(
    package: &str,
    program: &str,
    refuse: impl Fn(&str) -> Result<()>,
) -> Result<()> {
    if !(Path::new("/etc/debian_version").exists() && succeeds(&mut apt_get(&[], &["--version"]))) {
        bail!("only Debian's and Ubuntu's apt-get is used without asking, and it is not here");
    }
    let as_root = as_root()?;
    let mut updated = false;
    if lists_are_missing(Path::new(LISTS)) {
        say("fetching apt-get's package lists, which are missing");
        super::install(&mut apt_get(as_root, &["update"]))?;
        updated = true;
    }
    refuse(&version_of(package)?)?;
    say(&format!(
        "installing the package {package}, which holds {program}"
    ));
    let args = ["install", "--yes", "--no-install-recommends", package];
    let first = super::install(&mut apt_get(as_root, &args));
    if first.is_ok() || updated {
        return first;
    }
    say("fetching apt-get's package lists, which may be out of date");
    super::install(&mut apt_get(as_root, &["update"]))?;
    refuse(&version_of(package)?)?;
    super::install(&mut apt_get(as_root, &args))
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
fn apt_get(as_root: &[&str], args: &[&str]) -> Command {
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

/// The version that would be installed.
fn version_of(package: &str) -> Result<String> {
    let policy = output_of(&mut command("apt-cache", &["policy", package])).unwrap_or_default();
    match candidate(&policy) {
        Some(version) => Ok(version.to_owned()),
        None => bail!("apt-get knows no package {package} here"),
    }
}

/// The version that `apt-cache policy` says would be installed.
fn candidate(policy: &str) -> Option<&str> {
    let mut lines = policy.lines().map(str::trim);
    let version = lines
        .find_map(|line| line.strip_prefix("Candidate:"))?
        .trim();
    (version != "(none)").then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_found() {
        let policy = "qemu-system-arm:\n  Installed: (none)\n  Candidate: 1:8.2.2+ds-0ubuntu1\n";
        assert_eq!(candidate(policy), Some("1:8.2.2+ds-0ubuntu1"));
        assert_eq!(
            candidate("x:\n  Installed: 1:7.2\n  Candidate: (none)\n"),
            None
        );
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn missing_lists_are_noticed() {
        assert!(lists_are_missing(Path::new("/nonexistent")));
        let directory = crate::workspace::root().join("xtask");
        assert!(lists_are_missing(&directory));
    }
}
