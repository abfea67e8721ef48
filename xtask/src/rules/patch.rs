//! A rule of the protocol as a patch that takes it out. Above the patch stand a line `Rule: ` with
//! the rule's words and a line `Fails: ` with the name of each test that must fail without it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::loom::Checker;

/// A rule, and how to take it out.
#[derive(Debug)]
pub(super) struct Patch {
    /// The file's name without its extension.
    pub(super) name: String,
    /// The file.
    pub(super) path: PathBuf,
    /// The rule's words.
    pub(super) rule: String,
    /// The tests that must fail.
    pub(super) fails: Vec<Test>,
}

/// A test of the table manager.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    /// Its name, with those of its modules.
    pub(super) name: String,
}

impl Test {
    /// The checker that runs it, if one does.
    pub(super) fn checker(&self) -> Option<Checker> {
        self.name.starts_with(MODELS).then_some(Checker::Loom)
    }
}

/// What the names of the model checker's tests begin with.
const MODELS: &str = "loom::";

/// All patches in `folder`, by name.
///
/// # Errors
///
/// When the folder or a patch cannot be read, or a patch lacks its heading.
pub(super) fn read_all(folder: &Path) -> Result<Vec<Patch>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("could not read the folder {}", folder.display()))?;
    let mut patches = Vec::new();
    for entry in entries {
        let path = entry.context("could not list the rules")?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("could not read {}", path.display()))?;
            patches.push(Patch::parse(path, &text)?);
        }
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

impl Patch {
    fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let heading = || text.lines().take_while(|line| !line.starts_with("diff "));
        let field = |name: &'static str| heading().filter_map(move |line| line.strip_prefix(name));
        let named = |test: &str| Test {
            name: test.trim().to_owned(),
        };
        let fails: Vec<_> = field("Fails: ").map(named).collect();
        let Some(rule) = field("Rule: ").next().filter(|_| !fails.is_empty()) else {
            bail!(
                "{} does not begin with `Rule: ` and `Fails: ` lines",
                path.display()
            );
        };
        let name = path.file_stem().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            rule: rule.trim().to_owned(),
            fails,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heading_is_read() {
        let text =
            "Rule: A before B.\nFails: loom::b\nFails: a::c\n\ndiff --git a/x b/x\n+Fails: d\n";
        let patch = Patch::parse("r/07-x.patch".into(), text).expect("a patch");
        assert_eq!(
            (patch.name.as_str(), patch.rule.as_str()),
            ("07-x", "A before B.")
        );
        let names: Vec<_> = patch.fails.iter().map(|test| &test.name).collect();
        assert_eq!(names, ["loom::b", "a::c"]);
        let checkers: Vec<_> = patch.fails.iter().map(Test::checker).collect();
        assert_eq!(checkers, [Some(Checker::Loom), None]);
    }

    #[test]
    fn a_patch_without_heading_is_refused() {
        for text in ["", "Rule: x\ndiff --git a/x b/x\n", "Fails: y\n"] {
            assert!(Patch::parse("x.patch".into(), text).is_err(), "{text}");
        }
    }
}
