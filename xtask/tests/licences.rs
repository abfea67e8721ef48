//! The licences and the sources of what we depend on are those that `deny.toml` allows.
//!
//! `cargo deny check` says the same, and looks for advisories, too; it takes longer to build than
//! all of this, and what it needs is on the network. Here, packages are looked at that some build
//! of this tree uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use spdx::{Expression, Licensee};
use xtask::workspace::{self, BARE_TARGET, LINUX_TARGET};

/// The one source that `deny.toml` has by default.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `deny.toml` says.
#[derive(Deserialize)]
struct Rules {
    licenses: Licences,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

/// What `cargo metadata` says.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    source: Option<String>,
}

/// The packages that the builds for a platform use.
#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

fn rules() -> Rules {
    let text = fs::read_to_string(workspace::root().join("deny.toml"));
    toml::from_str(&text.expect("deny.toml is there")).expect("deny.toml is TOML")
}

/// What cargo prints, as JSON.
fn cargo<T: DeserializeOwned>(arguments: &[&str]) -> T {
    let output = workspace::cargo().args(arguments).output();
    let output = output.expect("cargo can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The platform of this program.
fn host() -> String {
    let output = workspace::cargo().arg("-vV").output();
    let text = String::from_utf8(output.expect("cargo can be run").stdout);
    let text = text.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("a host").to_owned()
}

/// The packages that builds for our platforms use.
fn packages() -> Vec<Package> {
    let mut packages = BTreeMap::new();
    for platform in [host().as_str(), BARE_TARGET, LINUX_TARGET] {
        let metadata: Metadata = cargo(&[
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            platform,
        ]);
        let nodes = metadata.resolve.nodes.into_iter();
        let used: BTreeSet<String> = nodes.map(|node| node.id).collect();
        let here = metadata.packages.into_iter();
        let here = here.filter(|package| used.contains(&package.id));
        packages.extend(here.map(|package| (package.id.clone(), package)));
    }
    packages.into_values().collect()
}

/// What is wrong with a package.
fn wrong(package: &Package, allowed: &[Licensee]) -> Option<String> {
    let Package { name, source, .. } = package;
    if let Some(source) = source
        && source != REGISTRY
    {
        return Some(format!("{name} comes from {source}"));
    }
    let Some(licence) = &package.license else {
        return Some(format!("{name} names no licence"));
    };
    // Old packages write `MIT/Apache-2.0`.
    let Ok(expression) = Expression::parse(&licence.replace('/', " OR ")) else {
        return Some(format!(
            "{name} has the licence {licence}, which is no SPDX expression"
        ));
    };
    let is_met = expression.evaluate(|one| allowed.iter().any(|licensee| licensee.satisfies(one)));
    (!is_met).then(|| format!("{name} has the licence {licence}, which deny.toml does not allow"))
}

fn allowed(names: &[String]) -> Vec<Licensee> {
    let parse = |name: &String| Licensee::parse(name).expect("deny.toml names licences of SPDX");
    names.iter().map(parse).collect()
}

#[test]
fn every_package_has_a_licence_and_a_source_that_are_allowed() {
    let rules = rules();
    let allowed = allowed(&rules.licenses.allow);
    let packages = packages();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let wrong: Vec<_> = packages
        .iter()
        .filter_map(|one| wrong(one, &allowed))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_licence_that_is_allowed_is_needed() {
    let (names, packages) = (rules().licenses.allow, packages());
    for name in &names {
        let others: Vec<_> = names
            .iter()
            .filter(|other| *other != name)
            .cloned()
            .collect();
        let others = allowed(&others);
        assert!(
            packages
                .iter()
                .any(|package| wrong(package, &others).is_some()),
            "no package needs {name}"
        );
    }
}

#[test]
fn what_is_not_allowed_is_reported() {
    let Sources {
        unknown_registry,
        unknown_git,
    } = rules().sources;
    assert_eq!((&*unknown_registry, &*unknown_git), ("deny", "deny"));
    let allowed = allowed(&["MIT".to_owned(), "Zlib".to_owned()]);
    let package = |license: Option<&str>, source| Package {
        id: "id".to_owned(),
        name: "crate".to_owned(),
        license: license.map(str::to_owned),
        source,
    };
    let ours = |license| wrong(&package(license, None), &allowed);
    assert_eq!(ours(Some("MIT OR Apache-2.0")), None);
    assert_eq!(ours(Some("MIT/Apache-2.0")), None);
    assert_eq!(ours(Some("(GPL-3.0-only OR Zlib) AND MIT")), None);
    assert!(ours(Some("GPL-3.0-only")).is_some_and(|text| text.contains("GPL-3.0-only")));
    assert!(ours(Some("MIT AND Apache-2.0")).is_some());
    assert!(ours(None).is_some_and(|text| text.contains("no licence")));
    let elsewhere = Some("git+https://example.org/crate".to_owned());
    assert!(wrong(&package(Some("MIT"), elsewhere), &allowed).is_some());
}
