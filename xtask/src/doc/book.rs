//! The book: each chapter of `hyp/doc/src` as a page, with the table of contents beside it.
//!
//! The chapters are laid out as mdBook has them, and mdBook makes more of them where it is
//! installed. This needs nothing but a Markdown parser.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};

/// Where the chapters are, from the root of the workspace.
const CHAPTERS: &str = "hyp/doc/src";

/// The table of contents, which names every chapter.
const CONTENTS: &str = "SUMMARY.md";

const STYLE: &str = "body{display:flex;gap:3em;font:16px/1.5 system-ui,sans-serif;margin:2em}\
    nav{flex:0 0 17em;font-size:14px}main{max-width:48em;min-width:0}\
    pre{overflow:auto;background:#f4f4f4;padding:1em}code{font-size:90%}\
    table{border-collapse:collapse;font-size:14px}td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}\
    @media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#252525}a{color:#8ab4f8}}";

/// Writes the pages of the book in the workspace at `root` to `target`; returns the first.
pub(super) fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let source = root.join(CHAPTERS);
    let contents = read(&source.join(CONTENTS))?;
    let chapters = chapters(&contents);
    for chapter in &chapters {
        let text = read(&source.join(chapter))?;
        let page = target.join(as_page(chapter));
        let parent = page.parent().unwrap_or(target);
        let depth = chapter.matches('/').count();
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::write(&page, page_of(&contents, &text, depth))
            .with_context(|| format!("write {}", page.display()))?;
    }
    let first = chapters
        .first()
        .context("the table of contents names no chapter")?;
    Ok(target.join(as_page(first)))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The chapters that the table of contents names, in order.
fn chapters(contents: &str) -> Vec<String> {
    let link = |event| match event {
        Event::Start(Tag::Link { dest_url, .. }) => Some(dest_url.into_string()),
        _ => None,
    };
    Parser::new(contents).filter_map(link).collect()
}

/// A whole page: the table of contents and the text, which lies so many folders deep.
fn page_of(contents: &str, text: &str, depth: usize) -> String {
    let up = "../".repeat(depth);
    let title = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("# ");
    format!(
        "<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>\
         <nav>{}</nav><main>{}</main>\n",
        render(contents, &up),
        render(text, "")
    )
}

fn render(text: &str, up: &str) -> String {
    let parser = Parser::new_ext(text, Options::ENABLE_TABLES);
    let events = parser.map(|event| match event {
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => Event::Start(Tag::Link {
            link_type,
            dest_url: CowStr::from(format!(
                "{}{}",
                if is_chapter(&dest_url) { up } else { "" },
                as_page(&dest_url)
            )),
            title,
            id,
        }),
        other => other,
    });
    let mut page = String::new();
    html::push_html(&mut page, events);
    page
}

/// Whether a link leads to another chapter: what leads out of the book stays as it is.
fn is_chapter(link: &str) -> bool {
    !link.contains("../..") && !link.contains(':') && !link.starts_with('#')
}

/// The page of a chapter, or what else a link leads to.
fn as_page(link: &str) -> String {
    match link.split_once(".md") {
        Some((name, anchor)) if is_chapter(link) => format!("{name}.html{anchor}"),
        _ => link.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_chapters_lead_to_pages_and_others_stay() {
        for (link, page) in [
            ("a.md", "a.html"),
            ("decisions/0001-b.md#why", "decisions/0001-b.html#why"),
            ("../../stage2/tests/RACES.md", "../../stage2/tests/RACES.md"),
            ("https://example.org/x.md", "https://example.org/x.md"),
            ("#here", "#here"),
        ] {
            assert_eq!(as_page(link), page);
        }
        let inner = page_of("- [A](a.md)", "# B\n\n[a](../a.md)", 1);
        assert!(inner.contains("<a href=\"../a.html\">A</a>"), "{inner}");
        assert!(inner.contains("<title>B</title>"));
    }

    /// The book of this workspace: every chapter there is gets a page, and no other.
    #[test]
    fn every_chapter_is_in_the_contents_and_has_a_page() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let target = tempfile::tempdir().unwrap();
        let first = build(&root, target.path()).unwrap();
        assert!(first.ends_with("protocol.html"), "{}", first.display());
        let mut named = chapters(&read(&root.join(CHAPTERS).join(CONTENTS)).unwrap());
        let mut there = files(&root.join(CHAPTERS), "");
        there.retain(|name| name != CONTENTS);
        named.sort();
        there.sort();
        assert_eq!(named, there);
        assert!(
            named
                .iter()
                .all(|chapter| target.path().join(as_page(chapter)).is_file())
        );
    }

    fn files(folder: &Path, before: &str) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{before}{}", path.file_name().unwrap().to_string_lossy());
            if path.is_dir() {
                found.extend(files(&path, &format!("{name}/")));
            } else {
                found.push(name);
            }
        }
        found
    }
}
