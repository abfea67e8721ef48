//! `cargo xtask rules`: takes the rules of the table protocol out, one at a time, and shows that
//! the model checker, or an ordinary test, notices each time. A test that never fails proves
//! nothing.
//!
//! The rules are patches in `hyp/stage2/tests/mutations`. They are applied to a copy of the source
//! tree under the target directory; the tree itself is never touched.

mod patch;
#[cfg(test)]
mod races;
mod tree;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::build::executables;
use crate::child::{Child, Reach};
use crate::cli::RulesOptions;
use crate::interrupt;
use crate::loom::{self, Checker};
use crate::workspace::{self, RULES_FOLDER, Workspace};

use patch::{Patch, Test};
use tree::Tree;

/// The folder of the patches, in the workspace.
const FOLDER: &str = "hyp/stage2/tests/mutations";

/// How long one test may take. One that takes longer with a rule taken out does not end.
const LIMIT: Duration = Duration::from_secs(120);

/// Checks the rules and returns the exit status: 0 where each is noticed, 1 where one is not.
///
/// # Errors
///
/// When a patch is malformed or a test fails with all rules in place.
pub fn rules(options: &RulesOptions) -> Result<u8> {
    let folder = workspace::root().join(FOLDER);
    let patches = named(patch::read_all(&folder)?, &options.names)?;
    let target = Workspace::load()?.target_directory();
    let mut bench = Bench {
        tree: Tree::copy(&workspace::root(), &target.join(RULES_FOLDER).join("tree"))?,
        target: target.join(RULES_FOLDER),
    };
    bench.check_baseline(&patches)?;
    let mut missed = 0;
    for (index, patch) in patches.iter().enumerate() {
        let start = Instant::now();
        let wrong = bench.try_without(patch)?;
        let verdict = wrong.as_deref().unwrap_or("noticed");
        let seconds = start.elapsed().as_secs_f64();
        let count = format!("[{}/{}]", index + 1, patches.len());
        println!(
            "{count} {}: {verdict}, {seconds:.0} s\n        {}",
            patch.name, patch.rule
        );
        missed += usize::from(wrong.is_some());
    }
    println!("\n{} passed, {missed} failed", patches.len() - missed);
    Ok(u8::from(missed > 0))
}

/// Those of `patches` whose name contains one of `names`, or all if there are no names.
///
/// # Errors
///
/// When there is a name that none contains; the message lists what the rules are called.
fn named(mut patches: Vec<Patch>, names: &[String]) -> Result<Vec<Patch>> {
    let contains = |patch: &Patch, part: &String| patch.name.contains(part.as_str());
    let is_missing = |part: &&String| !patches.iter().any(|patch| contains(patch, part));
    if let Some(missing) = names.iter().find(is_missing) {
        let known: Vec<_> = patches.iter().map(|patch| patch.name.as_str()).collect();
        let known = known.join("\n    ");
        bail!("the rules are\n    {known}\nthere is none whose name contains `{missing}`");
    }
    patches.retain(|patch| names.is_empty() || names.iter().any(|part| contains(patch, part)));
    Ok(patches)
}

/// Where rules are taken out.
struct Bench {
    tree: Tree,
    /// Where builds go, and the output of tests: a folder that no other build uses, so that no test
    /// of the tree itself runs patched code.
    target: PathBuf,
}

/// How a test went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Passed,
    Failed,
    DidNotEnd,
}

impl Bench {
    /// Fails unless every test that a patch names passes with all rules in place.
    fn check_baseline(&mut self, patches: &[Patch]) -> Result<()> {
        let tests: BTreeSet<_> = patches.iter().flat_map(|patch| &patch.fails).collect();
        let mut binaries = BTreeMap::new();
        for test in tests {
            let checker = test.checker();
            let binary = match binaries.entry(checker) {
                Entry::Occupied(built) => built.into_mut(),
                Entry::Vacant(none) => none.insert(self.build(checker, "all-rules")?),
            };
            match self.run(binary, test, "all-rules")? {
                Went::Passed => {}
                went => bail!(
                    "{} with all rules in place: {went:?}; mend that first",
                    test.name
                ),
            }
        }
        Ok(())
    }

