//! What has to be on the machine before anything is built or booted, and nothing else: looked for,
//! installed where that needs no question, and otherwise asked for in one message.
//!
//! Everything that is installed is named on standard error before it is.

mod apt;
mod installed;
mod qemu;
mod rust;
mod tools;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

pub use rust::miri;
pub use tools::{browser, debugger};

use crate::workspace::{BARE_TARGET, LINUX_TARGET};
use crate::{shell, workspace};

/// What `cargo xtask build` needs: the Rust target.
///
/// # Errors
///
/// When it is missing and cannot be installed; the message says what to type.
pub fn for_build() -> Result<()> {
    rust::target(BARE_TARGET)
}

/// What a Linux guest needs beside that: the Rust target of its programs.
///
/// # Errors
///
/// As [`for_build`].
pub fn for_linux() -> Result<()> {
    rust::target(LINUX_TARGET)
}

/// What `cargo xtask qemu` needs: the Rust target and QEMU.
///
/// # Errors
///
/// As [`for_build`].
pub fn for_boot() -> Result<()> {
    for_build()?;
    qemu::qemu()
}

/// What `cargo xtask test` cannot do without: the above, rustfmt and Clippy.
///
/// # Errors
///
/// As [`for_build`].
pub fn for_tests() -> Result<()> {
    rust::component("rustfmt", &["fmt", "--version"])?;
    rust::component("clippy", &["clippy", "--version"])?;
    for_boot()
}

/// Says on standard error what is going on.
fn say(what: &str) {
    eprintln!("setup: {what}");
}

/// A command in the root of the source tree, where rustup sees which toolchain is meant.
fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace::root());
    command.stdin(Stdio::null());
    command
}

/// Whether the command can be run and succeeds. Its output is thrown away.
fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// What the command prints, if it can be run and succeeds.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// Whether nothing may be installed.
static FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// Has everything that would have to be installed from here on be an error that names it.
pub fn forbid_installing() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}

/// Fails where nothing may be installed, and names `what` would have been done.
fn may_install(what: &str) -> Result<()> {
    match FORBIDDEN.load(Ordering::Relaxed) {
        true => bail!("`{what}` is needed, and --no-install forbids it"),
        false => Ok(()),
    }
}

/// Runs an installing command with its output in sight.
fn install(command: &mut Command) -> Result<()> {
    let words = shell::line(command);
    may_install(&words)?;
    say(&format!("running {words}"));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`{words}` failed ({status})"),
        Err(error) => bail!("could not run `{words}`: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_installed_where_that_is_forbidden() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("installed");
        let mut touch = Command::new("touch");
        touch.arg(&file);
        forbid_installing();
        let error = install(&mut touch).expect_err("a refusal").to_string();
        FORBIDDEN.store(false, Ordering::Relaxed);
        assert!(
            error.contains("--no-install") && error.contains("touch "),
            "{error}"
        );
        assert!(!file.exists());
        install(&mut touch).expect("touch");
        assert!(file.exists());
    }
}
