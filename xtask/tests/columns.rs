//! Lines of the source keep to the width that `rustfmt.toml` sets, comments included, which rustfmt
//! leaves as they are.

use std::fs;
use std::path::{Path, PathBuf};

use xtask::workspace;

/// Folders that hold no source of ours.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

fn width() -> usize {
    let text = fs::read_to_string(workspace::root().join("rustfmt.toml"));
    let table: toml::Table = toml::from_str(&text.expect("rustfmt.toml")).expect("TOML");
    let width = table["max_width"].as_integer().expect("a number");
    usize::try_from(width).expect("a width")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !LEFT_OUT.contains(&&*name) {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The numbers of the lines that are too wide and could be wrapped: rows of tables, links and
/// strings cannot.
fn too_wide(text: &str, width: usize) -> Vec<usize> {
    let is_wide = |line: &str| line.chars().count() > width && !is_unbreakable(line);
    let lines = text.lines().zip(1..);
    lines
        .filter(|(line, _)| is_wide(line))
        .map(|(_, number)| number)
        .collect()
}

/// Whether the line is one that stays as it is.
fn is_unbreakable(line: &str) -> bool {
    let line = line.trim_start();
    match line.trim_start_matches(['/', '!']).trim_start() {
        // Code: rustfmt wraps what can be wrapped, but no string.
        code if code == line => line.contains('"') || line.ends_with('\\'),
        comment => comment.starts_with('|') || comment.contains("]: ") || comment.contains("://"),
    }
}

#[test]
fn lines_keep_to_the_width() {
    let (root, width) = (workspace::root(), width());
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 300, "{} files", files.len());
    let wide = files.iter().flat_map(|path| {
        let text = fs::read_to_string(path).expect("source is text");
        let path = path
            .strip_prefix(&root)
            .unwrap_or(path)
            .display()
            .to_string();
        let lines = too_wide(&text, width);
        lines.into_iter().map(move |line| format!("{path}:{line}"))
    });
    let wide: Vec<_> = wide.collect();
    let count = wide.len();
    assert!(
        wide.is_empty(),
        "{count} lines are wider than {width} columns:\n{}",
        wide.join("\n")
    );
}

#[test]
fn what_can_be_wrapped_is_too_wide() {
    let long = "word ".repeat(30);
    for wide in [
        format!("// {long}"),
        format!("    /// {long}"),
        format!("//! {long}"),
    ] {
        assert_eq!(
            too_wide(&format!("fn f() {{}}\n{wide}\n"), 100),
            [2],
            "{wide}"
        );
    }
    for kept in [
        format!("//! | {long} |"),
        format!("/// [link]: {long}"),
        format!("// https://example.org/{}", "x".repeat(100)),
        format!("    assert!(x, \"{long}\");"),
        "é".repeat(100),
    ] {
        assert_eq!(too_wide(&kept, 100), [0; 0], "{kept}");
    }
}
