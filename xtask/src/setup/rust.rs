//! Parts of the Rust toolchain, through rustup. Each is asked for by name, which works also where
//! rustup's automatic installation is switched off.

use std::env;
use std::fs;

use anyhow::{Context, Result, bail};

use super::installed::Installed;
use super::{command, install, output_of, say, succeeds};

/// The toolchain that has Miri.
const NIGHTLY: &str = "nightly";

/// What Miri consists of.
const MIRI_PARTS: [&str; 2] = ["miri", "rust-src"];

/// Makes sure that the standard library for `target` is there.
pub(super) fn target(target: &str) -> Result<()> {
    let toolchain = toolchain()?;
    if toolchain.has_target(target) {
        return Ok(());
    }
    super::may_install(&format!("rustup target add {target}"))?;
    say(&format!("installing the Rust target {target}"));
    if let Some(folder) = toolchain.left_over(target) {
        let folder = folder.display();
        say(&format!(
            "removing {folder}, which an interrupted installation has left"
        ));
        fs::remove_dir_all(folder.to_string())
            .with_context(|| format!("could not remove {folder}"))?;
    } else if is_listed(target) {
        // rustup takes it for whole, and would do nothing.
        add(&["target", "remove", target])?;
    }
    add(&["target", "add", target])?;
    if !toolchain.has_target(target) {
        bail!(
            "rustup has added the target {target}, but `rustc` does not find it; \
             is `rustc` the one that rustup provides?"
        );
    }
    Ok(())
}

/// The toolchain that builds.
fn toolchain() -> Result<Installed> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let sysroot = output_of(&mut command(&rustc, &["--print", "sysroot"]));
    let sysroot = sysroot.with_context(|| format!("`{rustc} --print sysroot` says nothing"))?;
    Ok(Installed::new(sysroot.trim()))
}

/// Whether rustup takes a target for installed.
fn is_listed(target: &str) -> bool {
    let list = output_of(&mut command("rustup", &["target", "list", "--installed"]));
    list.is_some_and(|list| list.lines().any(|line| line == target))
}

/// Makes sure that `cargo` with `probe` works, which the component `name` provides.
pub(super) fn component(name: &str, probe: &[&str]) -> Result<()> {
    let works = || succeeds(crate::workspace::cargo().args(probe));
    if works() {
        return Ok(());
    }
    say(&format!("installing the Rust component {name}"));
    add(&["component", "add", name])?;
    if !works() {
        bail!(
            "rustup has added {name}, but `cargo {}` fails",
            probe.join(" ")
        );
    }
    Ok(())
}

fn add(args: &[&str]) -> Result<()> {
    if !has_rustup() {
        bail!(
            "`rustup {}` is needed, and there is no rustup. Install rustup (https://rustup.rs), or \
             use your system's package for it, and run this again",
            args.join(" ")
        );
    }
    install(&mut command("rustup", args))
        .context("rustup's own message is above; without a network it can install nothing")
}

fn has_rustup() -> bool {
    succeeds(&mut command("rustup", &["--version"]))
}

/// Makes sure that Miri is there. It is the one tool that the tests can do without.
///
/// # Errors
///
/// The reason why there is none.
pub fn miri() -> Result<()> {
    if !has_rustup() {
        bail!("there is no rustup to install it with");
    }
    let toolchains = output_of(&mut command("rustup", &["toolchain", "list"])).unwrap_or_default();
    if !has_nightly(&toolchains) {
        say("installing the Rust toolchain nightly with Miri");
        let mut args = vec!["toolchain", "install", NIGHTLY, "--profile", "minimal"];
        args.extend(MIRI_PARTS.iter().flat_map(|part| ["--component", part]));
        return install(&mut command("rustup", &args));
    }
    let sysroot = ["run", NIGHTLY, "rustc", "--print", "sysroot"];
    let sysroot = output_of(&mut command("rustup", &sysroot)).with_context(|| {
        format!(
            "Rust {NIGHTLY} is there and does not run, as if its installation was interrupted; \
             `rustup toolchain uninstall {NIGHTLY}` removes it, and then it is installed anew"
        )
    })?;
    let toolchain = Installed::new(sysroot.trim());
    let missing = missing_parts(&toolchain);
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!(
        "installing {} for Rust nightly",
        missing.join(" and ")
    ));
    let mut args = vec!["component", "add", "--toolchain", NIGHTLY];
    args.extend(&missing);
    install(&mut command("rustup", &args))?;
    let missing = missing_parts(&toolchain);
    if !missing.is_empty() {
        bail!(
            "rustup has added {} to Rust {NIGHTLY}, and not all of its files are there; \
             `rustup toolchain uninstall {NIGHTLY}` helps, after which it is installed anew",
            missing.join(" and ")
        );
    }
    Ok(())
}

/// Whether rustup's list of toolchains has the nightly of the host.
fn has_nightly(toolchains: &str) -> bool {
    let mut names = toolchains
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.any(|name| {
        let host = name.strip_prefix("nightly-");
        // A dated nightly (nightly-2025-01-01-...) is another toolchain.
        name == NIGHTLY || host.is_some_and(|h| !h.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// What Miri lacks in a toolchain.
fn missing_parts(toolchain: &Installed) -> Vec<&'static str> {
    let mut parts = MIRI_PARTS.to_vec();
    parts.retain(|part| !toolchain.has_component(part));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nightly_is_told_from_other_toolchains() {
        let host = "x86_64-unknown-linux-gnu";
        assert!(has_nightly(&format!(
            "stable-{host} (active)\nnightly-{host}\n"
        )));
        assert!(!has_nightly(&format!(
            "stable-{host}\nnightly-2025-01-01-{host}\n"
        )));
        assert!(!has_nightly("no installed toolchains"));
    }
}
