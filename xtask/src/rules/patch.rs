//! A rule of the protocol as a patch that takes it out. Above the patch stand a line `Rule: ` with
//! the rule's words and a line `Fails: ` for each test that must fail without it: the name of a model test
//! or, for patches in the folder `host`, of an ordinary test behind that of its file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

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
    /// The binary that has it, if not the model checker's.
    pub(super) host: Option<String>,
    /// Its name there.
    pub(super) name: String,
}

/// The folder, within the rules', of those that ordinary tests show.
const HOST: &str = "host";

/// All patches in `folder`, and in the folder of those for ordinary tests within, by name.
///
/// # Errors
///
/// When the folder or a patch cannot be read, or a patch lacks its heading.
pub(super) fn read_all(folder: &Path) -> Result<Vec<Patch>> {
    let mut patches = read_folder(folder)?;
    patches.extend(read_folder(&folder.join(HOST))?);
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

fn read_folder(folder: &Path) -> Result<Vec<Patch>> {
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
    Ok(patches)
}

impl Patch {
    fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let heading = || text.lines().take_while(|line| !line.starts_with("diff "));
        let field = |name: &'static str| heading().filter_map(move |line| line.strip_prefix(name));
        let is_host = path.parent().is_some_and(|folder| folder.ends_with(HOST));
        let fails: Vec<_> = field("Fails: ")
            .map(|test| Test::parse(test.trim(), is_host))
            .collect();
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

impl Test {
    fn parse(text: &str, is_host: bool) -> Self {
        match text.split_once("::").filter(|_| is_host) {
            Some((binary, name)) => Self {
                host: Some(binary.to_owned()),
                name: name.to_owned(),
            },
            None => Self {
                host: None,
                name: text.to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heading_is_read() {
        let text = "Rule: A before B.\nFails: a::b\nFails: a::c\n\ndiff --git a/x b/x\n+Fails: d\n";
        let patch = Patch::parse("r/07-x.patch".into(), text).expect("a patch");
        assert_eq!(
            (patch.name.as_str(), patch.rule.as_str()),
            ("07-x", "A before B.")
        );
        let names: Vec<_> = patch.fails.iter().map(|test| &test.name).collect();
        assert_eq!(names, ["a::b", "a::c"]);
        assert!(patch.fails.iter().all(|test| test.host.is_none()));
    }

    #[test]
    fn a_patch_for_ordinary_tests_names_their_file() {
        let text = "Rule: A.\nFails: a::b\n\ndiff\n";
        let patch = Patch::parse("r/host/07-x.patch".into(), text).expect("a patch");
        let test = &patch.fails[0];
        assert_eq!((test.host.as_deref(), test.name.as_str()), (Some("a"), "b"));
    }

    #[test]
    fn a_patch_without_heading_is_refused() {
        for text in ["", "Rule: x\ndiff --git a/x b/x\n", "Fails: y\n"] {
            assert!(Patch::parse("x.patch".into(), text).is_err(), "{text}");
        }
    }
}
