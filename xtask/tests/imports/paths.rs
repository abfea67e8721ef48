//! The paths that a crate's source names: in `use` lines, in code, and in what macros are given
//! (assembly's operands are).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, File, Item, ItemMod, ItemUse, Macro, UseTree, Visibility};

/// A path that a file names.
pub(super) struct Named {
    pub(super) line: usize,
    /// The segments from the crate's root on.
    pub(super) path: Vec<String>,
    /// Whether it is named only to be handed on, by a `pub use`.
    pub(super) handed_on: bool,
}

/// What one file names. Tests inside it are left out.
#[derive(Default)]
pub(super) struct Paths {
    /// Where the file is in the tree of modules; while it is read, with the modules inside it.
    module: Vec<String>,
    /// The files that it declares as its modules.
    children: BTreeSet<String>,
    pub(super) named: Vec<Named>,
    /// What its `use` lines make a name in it stand for.
    pub(super) aliases: BTreeMap<String, Vec<String>>,
}

impl Paths {
    /// The path from the crate's root on; `None` if it leads to another crate, or to something
    /// local.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let ups = segments.iter().take_while(|name| *name == "super").count();
        let first = segments.first()?;
        let (base, rest) = match first.as_str() {
            "crate" => (0, 1),
            "self" => (self.module.len(), 1),
            "super" => (self.module.len().saturating_sub(ups), ups),
            _ if self.children.contains(first) => (self.module.len(), 0),
            _ => return None,
        };
        Some([&self.module[..base], &segments[rest..]].concat())
    }

    fn add(&mut self, line: usize, segments: &[String], handed_on: bool) {
        let path = self.absolute(segments);
        self.named.extend(path.map(|path| Named {
            line,
            path,
            handed_on,
        }));
    }

    fn add_tree(&mut self, before: &[String], tree: &UseTree, handed_on: bool) {
        let line = tree.span().start().line;
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        let (segments, alias) = match tree {
            UseTree::Path(path) => {
                return self.add_tree(&with(&path.ident), &path.tree, handed_on);
            }
            UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.add_tree(before, tree, handed_on));
            }
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned())
            }
            UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
            UseTree::Glob(_) => (before.to_vec(), None),
        };
        self.add(line, &segments, handed_on);
        if let (Some(alias), Some(path)) = (alias, self.absolute(&segments)) {
            self.aliases.insert(alias, path);
        }
    }
}

/// Whether an item is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        list.is_ok_and(|list| list.path.is_ident("cfg") && list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let handed_on = !matches!(item.vis, Visibility::Inherited);
        self.add_tree(&[], &item.tree, handed_on);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        let segments: Vec<_> = segments.map(|segment| segment.ident.to_string()).collect();
        self.add(path.span().start().line, &segments, false);
        syn::visit::visit_path(self, path);
    }

    /// `pub(super)` is no use of the module above.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    /// What a macro is given is no Rust as long as it is not expanded: paths are looked for in its
    /// words.
    fn visit_macro(&mut self, called: &'ast Macro) {
        let line = called.span().start().line;
        let text = called.tokens.to_string().replace(" :: ", "::");
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        for word in words {
            let segments: Vec<_> = word.split("::").map(str::to_owned).collect();
            self.add(line, &segments, false);
        }
        syn::visit::visit_macro(self, called);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

/// The modules that a file declares, whose source is in other files.
fn children(file: &File) -> BTreeSet<String> {
    let declared = |item: &Item| match item {
        Item::Mod(item) if item.content.is_none() => Some(item.ident.to_string()),
        _ => None,
    };
    file.items.iter().filter_map(declared).collect()
}

/// What a file with this text, at this place in the tree of modules, names.
pub(super) fn paths(module: Vec<String>, text: &str) -> Paths {
    let file: File = syn::parse_file(text).expect("the source is Rust");
    let mut paths = Paths {
        module,
        children: children(&file),
        ..Paths::default()
    };
    paths.visit_file(&file);
    paths
}

/// Every file of a crate, with its place in the tree of modules.
pub(super) fn files(source: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    add_files(source, &[], &mut found);
    found
}

fn add_files(directory: &Path, module: &[String], found: &mut Vec<(PathBuf, Vec<String>)>) {
    let entries = fs::read_dir(directory).expect("the source can be read");
    for entry in entries.map(|entry| entry.expect("an entry can be read").path()) {
        let name = entry
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let inner = [module, std::slice::from_ref(&name)].concat();
        if entry.is_dir() {
            add_files(&entry, &inner, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let is_root = ["mod", "main", "lib"].contains(&name.as_str());
            found.push((entry, if is_root { module.to_vec() } else { inner }));
        }
    }
}
