//! Debian packages for arm64, through apt with everything it writes in a folder of its own: the
//! system's architectures, lists, caches and package state stay as they are.
//!
//! The sources and their keys are the system's. apt checks the signatures of the lists, and the
//! packages against the lists' hashes.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::{User, geteuid};

use super::say;
use crate::{interrupt, shell};

/// The architecture of the guests.
const ARCHITECTURE: &str = "arm64";

/// apt, turned to its own folder and to arm64.
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sets up apt's folder.
    ///
    /// # Errors
    ///
    /// When there is no apt or dpkg-deb, or the folder cannot be written.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        for program in ["apt-get", "dpkg-deb"] {
            let mut probe = Command::new(program);
            probe.arg("--version").stdin(Stdio::null());
            if !probe.output().is_ok_and(|output| output.status.success()) {
                bail!("this guest is fetched from Debian with apt, and there is no {program} here");
            }
        }
        let apt = Self {
            folder: folder.to_owned(),
        };
        apt.prepare()
            .with_context(|| format!("could not set up {}", folder.display()))?;
        Ok(apt)
    }

    fn prepare(&self) -> io::Result<()> {
        // What is in there may have been cut off by whatever ended an earlier run.
        self.forget_packages();
        for part in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(self.folder.join(part))?;
        }
        self.admit_apts_user();
        // No package is installed, as far as this apt knows.
        fs::write(self.folder.join("status"), "")?;
        fs::write(self.configuration(), configuration(&self.folder))
    }

    /// Lets the user as whom apt downloads, when it is started as root, write to the folder for
    /// packages.
    fn admit_apts_user(&self) {
        if geteuid().is_root()
            && let Ok(Some(user)) = User::from_name("_apt")
        {
            // Without that apt downloads as root, with a warning.
            let _ = chown(self.folder.join("packages"), Some(user.uid.as_raw()), None);
        }
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("apt.conf")
    }

    /// Fetches the lists of packages. A source that fails may be one that is not needed, so
    /// the failure comes to light only when a package is not found.
    pub(super) fn update(&self) {
        say("fetching Debian's lists of packages for arm64");
        let mut command = self.command("apt-get", &["update"]);
        // The system's apt says what is wrong.
        let _ = command.stdout(io::stderr()).status();
    }

    /// The first package that `package` depends on.
    ///
    /// # Errors
    ///
    /// When apt's sources do not have `package`.
    pub(super) fn dependency(&self, package: &str) -> Result<String> {
        let args = ["show", "--no-all-versions", package];
        let output = self.command("apt-cache", &args).output();
        let output = output.context("could not run apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        match first_dependency(&text) {
            Some(name) => Ok(name),
            None if interrupt::raised() => bail!("interrupted"),
            None => bail!(Self::unknown(package)),
        }
    }

    /// The last package, by its name, of those whose names begin with `start` and end with `end`.
    ///
    /// # Errors
    ///
    /// When apt's sources have none.
    pub(super) fn latest(&self, start: &str, end: &str) -> Result<String> {
        let output = self.command("apt-cache", &["pkgnames", start]).output();
        let output = output.context("could not run apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().filter(|name| name.ends_with(end));
        names
            .max()
            .map(str::to_owned)
            .with_context(|| Self::unknown(&format!("{start}*{end}")))
    }

    /// What is said of a package that is not found.
    fn unknown(package: &str) -> String {
        format!(
            "apt's sources have no package {package} for {ARCHITECTURE}; they have to name Debian's \
             archive, and it has to be within reach"
        )
    }

    /// Downloads `package` and returns the file, which may be there already.
    ///
    /// # Errors
    ///
    /// When apt does not get it.
    pub(super) fn download(&self, package: &str) -> Result<PathBuf> {
        let packages = self.folder.join("packages");
        if let Some(archive) = archive_of(package, &packages)? {
            return Ok(archive);
        }
        say(&format!("fetching the package {package}"));
        let mut command = self.command("apt-get", &["download", package]);
        command.current_dir(&packages).stdout(io::stderr());
        let status = command.status().context("could not run apt-get")?;
        if interrupt::raised() {
            bail!("interrupted");
        }
        if !status.success() {
            bail!("`{}` failed ({status})", shell::line(&command));
        }
        archive_of(package, &packages)?
            .with_context(|| format!("apt-get has left no package {package}"))
    }

    /// Removes what was downloaded.
    pub(super) fn forget_packages(&self) {
        // What stays takes room, and nothing else.
        let _ = fs::remove_dir_all(self.folder.join("packages"));
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .arg("--config-file")
            .arg(self.configuration())
            .args(args)
            .stdin(Stdio::null());
        command
    }
}

/// The file of `package` in a folder, if it has been downloaded there.
fn archive_of(package: &str, folder: &Path) -> Result<Option<PathBuf>> {
    let start = format!("{package}_");
    let entries = fs::read_dir(folder).context("could not list what was fetched")?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&start) && name.ends_with(".deb")
    }))
}

/// What is read after the system's own configuration. Lists in it have to be cleared, or they would
/// grow; the hooks among them would clean the system's caches.
fn configuration(folder: &Path) -> String {
    let folder = folder.display().to_string();
    let lines = [
        "#clear APT::Architectures;".to_owned(),
        "#clear APT::Update::Pre-Invoke;".to_owned(),
        "#clear APT::Update::Post-Invoke;".to_owned(),
        "#clear APT::Update::Post-Invoke-Success;".to_owned(),
        format!("APT::Architecture \"{ARCHITECTURE}\";"),
        format!("APT::Architectures {{ \"{ARCHITECTURE}\"; }};"),
        "Acquire::Languages \"none\";".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";".to_owned(),
        format!("Dir::State \"{folder}\";"),
        format!("Dir::State::lists \"{folder}/lists\";"),
        format!("Dir::State::status \"{folder}/status\";"),
        format!("Dir::State::extended_states \"{folder}/extended_states\";"),
        format!("Dir::Cache \"{folder}/cache\";"),
        format!("Dir::Cache::archives \"{folder}/cache/archives\";"),
        format!("Dir::Log \"{folder}\";"),
        String::new(),
    ];
    lines.join("\n")
}

/// The first package in the field `Depends` of what `apt-cache show` prints.
fn first_dependency(record: &str) -> Option<String> {
    let mut lines = record.lines();
    let depends = lines.find_map(|line| line.strip_prefix("Depends:"))?;
    let name = depends.split([',', '|', '(']).next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_metapackage_depends_on() {
        let record = "Package: linux-image-arm64\nVersion: 6.1.1-1\n\
                      Depends: linux-image-6.1.0-1-arm64 (= 6.1.1-1), x\n";
        let name = first_dependency(record);
        assert_eq!(name.as_deref(), Some("linux-image-6.1.0-1-arm64"));
        assert_eq!(first_dependency(""), None);
        assert_eq!(first_dependency("Depends:\n"), None);
    }

    #[test]
    fn everything_written_is_in_the_folder() {
        let text = configuration(Path::new("/f"));
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            assert!(line.contains(" \"/f"), "{line}");
        }
        assert!(text.contains("#clear APT::Update::Post-Invoke;"));
    }
}
