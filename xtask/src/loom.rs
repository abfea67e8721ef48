//! Builds for the checkers of schedules: loom, the model checker, and shuttle, which runs random
//! ones. They replace atomics and threads by their own throughout a crate, so these builds are kept
//! apart from all others.

use std::path::Path;
use std::process::Command;

/// The package that the checkers look at.
pub const PACKAGE: &str = "stage2";

/// Its binary of tests: those for a checker, where it is built for one.
pub const TESTS: &str = "tables";

/// Who runs the schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checker {
    /// All schedules, up to a bound.
    Loom,
    /// Random ones.
    Shuttle,
}

/// Makes a cargo command build for a checker, in a folder of its own below `target`.
pub fn build_for(command: &mut Command, target: &Path, checker: Checker) {
    let name = match checker {
        Checker::Loom => "loom",
        Checker::Shuttle => "shuttle",
    };
    command
        .env("RUSTFLAGS", format!("--cfg {name}"))
        .env("CARGO_TARGET_DIR", target.join(name))
        // What the source asserts about itself is part of these tests; optimising across crates
        // takes longer than it saves them.
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
}
