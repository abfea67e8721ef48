//! Circles of modules: files of one crate that name each other, directly or by way of others.
//!
//! A name is followed to the file that has it, through the `use` lines of those that hand it on.
//! Two things make no tie: handing a name on (`pub use`), and what a module and those inside it
//! have of each other, which is why they are inside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::paths::{Paths, files, paths};

/// Circles that are there, by the crate's folder and the modules in each. The list only gets
/// shorter: mend one, and take it out.
const KNOWN: &[(&str, &[&str])] = &[
    // A VM owns its vCPUs, and each knows its VM.
    ("hyp/src", &["vcpu", "vm"]),
    ("hyp/stage2", &["aarch64::sequence", "aarch64::tlb"]),
    ("hyp/stage2", STAGE2),
    ("hyp/stage2", &["fake::guest", "fake::walker"]),
];

/// What the table manager does to a table is in a file for each thing done, and all of it are
/// methods of `Stage2`.
const STAGE2: &[&str] = &[
    "collapse",
    "copy",
    "deposit",
    "detached",
    "env",
    "fake",
    "fake::cpus",
    "fake::memory",
    "flush",
    "grace",
    "guard",
    "lookup",
    "lookup::entries",
    "map",
    "meta",
    "observer",
    "range",
    "split",
    "stage2",
    "unmap",
    "vmid",
];

/// How many `use` lines a name is followed through.
const MOST_ALIASES: usize = 8;

/// The files of a crate, by their place in the tree of modules.
type Modules = BTreeMap<Vec<String>, Paths>;

/// The modules that each module uses, with one line that does.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// The module that has what `path` names.
fn home(modules: &Modules, path: &[String], aliases: usize) -> Vec<String> {
    let mut at = Vec::new();
    for (i, name) in path.iter().enumerate() {
        at.push(name.clone());
        if modules.contains_key(&at) {
            continue;
        }
        at.pop();
        return match modules.get(&at).and_then(|module| module.aliases.get(name)) {
            Some(other) if aliases > 0 => {
                home(modules, &[other, &path[i + 1..]].concat(), aliases - 1)
            }
            _ => at,
        };
    }
    at
}

fn uses(modules: &Modules) -> Uses {
    let mut uses = Uses::new();
    for (module, paths) in modules {
        let tied = uses.entry(module.join("::")).or_default();
        for named in paths.named.iter().filter(|named| !named.handed_on) {
            let other = home(modules, &named.path, MOST_ALIASES);
            if !(other.starts_with(module) || module.starts_with(&other)) {
                let line = format!("line {}: `{}`", named.line, named.path.join("::"));
                tied.entry(other.join("::")).or_insert(line);
            }
        }
    }
    uses
}

/// The modules that `from` uses, directly or by way of others.
fn reached<'a>(uses: &'a Uses, from: &str) -> BTreeSet<&'a str> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(module) = left.pop() {
        for other in uses
            .get(module)
            .into_iter()
            .flatten()
            .map(|(other, _)| other)
        {
            if seen.insert(other.as_str()) {
                left.push(other);
            }
        }
    }
    seen
}

/// The largest circles.
fn circles(uses: &Uses) -> BTreeSet<BTreeSet<&str>> {
    let reached: BTreeMap<_, _> = uses
        .keys()
        .map(|module| (module.as_str(), reached(uses, module)))
        .collect();
    let around = |module: &str| {
        let others = reached[module].iter().copied();
        others
            .filter(|other| reached[other].contains(module))
            .collect::<BTreeSet<_>>()
    };
    let circles = uses.keys().map(|module| around(module));
    circles.filter(|circle| circle.len() > 1).collect()
}

/// What ties a circle together, a line each.
fn ties(folder: &str, uses: &Uses, circle: &BTreeSet<&str>) -> String {
    let mut text = format!("{folder}: {circle:?}\n");
    for module in circle {
        for (other, line) in uses[*module]
            .iter()
            .filter(|(other, _)| circle.contains(other.as_str()))
        {
            text += &format!("  {module} uses {other}, {line}\n");
        }
    }
    text
}

