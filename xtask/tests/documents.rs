//! What the documents say of files: links lead somewhere, and paths in them exist.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace is there")
}

/// Folders that hold no documents of ours.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !LEFT_OUT.contains(&name.as_str()) {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

fn parse(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// What a link behind `#` may name in a document: its headings, as they are shown on the web.
fn anchors(text: &str) -> Vec<String> {
    let (mut anchors, mut heading) = (Vec::new(), None::<String>);
    for event in parse(text) {
        match event {
            Event::Start(Tag::Heading { level, .. }) if level >= HeadingLevel::H1 => {
                heading = Some(String::new());
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                anchors.extend(heading.take().map(|text| as_anchor(&text)))
            }
            _ => {}
        }
    }
    anchors
}

fn as_anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| {
        if c == ' ' {
            '-'
        } else {
            c.to_ascii_lowercase()
        }
    })
    .collect()
}

/// What is wrong with a link in the document at `from`.
fn broken(from: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        from.to_owned()
    } else {
        from.parent()?.join(file)
    };
    if !target.exists() {
        return Some(format!("{link}: there is no such file"));
    }
    let is_known = || {
        let text = fs::read_to_string(&target).unwrap_or_default();
        anchors(&text).iter().any(|known| known == anchor)
    };
    (!anchor.is_empty() && !is_known()).then(|| format!("{link}: there is no such heading"))
}

/// Whether a word in a document is meant as a path of the source: lower case, with a slash, and
/// nothing but what names of files have.
fn is_path(word: &str) -> bool {
    let fits = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c))
    };
    word.contains('/')
        && !word.contains("...")
        && word.split('/').all(fits)
        && !word.starts_with("target/")
}

/// Whether the source has what `word` names: from the root, from the folder of a crate, or from the
/// image's; a file is named with its ending or without.
fn exists(root: &Path, document: &Path, word: &str) -> bool {
    let crates = fs::read_dir(root.join("hyp")).expect("there are crates");
    let in_crate = word
        .split_once('/')
        .map(|(name, rest)| format!("{name}/src/{rest}"));
    let mut bases = vec![
        root.to_owned(),
        root.join("hyp"),
        root.join("hyp/src"),
        root.join("hyp/stage2"),
    ];
    bases.extend(crates.map(|entry| entry.expect("an entry can be read").path().join("src")));
    bases.extend(document.parent().map(Path::to_owned));
    let names = [Some(word.to_owned()), in_crate];
    let candidates = bases
        .iter()
        .flat_map(|base| names.iter().flatten().map(move |name| base.join(name)));
    candidates
        .into_iter()
        .any(|path| path.exists() || path.with_extension("rs").exists())
}

fn complaints(root: &Path, document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).expect("a document can be read");
    let shown = document.strip_prefix(root).unwrap_or(document).display();
    let complaint = |event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
            broken(document, &dest_url)
        }
        Event::Code(word) if is_path(&word) && !exists(root, document, &word) => {
            Some(format!("`{word}`: there is no such file"))
        }
        _ => None,
    };
    parse(&text)
        .filter_map(complaint)
        .map(|what| format!("{shown}: {what}"))
        .collect()
}

#[test]
fn links_lead_somewhere_and_paths_exist() {
    let (root, mut found) = (root(), Vec::new());
    documents(&root, &mut found);
    assert!(found.len() > 10, "documents were looked for: {found:?}");
    let complaints: Vec<_> = found
        .iter()
        .flat_map(|document| complaints(&root, document))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The arrows in the picture of the crates.
fn arrows(text: &str) -> Vec<(&str, &str)> {
    let (_, picture) = text.split_once("graph TD\n").expect("a picture");
    let (picture, _) = picture.split_once("```").expect("its end");
    picture
        .lines()
        .map(|line| line.trim().split_once(" --> ").expect("an arrow"))
        .collect()
}

/// The pairs of crates of the workspace of which the first uses the second, not only in tests.
fn uses() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let is_ours = |name: &Value| packages.iter().any(|package| package["name"] == *name);
    let text = |name: &Value| name.as_str().expect("a name").to_owned();
    let uses = packages.iter().flat_map(|user| {
        let used = user["dependencies"].as_array().expect("dependencies");
        let used = used.iter().filter(|used| used["kind"].is_null());
        let used = used.filter(|used| is_ours(&used["name"]));
        used.map(|used| (text(&user["name"]), text(&used["name"])))
    });
    uses.collect()
}

/// Whether arrows lead from one crate to another.
fn leads(arrows: &[(&str, &str)], from: &str, to: &str) -> bool {
    from == to
        || arrows
            .iter()
            .any(|&(user, used)| user == from && leads(arrows, used, to))
}

#[test]
fn the_picture_of_the_crates_is_true() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map");
    let (arrows, uses) = (arrows(&text), uses());
    for (from, to) in &arrows {
        let is_true = uses.iter().any(|(user, used)| user == from && used == to);
        assert!(is_true, "{from} does not use {to}");
    }
    // Programs for Linux guests stand apart.
    for (user, used) in uses.iter().filter(|(user, _)| user != "guest-linux") {
        assert!(leads(&arrows, user, used), "{user} uses {used}");
    }
}

#[test]
fn what_is_wrong_is_seen() {
    let root = root();
    let from = root.join("README.md");
    for link in [
        "ARCHITECTURE.md",
        "ARCHITECTURE.md#the-idea",
        "#quick-start",
        "https://example.org",
    ] {
        assert_eq!(broken(&from, link), None, "{link}");
    }
    for link in ["NONE.md", "ARCHITECTURE.md#the-idee", "#slow-start"] {
        assert!(broken(&from, link).is_some(), "{link}");
    }
    for path in [
        "hyp/src/boot",
        "memory/guest",
        "exits/abort",
        "hyp/stage2/src/split.rs",
    ] {
        assert!(is_path(path) && exists(&root, &from, path), "{path}");
    }
    assert!(!exists(&root, &from, "machine/tlb"));
    assert!(!is_path("a / b") && !is_path("MIT/Apache") && !is_path("word"));
}
