//! Builds for the model checker. It replaces atomics and threads by its own throughout a crate, so
//! these builds are kept apart from all others.

use std::path::Path;
use std::process::Command;

/// The package that the model checker looks at.
pub const PACKAGE: &str = "stage2";

/// Makes a cargo command build for the model checker, below the target directory `target`.
pub fn build_apart(command: &mut Command, target: &Path) {
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target.join("loom"))
        // What the source asserts about itself is part of these tests; optimising across crates
        // takes longer than it saves them.
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
}
