//! The floors of the hypervisor's image: its modules use what is below them, and nothing above.
//!
//! The list of floors is the table in `hyp/src/main.rs`, from the lowest to the highest; modules in
//! one row are one floor. This reads every path in the source (`use` lines, paths in code, and
//! those in assembly's operands), and names each that leads up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::paths::{Named, files, paths};

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

/// What is wrong with the paths that a file of `module` names.
fn breaches(
    floors: &BTreeMap<String, usize>,
    file: &str,
    module: &str,
    named: &[Named],
) -> Vec<String> {
    let up = |Named { line, path, .. }: &Named| {
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
    let floors = floors(&main);
    let breaches: Vec<_> = files(&source())
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
                &paths(module, &text).named,
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
        let named = paths(vec!["low".to_owned(), "file".to_owned()], text).named;
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
    let upstairs = paths(vec!["high".to_owned()], "use crate::low::thing;").named;
    assert_eq!(
        breaches(&floors, "high.rs", "high", &upstairs),
        Vec::<String>::new()
    );
}
