//! Checks that `hyp/stage2/tests/RACES.md` lists the races that tests and patches are for, and no
//! others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::patch;
use crate::workspace;

/// The folder of the list, in the workspace.
const FOLDER: &str = "hyp/stage2/tests";

/// What the name of a test for a race begins with, before the number.
const PREFIX: &str = "race_";

/// A row of the list.
struct Race {
    number: usize,
    /// The tests for it, and the files in which they stand.
    tests: BTreeSet<String>,
    /// The patches with which they fail.
    patches: BTreeSet<String>,
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the list, which must be in order and complete.
fn list() -> Vec<Race> {
    let path = workspace::root().join(FOLDER).join("RACES.md");
    let text = fs::read_to_string(path).expect("the list of races");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let number = cells.next()?.parse().ok()?;
        let [what, tests, patches] = [(); 3].map(|()| cells.next().expect("four cells a row"));
        assert!(!what.is_empty() && !tests.is_empty(), "race {number}");
        let names = |name: &&str| name.ends_with(".rs") || race_of(name).is_some();
        Some(Race {
            number,
            tests: quoted(tests).filter(names).map(str::to_owned).collect(),
            patches: quoted(patches).map(str::to_owned).collect(),
        })
    });
    let rows: Vec<_> = rows.collect();
    for (index, race) in rows.iter().enumerate() {
        assert_eq!(race.number, index + 1, "the numbers have no gap");
    }
    rows
}

/// The race that a test of this name is for.
fn race_of(test: &str) -> Option<usize> {
    let name = test.rsplit("::").next()?.strip_prefix(PREFIX)?;
    name.split('_').next()?.parse().ok()
}

/// The tests for races in this file, each with the number of its race.
fn races_in(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().filter_map(|line| {
        let function = line.trim_start().strip_prefix("fn ")?;
        let name = function.split('(').next()?;
        Some((race_of(name)?, name))
    })
}

/// The races that have tests below `folder`, each with the test and with its file, as the list
/// names it.
fn tests_below(folder: &Path, found: &mut BTreeSet<(usize, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let name = path.strip_prefix(workspace::root()).expect("in it");
            let name = name.strip_prefix(FOLDER).unwrap_or(name);
            let name = name.to_str().expect("UTF-8");
            let both = |(race, test)| [test, name].map(|name: &str| (race, name.to_owned()));
            found.extend(races_in(&text).flat_map(both));
        }
    }
}

/// The same for the whole workspace.
fn tests_there() -> BTreeSet<(usize, String)> {
    let mut there = BTreeSet::new();
    for folder in ["hyp", "guest", "platform", "tests", "xtask"] {
        tests_below(&workspace::root().join(folder), &mut there);
    }
    there
}

/// All pairs of a race and what `names` gives for it.
fn pairs(races: &[Race], names: impl Fn(&Race) -> &BTreeSet<String>) -> BTreeSet<(usize, String)> {
    let pairs = |race| {
        names(race)
            .iter()
            .map(move |name| (race.number, name.clone()))
    };
    races.iter().flat_map(pairs).collect()
}

#[track_caller]
fn same(listed: &BTreeSet<(usize, String)>, there: &BTreeSet<(usize, String)>) {
    let missing: Vec<_> = there.difference(listed).collect();
    let surplus: Vec<_> = listed.difference(there).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "RACES.md lacks {missing:?} and has {surplus:?}, which are not there"
    );
}

#[test]
fn every_test_of_a_race_is_listed_behind_its_file() {
    let there = tests_there();
    assert!(there.len() > 100, "{there:?}");
    same(&pairs(&list(), |race| &race.tests), &there);
}

#[test]
fn every_patch_is_listed_with_the_races_that_it_lets_happen() {
    let folder = workspace::root().join(super::FOLDER);
    let patches = patch::read_all(&folder).expect("rules");
    let mut there = BTreeSet::new();
    for patch in &patches {
        let races = patch.fails.iter().map(|test| {
            let race = race_of(&test.name);
            race.unwrap_or_else(|| panic!("{}: {} names no race", patch.name, test.name))
        });
        let pairs = races.map(|race| (race, patch.name.clone()));
        there.extend(pairs);
        let number: usize = patch.name.split('-').next().unwrap().parse().unwrap();
        assert!(
            there.contains(&(number, patch.name.clone())),
            "{}",
            patch.name
        );
    }
    same(&pairs(&list(), |race| &race.patches), &there);
}

/// The words of a text that begin with [`PREFIX`] or end with `.patch`, by which people and patches
/// name tests and patches.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    text.split(move |c| !of_name(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.ends_with(".patch") || race_of(word).is_some() && !word.ends_with('_'))
}

/// The texts of the table manager's tests and patches.
fn texts_below(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts_below(&path, texts);
        } else {
            texts.push(fs::read_to_string(&path).expect("a text"));
        }
    }
}

#[test]
fn tests_and_patches_that_are_named_are_there() {
    let (tests, mut texts) = (workspace::root().join(FOLDER), Vec::new());
    texts_below(&tests, &mut texts);
    let functions: BTreeSet<String> = tests_there().into_iter().map(|(_, name)| name).collect();
    let mutants = fs::read_to_string(workspace::root().join(".cargo/mutants.toml"));
    texts.push(mutants.expect("what `cargo mutants` leaves out"));
    let folder = workspace::root().join(super::FOLDER);
    let is_there = |name: &str| match name.strip_suffix(".patch") {
        Some(_) => folder.join(name).exists(),
        None => functions.contains(name),
    };
    let names: BTreeSet<&str> = texts.iter().flat_map(|text| named(text)).collect();
    assert!(names.len() > 100, "{names:?}");
    let missing: Vec<_> = names.into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "named, and not there: {missing:?}");
}

#[test]
fn the_race_of_a_test_is_read_from_its_name() {
    assert_eq!(race_of("lookup::race_07_a_table"), Some(7));
    assert_eq!(race_of("lookup::races_7"), None);
    assert_eq!(
        races_in("fn race_13_a() {}\n    fn race_x() {}\nfn b() {}").collect::<Vec<_>>(),
        [(13, "race_13_a")]
    );
}
