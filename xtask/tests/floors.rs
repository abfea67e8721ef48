//! The floors of the hypervisor's image: its modules use what is below them, and nothing above.
//!
//! The list of floors is the table in `hyp/src/main.rs`, from the lowest to the highest; modules in
//! one row are one floor. This reads every path in the source (`use` lines, paths in code, and
//! those in assembly's operands), and names each that leads up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{File, ItemMod, ItemUse, Macro, UseTree};

/// The image's source.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hyp/src")
}

/// The floor of each module, by the table in the text of `main.rs`.
fn floors(main: &str) -> BTreeMap<String, usize> {
    let rows = main.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let modules = |row: &str| {
        let (names, _) = row.split_once(" |").unwrap_or_default();
        let names = names.split(", ").map(|name| name.trim_matches('`'));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    rows.enumerate()
        .flat_map(|(floor, row)| modules(row).into_iter().map(move |name| (name, floor)))
        .collect()
}

/// The modules of the image, by the declarations in `main.rs`.
fn modules(main: &str) -> Vec<String> {
    let declared = |line: &str| Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned());
    main.lines().filter_map(declared).collect()
}

/// A path that a file of the image names: the line, and the segments from the image's root on.
type Named = (usize, Vec<String>);

/// Gathers the paths of one file.
struct Paths {
    /// Where the file is in the tree of modules.
    module: Vec<String>,
    named: Vec<Named>,
}

impl Paths {
    fn add(&mut self, line: usize, segments: &[String]) {
        let ups = segments.iter().take_while(|name| *name == "super").count();
        let base = match segments.first().map(String::as_str) {
            Some("crate") => return self.named.push((line, segments[1..].to_vec())),
            Some("super") => self.module.len().saturating_sub(ups),
            _ => return,
        };
        let path = [&self.module[..base], &segments[ups..]].concat();
        self.named.push((line, path));
    }

    fn add_tree(&mut self, line: usize, before: &[String], tree: &UseTree) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(line, &with(&path.ident), &path.tree),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree.span().start().line, before, tree);
                }
            }
            UseTree::Name(name) => self.add(line, &with(&name.ident)),
            UseTree::Rename(rename) => self.add(line, &with(&rename.ident)),
            UseTree::Glob(_) => self.add(line, before),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(item.span().start().line, &[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.add(path.span().start().line, &segments);
        syn::visit::visit_path(self, path);
    }

    /// What a macro is given is no Rust as long as it is not expanded: paths are looked for in its
    /// words.
    fn visit_macro(&mut self, called: &'ast Macro) {
        let line = called.span().start().line;
        let text = called.tokens.to_string().replace(" :: ", "::");
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        for word in words {
            let segments: Vec<_> = word.split("::").map(str::to_owned).collect();
            self.add(line, &segments);
        }
        syn::visit::visit_macro(self, called);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

/// The paths that the file at `path`, with this text, names.
fn paths(module: Vec<String>, text: &str) -> Vec<Named> {
    let file: File = syn::parse_file(text).expect("the source is Rust");
    let mut paths = Paths {
        module,
        named: Vec::new(),
    };
    paths.visit_file(&file);
    paths.named
}

/// What is wrong with the paths that a file of `module` names.
fn breaches(
    floors: &BTreeMap<String, usize>,
    file: &str,
    module: &str,
    named: &[Named],
) -> Vec<String> {
    let up = |(line, path): &Named| {
        let target = path.first()?;
        let (own, other) = (floors.get(module)?, floors.get(target)?);
        (other > own).then(|| {
            format!(
                "{file}:{line}: `{}` is on a floor above `{module}`: move what is needed down, or have `{module}` \
                 call what it was handed",
                path.join("::")
            )
        })
    };
    named.iter().filter_map(up).collect()
}

/// Every file of the image, with its place in the tree of modules.
fn files(directory: &Path, module: &[String], found: &mut Vec<(PathBuf, Vec<String>)>) {
    let entries = fs::read_dir(directory).expect("the image's source can be read");
    for entry in entries.map(|entry| entry.expect("an entry can be read").path()) {
        let name = entry
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let inner = [module, std::slice::from_ref(&name)].concat();
        if entry.is_dir() {
            files(&entry, &inner, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let is_root = name == "mod" || name == "main";
            found.push((entry, if is_root { module.to_vec() } else { inner }));
        }
    }
}

#[test]
fn every_module_of_the_image_is_on_a_floor() {
    let main = fs::read_to_string(source().join("main.rs")).expect("main.rs can be read");
    let mut on_floors: Vec<_> = floors(&main).into_keys().collect();
    let mut declared = modules(&main);
    on_floors.sort();
    declared.sort();
    assert_eq!(
        declared, on_floors,
        "the table in hyp/src/main.rs names the modules that it declares"
    );
}

#[test]
fn no_module_of_the_image_uses_one_above_it() {
    let main = fs::read_to_string(source().join("main.rs")).expect("main.rs can be read");
    let (floors, mut found) = (floors(&main), Vec::new());
    files(&source(), &[], &mut found);
    let breaches: Vec<_> = found
        .into_iter()
        .filter(|(_, module)| !module.is_empty())
        .flat_map(|(path, module)| {
            let text = fs::read_to_string(&path).expect("a file can be read");
            let file = path
                .strip_prefix(source())
                .expect("below the source")
                .display()
                .to_string();
            let top = module[0].clone();
            breaches(
                &floors,
                &format!("hyp/src/{file}"),
                &top,
                &paths(module, &text),
            )
        })
        .collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// Each way to name something above is seen, and what is below or beside is not complained of.
#[test]
fn ways_up_are_seen() {
    let floors = BTreeMap::from([("low".to_owned(), 0), ("high".to_owned(), 1)]);
    let complaints = |text: &str| {
        let named = paths(vec!["low".to_owned(), "file".to_owned()], text);
        breaches(&floors, "low/file.rs", "low", &named).len()
    };
    for up in [
        "use crate::high::thing;",
        "use crate::{high, low};",
        "use crate::high::*;",
        "use super::super::high::thing as other;",
        "fn f() { crate::high::call() }",
        "fn f(_: &crate::high::Type) {}",
        "mod inner { use super::super::super::high::thing; }",
        "global_asm!(\"b {target}\", target = sym crate::high::thing);",
        "fn f() { println!(\"{}\", crate::high::VALUE) }",
    ] {
        assert_eq!(complaints(up), 1, "{up}");
    }
    for fine in [
        "use crate::low::thing;",
        "use super::other;",
        "use high::thing;",
        "// crate::high\nfn f() {}",
        "fn f() { self::high() }",
    ] {
        assert_eq!(complaints(fine), 0, "{fine}");
    }
    let upstairs = paths(vec!["high".to_owned()], "use crate::low::thing;");
    assert_eq!(
        breaches(&floors, "high.rs", "high", &upstairs),
        Vec::<String>::new()
    );
}