    /// Takes a rule out; says what is wrong if its tests do not all notice.
    fn try_without(&mut self, patch: &Patch) -> Result<Option<String>> {
        self.tree.restore()?;
        self.tree.apply(patch)?;
        for test in &patch.fails {
            // Cargo does nothing when the binary is the same as for the test before.
            let binary = match self.build(test.checker(), &patch.name) {
                Ok(binary) => binary,
                Err(_) if !interrupt::raised() => return Ok(Some("DOES NOT BUILD".to_owned())),
                Err(error) => return Err(error),
            };
            if self.run(&binary, test, &patch.name)? == Went::Passed {
                return Ok(Some(format!("NOT NOTICED by {}", test.name)));
            }
        }
        Ok(None)
    }

    /// Builds the tests, for a checker or as usual, and returns their binary. The compiler's
    /// messages go to `log`, for a source without a rule gives warnings that nobody needs.
    fn build(&self, checker: Option<Checker>, log: &str) -> Result<PathBuf> {
        let mut command = self.cargo(checker);
        let (path, log) = self.log(&format!("{log}-build"))?;
        command.stderr(log);
        let mut found = executables(command)
            .with_context(|| format!("the tests do not build, see {}", path.display()))?;
        found.pop().context("cargo has built no tests")
    }

    /// What builds the tests.
    fn cargo(&self, checker: Option<Checker>) -> Command {
        let mut command = workspace::cargo();
        command
            .current_dir(self.tree.root())
            .args(["test", "--locked", "--quiet", "--no-run"])
            .args(["--package", loom::PACKAGE, "--test", loom::TESTS])
            .arg("--message-format=json-render-diagnostics");
        if let Some(checker) = checker {
            command.arg("--release");
            loom::build_for(&mut command, &self.target, checker);
        } else {
            // Not optimised: what the source asserts about itself is part of the test.
            command.env("CARGO_TARGET_DIR", self.target.join("host"));
        }
        command
    }

    /// Runs one test in a process of its own, so that one that aborts or hangs harms no other.
    fn run(&self, binary: &Path, test: &Test, log: &str) -> Result<Went> {
        let name = &test.name;
        let (path, log) = self.log(&format!("{log}-{}", name.replace("::", "-")))?;
        let mut command = Command::new(binary);
        command
            .args(["--exact", name, "--nocapture", "--test-threads", "1"])
            .current_dir(self.tree.root())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("could not share a log")?)
            .stderr(log);
        let mut child = Child::spawn(&mut command, Reach::Group).context("could not run a test")?;
        let status = child.wait(LIMIT).context("could not wait for a test")?;
        if interrupt::raised() {
            bail!("interrupted");
        }
        let Some(status) = status else {
            child.end().context("could not end a test")?;
            return Ok(Went::DidNotEnd);
        };
        let text = fs::read(&path).unwrap_or_default();
        if !String::from_utf8_lossy(&text).contains("running 1 test") {
            bail!("there is no test {name}");
        }
        Ok(if status.success() {
            Went::Passed
        } else {
            Went::Failed
        })
    }

    /// A file for output.
    fn log(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.target.join(format!("{name}.log"));
        let log = File::create(&path);
        let log = log.with_context(|| format!("could not write {}", path.display()))?;
        Ok((path, log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patched_code_is_built_where_nothing_else_is() {
        let target = Path::new("/target");
        let bench = Bench {
            tree: Tree::at(&workspace::root()),
            target: target.join(RULES_FOLDER),
        };
        for checker in [None, Some(Checker::Loom)] {
            let command = bench.cargo(checker);
            let mut variables = command.get_envs();
            let folder = variables.find(|(name, _)| *name == "CARGO_TARGET_DIR");
            let folder = Path::new(folder.and_then(|(_, value)| value).expect("a folder"));
            assert!(folder.starts_with("/target/rules"), "{}", folder.display());
        }
        assert_ne!(RULES_FOLDER, workspace::TESTS_FOLDER);
    }

    #[test]
    fn rules_are_chosen_by_parts_of_their_names() {
        let folder = workspace::root().join(FOLDER);
        let all = || patch::read_all(&folder).expect("rules");
        let named = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            named(all(), &names)
        };
        assert_eq!(named(&[]).expect("all").len(), all().len());
        let some = named(&["02-no-recheck", "01-"]).expect("some");
        assert!((2..all().len()).contains(&some.len()));
        assert!(some.iter().all(|patch| patch.name.starts_with('0')));
        let error = named(&["01-", "nosuch"]).expect_err("none").to_string();
        for part in ["contains `nosuch`", "\n    02-no-recheck\n"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
