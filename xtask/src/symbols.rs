//! Names for the hypervisor's addresses, from the debug information in its ELF.

use std::path::Path;

use addr2line::gimli::Reader;
use addr2line::{Frame, Loader, demangle_auto};
use anyhow::{Result, anyhow};

use crate::workspace;

/// The symbols of one ELF.
pub struct Symbols(Loader);

impl Symbols {
    /// Opens the ELF at `path`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no ELF.
    pub fn open(path: &Path) -> Result<Self> {
        Loader::new(path)
            .map(Self)
            .map_err(|error| anyhow!("no symbols in {}: {error}", path.display()))
    }

    /// The functions that the code at `address` (link address) belongs to, the innermost inlined
    /// one first, each as `name at file:line`; empty where nothing is known.
    pub fn describe(&self, address: u64) -> Vec<String> {
        let mut found = Vec::new();
        if address == u64::MAX {
            // The lookup takes the end of the range to be one above.
            return found;
        }
        if let Ok(mut frames) = self.0.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                found.push(describe_frame(&frame));
            }
        }
        if found.is_empty() {
            let symbol = self.0.find_symbol(address);
            found.extend(symbol.map(|name| demangle_auto(name.into(), None).into_owned()));
        }
        found
    }
}

fn describe_frame<R: Reader>(frame: &Frame<'_, R>) -> String {
    let name = frame
        .function
        .as_ref()
        .and_then(|function| function.demangle().ok())
        .map_or_else(|| "?".to_owned(), |name| name.into_owned());
    match &frame.location {
        Some(location) => {
            let root = workspace::root();
            let file = Path::new(location.file.unwrap_or("?"));
            let file = file.strip_prefix(&root).unwrap_or(file);
            format!(
                "{name} at {}:{}",
                file.display(),
                location.line.unwrap_or(0)
            )
        }
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSymbol};

    fn own_elf() -> std::path::PathBuf {
        std::env::current_exe().expect("the path of this test")
    }

    #[test]
    fn own_functions_are_found_by_address() {
        let bytes = std::fs::read(own_elf()).expect("the test's own ELF");
        let elf = object::File::parse(&*bytes).expect("an ELF");
        let here = elf
            .symbols()
            .find(|symbol| {
                symbol
                    .name()
                    .is_ok_and(|name| name.contains("describe_frame"))
            })
            .expect("a symbol for a function of this file");
        let symbols = Symbols::open(&own_elf()).expect("an ELF");
        let found = symbols.describe(here.address());
        assert!(
            found
                .iter()
                .any(|line| line.contains("xtask::symbols::describe_frame")
                    && line.contains("xtask/src/symbols.rs:")),
            "{found:?}"
        );
    }

    #[test]
    fn nothing_is_known_of_nowhere() {
        let symbols = Symbols::open(&own_elf()).expect("an ELF");
        assert!(symbols.describe(u64::MAX).is_empty());
        assert!(Symbols::open(Path::new("/nonexistent")).is_err());
    }
}
