//! The images that boot: cargo builds the ELFs, which become flat binaries beside them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::child::{Child, Reach};
use crate::flatten::flatten;
use crate::interrupt;
use crate::workspace::{
    self, BARE_TARGET, GUEST_PACKAGE, HYP_BINARY, HYP_PACKAGE, LINUX_PACKAGE, LINUX_TARGET,
};

/// How images are built: a profile of the workspace's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// To be booted: with the symbols that back traces need.
    Release,
    /// To be debugged: the same code, and all that a debugger can know of it.
    Debugger,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debugger => "debugger",
        }
    }
}

/// One image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The binary's name.
    pub name: String,
    /// The ELF, with its symbols.
    pub elf: PathBuf,
    /// The flat binary.
    pub flat: PathBuf,
}

/// The hypervisor and all guests.
#[derive(Clone, Debug)]
pub struct Images {
    /// The hypervisor.
    pub hypervisor: Image,
    /// The guests, in alphabetical order.
    pub guests: Vec<Image>,
}

impl Images {
    /// Builds everything that boots, with optimisation. Cargo's progress goes to standard error.
    ///
    /// # Errors
    ///
    /// When cargo fails, or an ELF does not become a flat binary.
    pub fn build() -> Result<Self> {
        Self::build_as(Profile::Release)
    }

    /// The same, in this profile.
    ///
    /// # Errors
    ///
    /// As [`Images::build`].
    pub fn build_as(profile: Profile) -> Result<Self> {
        let mut hypervisor = None;
        let mut guests = Vec::new();
        for elf in build_elves(profile, BARE_TARGET, &[HYP_PACKAGE, GUEST_PACKAGE])? {
            let image = Image::flattened(elf)?;
            if image.name == HYP_BINARY {
                hypervisor = Some(image);
            } else {
                guests.push(image);
            }
        }
        guests.sort_by(|a, b| a.name.cmp(&b.name));
        let hypervisor = hypervisor
            .with_context(|| format!("package `{HYP_PACKAGE}` has no binary `{HYP_BINARY}`"))?;
        Ok(Self { hypervisor, guests })
    }

    /// The guest called `name`.
    ///
    /// # Errors
    ///
    /// When there is none; the error lists those there are.
    pub fn guest(&self, name: &str) -> Result<&Image> {
        let names = || self.guests.iter().map(|image| image.name.clone()).collect();
        self.guests
            .iter()
            .find(|image| image.name == name)
            .with_context(|| unknown_guest(name, names()))
    }
}

/// Builds the image of a package with one binary that boots.
///
/// # Errors
///
/// As [`Images::build`].
pub fn image_of(package: &str) -> Result<Image> {
    let elves = build_elves(Profile::Release, BARE_TARGET, &[package])?;
    let [elf] = <[PathBuf; 1]>::try_from(elves)
        .map_err(|elves| anyhow!("package `{package}` has {} binaries", elves.len()))?;
    Image::flattened(elf)
}

/// Builds the programs that run in user space of a Linux guest: static executables.
///
/// # Errors
///
/// When cargo fails.
pub fn linux_programs() -> Result<Vec<PathBuf>> {
    build_elves(Profile::Release, LINUX_TARGET, &[LINUX_PACKAGE])
}

/// What is said of a guest name that is none.
pub fn unknown_guest(name: &str, mut known: Vec<String>) -> String {
    known.sort();
    format!(
        "no guest is called `{name}`; there are: {}",
        known.join(", ")
    )
}

impl Image {
    fn flattened(elf: PathBuf) -> Result<Self> {
        let name = elf
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let flat = elf.with_extension("bin");
        let bytes = fs::read(&elf).with_context(|| format!("could not read {}", elf.display()))?;
        let image =
            flatten(&bytes).with_context(|| format!("no flat image of {}", elf.display()))?;
        write_if_changed(&flat, &image)
            .with_context(|| format!("could not write {}", flat.display()))?;
        Ok(Self { name, elf, flat })
    }
}

/// Leaves a file that has these contents already alone, so that a QEMU which is just reading it
/// sees it whole.
fn write_if_changed(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    fs::write(path, contents)
}

/// Has cargo build the binaries of these packages, and returns the paths of their ELFs.
fn build_elves(profile: Profile, target: &str, packages: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = workspace::cargo();
    command
        .args(["build", "--locked", "--profile", profile.name(), "--bins"])
        .args(["--target", target])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .arg("--message-format=json-render-diagnostics");
    executables(command)
}

/// Runs a cargo command that builds, with JSON messages, and returns the executables that it makes.
/// The compiler's messages go where the command's standard error does.
pub(crate) fn executables(mut command: Command) -> Result<Vec<PathBuf>> {
    let (reader, writer) = std::io::pipe().context("could not make a pipe for cargo")?;
    command.stdin(Stdio::null()).stdout(writer);
    let mut child = Child::spawn(&mut command, Reach::Child).context("could not run cargo")?;
    drop(command);
    let mut found = Vec::new();
    for line in BufReader::new(reader).lines() {
        found.extend(executable(&line.context("could not read what cargo says")?));
    }
    let status = child
        .wait(Duration::MAX)
        .context("could not wait for cargo")?;
    if interrupt::raised() {
        bail!("interrupted");
    }
    if !status.is_some_and(|status| status.success()) {
        bail!("the build failed; the compiler's messages say why");
    }
    Ok(found)
}

/// The executable that one of cargo's JSON messages tells of.
fn executable(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_cargo_messages() {
        let artifact = r#"{"reason":"compiler-artifact","executable":"/t/release/tessera"}"#;
        assert_eq!(executable(artifact), Some("/t/release/tessera".into()));
        assert_eq!(
            executable(r#"{"reason":"compiler-artifact","executable":null}"#),
            None
        );
        assert_eq!(executable("warning: not JSON"), None);
    }

    #[test]
    fn unknown_guests_are_told_the_known_ones() {
        let message = unknown_guest("hi", vec!["touch".into(), "hello".into()]);
        assert_eq!(message, "no guest is called `hi`; there are: hello, touch");
    }
}