/// The folders that hold a crate's source: those of the hypervisor's crates, and of the guests.
fn sources() -> Vec<(String, PathBuf)> {
    let mut sources = crates("hyp");
    sources.extend(crates("guest/src/bin"));
    sources
}

/// The folders in this one that hold a crate's source, with their names.
fn crates(within: &str) -> Vec<(String, PathBuf)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(within);
    let entries = fs::read_dir(&path).expect("a folder can be read");
    let folders = entries.map(|entry| entry.expect("an entry can be read").path());
    let source = |folder: PathBuf| {
        let name = format!("{within}/{}", folder.file_name()?.to_str()?);
        let below = folder.join("src");
        let source = if below.is_dir() { below } else { folder };
        let holds_it = ["lib.rs", "main.rs"]
            .iter()
            .any(|root| source.join(root).is_file());
        holds_it.then_some((name, source))
    };
    folders.filter_map(source).collect()
}

/// The modules of the crate whose source is in this folder.
fn modules(source: &Path) -> Modules {
    let read = |(path, module): (PathBuf, Vec<String>)| {
        let text = fs::read_to_string(path).expect("a file can be read");
        (module.clone(), paths(module, &text))
    };
    files(source).into_iter().map(read).collect()
}

#[test]
fn modules_of_a_crate_use_each_other_in_known_circles_only() {
    let (mut new, mut met) = (String::new(), BTreeSet::new());
    for (folder, source) in sources() {
        let uses = uses(&modules(&source));
        for circle in circles(&uses) {
            let holds = |(of, known): &(&str, &[&str])| {
                *of == folder && circle.iter().all(|module| known.contains(module))
            };
            match KNOWN.iter().position(holds) {
                Some(known) => drop(met.insert(known)),
                None => new += &ties(&folder, &uses, &circle),
            }
        }
    }
    assert!(
        new.is_empty(),
        "modules use each other in a circle; move what both need into a module that uses neither:\n{new}"
    );
    let mended: Vec<_> = (0..KNOWN.len())
        .filter(|known| !met.contains(known))
        .map(|known| KNOWN[known])
        .collect();
    assert!(
        mended.is_empty(),
        "these circles are gone: take them out of KNOWN: {mended:?}"
    );
}

/// A crate of files with these places and texts has these circles.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let module = |place: &str| {
        place
            .split("::")
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let modules = files
        .iter()
        .map(|(place, text)| (module(place), paths(module(place), text)));
    let uses = uses(&modules.collect());
    circles(&uses)
        .into_iter()
        .map(|circle| circle.into_iter().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn circles_are_seen() {
    let none: [&str; 0] = [];
    assert_eq!(
        circles_of(&[("a", "use crate::b::B;"), ("b", "fn f(_: super::a::A) {}")]),
        ["a b"]
    );
    let three = [
        ("a", "use crate::b;"),
        ("b", "use crate::c::f;"),
        ("c", "use crate::{a::A, d::D};"),
        ("d", ""),
    ];
    assert_eq!(circles_of(&three), ["a b c"]);
    let by_a_face = [
        ("", "mod a; mod b; pub use a::A; pub use b::B as Renamed;"),
        ("a", "use crate::Renamed;"),
        ("b", "use crate::A;"),
    ];
    assert_eq!(circles_of(&by_a_face), ["a b"]);
    assert_eq!(circles_of(&[("a", "use crate::b::B;"), ("b", "")]), none);
    assert_eq!(
        circles_of(&[("a", "mod b; use b::B;"), ("a::b", "use super::A;")]),
        none
    );
    assert_eq!(
        circles_of(&[
            ("a", "use crate::b::B;"),
            ("b", "#[cfg(test)] mod tests { use crate::a::A; }")
        ]),
        none
    );
}
