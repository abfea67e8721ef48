//! What a Rust toolchain really has: rustup, and the installers that it uses, keep a list of
//! components, and of each the files that it consists of. A folder alone says nothing, since an
//! interrupted installation leaves one.

use std::fs;
use std::path::{Path, PathBuf};

/// A toolchain's folder for all that is there for a target (`lib/rustlib` in its sysroot).
pub(super) struct Installed {
    sysroot: PathBuf,
}

impl Installed {
    /// The toolchain in `sysroot`.
    pub(super) fn new(sysroot: impl Into<PathBuf>) -> Self {
        let sysroot = sysroot.into();
        Self { sysroot }
    }

    /// Whether the standard library for `target` is there, whole.
    pub(super) fn has_target(&self, target: &str) -> bool {
        match self.components() {
            Some(components) => self.has(&components, &format!("rust-std-{target}")),
            // A system's package, or a toolchain built by hand: all or nothing.
            None => self.has_core(target),
        }
    }

    /// Whether there is a component, whole, whose name begins so.
    pub(super) fn has_component(&self, start: &str) -> bool {
        let components = self.components().unwrap_or_default();
        let mut names = components.lines().filter(|name| name.starts_with(start));
        names.any(|name| self.has(&components, name))
    }

    /// What an interrupted installation for `target` has left, which rustup would stumble over: a
    /// folder that belongs to no component.
    pub(super) fn left_over(&self, target: &str) -> Option<PathBuf> {
        let components = self.components()?;
        let folder = self.rustlib().join(target);
        let is_listed = lists(&components, &format!("rust-std-{target}"));
        (!is_listed && folder.is_dir()).then_some(folder)
    }

    fn rustlib(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib")
    }

    /// The list of components, one a line, if the toolchain was installed by components.
    fn components(&self) -> Option<String> {
        fs::read_to_string(self.rustlib().join("components")).ok()
    }

    /// Whether a component is listed, and all its files are there.
    fn has(&self, components: &str, name: &str) -> bool {
        let manifest = self.rustlib().join(format!("manifest-{name}"));
        let is_there = |line: &str| match line.split_once(':') {
            Some(("file" | "dir", path)) => self.sysroot.join(path).exists(),
            _ => true,
        };
        lists(components, name)
            && fs::read_to_string(manifest).is_ok_and(|files| files.lines().all(is_there))
    }

    fn has_core(&self, target: &str) -> bool {
        let folder = self.rustlib().join(target).join("lib");
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .any(|name| {
                name.starts_with("libcore-")
                    && Path::new(&name).extension().is_some_and(|e| e == "rlib")
            })
    }
}

fn lists(components: &str, name: &str) -> bool {
    components.lines().any(|component| component == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A toolchain that is gone afterwards.
    struct Toolchain(PathBuf);

    impl Toolchain {
        fn new(name: &str) -> Self {
            let folder = format!("xtask-toolchain-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(folder))
        }

        fn file(&self, path: &str, contents: &str) {
            let path = self.0.join("lib/rustlib").join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, contents).expect("a file");
        }

        fn installed(&self) -> Installed {
            Installed::new(&self.0)
        }
    }

    impl Drop for Toolchain {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn this_toolchain_has_the_hosts_library() {
        let rustc = std::process::Command::new("rustc")
            .args(["--print", "sysroot"])
            .output();
        let sysroot = String::from_utf8(rustc.expect("rustc").stdout).expect("text");
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let installed = Installed::new(sysroot.trim());
        assert!(installed.has_target(&host));
        assert!(!installed.has_target("no-such-target"));
        assert_eq!(installed.left_over(&host), None);
    }

    #[test]
    fn an_interrupted_installation_is_no_target() {
        let toolchain = Toolchain::new("interrupted");
        toolchain.file("components", "rust-std-host\n");
        toolchain.file("t/lib/liballoc-1.rlib", "");
        assert!(!toolchain.installed().has_target("t"));
        let left = toolchain.installed().left_over("t").expect("a folder");
        assert!(left.ends_with("lib/rustlib/t"));

        toolchain.file("components", "rust-std-host\nrust-std-t\n");
        assert!(
            !toolchain.installed().has_target("t"),
            "nothing says what it consists of"
        );
        let files =
            "file:lib/rustlib/t/lib/liballoc-1.rlib\nfile:lib/rustlib/t/lib/libcore-1.rlib\n";
        toolchain.file("manifest-rust-std-t", files);
        assert!(
            !toolchain.installed().has_target("t"),
            "a file is not there"
        );
        toolchain.file("t/lib/libcore-1.rlib", "");
        assert!(toolchain.installed().has_target("t"));
        assert_eq!(toolchain.installed().left_over("t"), None);
    }

    #[test]
    fn a_toolchain_without_components_has_a_target_with_its_core() {
        let toolchain = Toolchain::new("package");
        toolchain.file("t/lib/self-contained/x", "");
        assert!(!toolchain.installed().has_target("t"));
        toolchain.file("t/lib/libcore-1.rlib", "");
        assert!(toolchain.installed().has_target("t"));
        assert_eq!(
            toolchain.installed().left_over("t"),
            None,
            "nothing is rustup's"
        );
    }

    #[test]
    fn a_component_is_all_its_files() {
        let toolchain = Toolchain::new("component");
        toolchain.file("components", "miri-preview-host\nrust-src\n");
        toolchain.file("manifest-miri-preview-host", "file:lib/rustlib/miri\n");
        assert!(!toolchain.installed().has_component("miri"));
        toolchain.file("miri", "");
        assert!(toolchain.installed().has_component("miri"));
        assert!(!toolchain.installed().has_component("rust-src"));
    }
}
