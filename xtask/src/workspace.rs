//! Where things are in the source tree, and how `cargo` is asked about it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The Rust target of everything that boots.
pub const BARE_TARGET: &str = "aarch64-unknown-none-softfloat";

/// The package of the hypervisor.
pub const HYP_PACKAGE: &str = "hyp";

/// The package of trace events, which both the hypervisor and this program use.
pub const TRACE_PACKAGE: &str = "trace";

/// The package with the tools for recordings of trace events.
pub const TRACE_TOOLS_PACKAGE: &str = "trace-tools";

/// The package of this program.
pub const XTASK_PACKAGE: &str = "xtask";

/// The hypervisor's binary.
pub const HYP_BINARY: &str = "tessera";

/// The package of the firmware that boot tests use.
pub const FIRMWARE_PACKAGE: &str = "firmware";

/// The package of the smallest hypervisor, an example that a boot test boots.
pub const EMBED_PACKAGE: &str = "embed";

/// The package whose binaries are the guests.
pub const GUEST_PACKAGE: &str = "guest";

/// The Rust target of what runs in user space of a Linux guest.
pub const LINUX_TARGET: &str = "aarch64-unknown-linux-musl";

/// The package of what runs in user space of a Linux guest.
pub const LINUX_PACKAGE: &str = "guest-linux";

/// The folder in the target directory that `cargo xtask test` builds in. No other build uses it:
/// none waits for cargo's lock while tests are built, and none changes what is tested, not even one
/// of a tree that was edited meanwhile.
pub const TESTS_FOLDER: &str = "test";

/// The folder in the target directory that `cargo xtask rules` builds in: what is built there is
/// patched.
pub const RULES_FOLDER: &str = "rules";

/// The environment variable that names the target directory to programs that cargo is told to build
/// elsewhere.
const KEPT_VARIABLE: &str = "TESSERA_TARGET";

/// Has a command build in `folder`, unless it has another one already, and leave files that are no
/// builds in the target directory `target`.
///
/// The folder takes room: so what is built there has no more debug information than back traces
/// need, and nothing for builds to come but what they are made of.
pub fn build_apart(command: &mut Command, target: &Path, folder: &Path) {
    const FOLDER: &str = "CARGO_TARGET_DIR";
    if !command.get_envs().any(|(name, _)| name == FOLDER) {
        command.env(FOLDER, folder);
    }
    command
        .env(KEPT_VARIABLE, target)
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
}

/// The root of the source tree.
pub fn root() -> PathBuf {
    // Cargo says at run time where the manifest is, which holds also where the tree was moved.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let parent = manifest.parent().map(Path::to_path_buf);
    parent.unwrap_or(manifest)
}

/// A command that runs cargo in the root of the source tree.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The source tree as cargo describes it.
pub struct Workspace(Value);

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// When cargo cannot be run, or refuses a manifest or the lock file.
    pub fn load() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
            .output()
            .context("could not run cargo")?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            bail!(
                "cargo could not read the workspace:\n{}",
                message.trim_end()
            );
        }
        let value = serde_json::from_slice(&output.stdout);
        Ok(Self(value.context("cargo metadata is no JSON")?))
    }

    /// Where builds go: `target/`, or what the user has set instead.
    pub fn target_directory(&self) -> PathBuf {
        self.0["target_directory"]
            .as_str()
            .map_or_else(|| root().join("target"), PathBuf::from)
    }

    /// Where files go that are no builds: logs, consoles, what was fetched. That is the target
    /// directory, also for programs that [`build_apart`] has built elsewhere.
    pub fn kept_directory(&self) -> PathBuf {
        env::var_os(KEPT_VARIABLE).map_or_else(|| self.target_directory(), PathBuf::from)
    }

    /// The packages whose folders are in this folder of the source tree, or are it.
    pub fn packages_in(&self, folder: &str) -> Vec<String> {
        let folder = root().join(folder);
        let packages = self.0["packages"].as_array().into_iter().flatten();
        packages
            .filter(|entry| {
                let manifest = entry["manifest_path"].as_str();
                manifest.is_some_and(|path| Path::new(path).starts_with(&folder))
            })
            .filter_map(|entry| entry["name"].as_str())
            .map(str::to_owned)
            .collect()
    }

    /// The names of the guests, in alphabetical order.
    pub fn guests(&self) -> Vec<String> {
        let mut names = self.targets_of(GUEST_PACKAGE, "bin");
        names.sort();
        names
    }

    /// The names of `package`'s targets of a `kind` (`bin`, `lib`, `test`).
    pub fn targets_of(&self, package: &str, kind: &str) -> Vec<String> {
        let packages = self.0["packages"].as_array().into_iter().flatten();
        packages
            .filter(|entry| entry["name"] == package)
            .flat_map(|entry| entry["targets"].as_array().into_iter().flatten())
            .filter(|target| {
                let kinds = target["kind"].as_array();
                kinds.is_some_and(|kinds| kinds.iter().any(|k| k == kind))
            })
            .filter_map(|target| target["name"].as_str())
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_knows_the_workspace() {
        assert!(root().join("Cargo.lock").is_file());
        let workspace = Workspace::load().expect("a workspace");
        assert!(
            workspace
                .targets_of("xtask", "lib")
                .contains(&"xtask".into())
        );
        assert!(workspace.targets_of("no-such-package", "bin").is_empty());
    }
}
