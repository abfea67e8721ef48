//! Names for the hypervisor's addresses, from the debug information in its ELF.

use std::fmt;
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
        if address == u64::MAX {
            // The lookup takes the end of the range to be one above.
            return Vec::new();
        }
        let mut places = self.places(address);
        // The symbol table has full paths, the images' debug information has bare names; but the
        // symbol is that of the function which others were inlined into, the last one.
        if let Some(symbol) = self.0.find_symbol(address) {
            let name = Some(rustc_name(symbol));
            match places.last_mut() {
                Some(outermost) => outermost.name = name,
                None => places.push(Place { name, line: None }),
            }
        }
        places.iter().map(ToString::to_string).collect()
    }

    /// What the debug information says.
    fn places(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        if let Ok(mut frames) = self.0.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                places.push(place(&frame));
            }
        }
        places
    }
}

/// A function, and the line in it.
struct Place {
    name: Option<String>,
    line: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_deref().unwrap_or("?"))?;
        match &self.line {
            Some(line) => write!(f, " at {line}"),
            None => Ok(()),
        }
    }
}

fn place<R: Reader>(frame: &Frame<'_, R>) -> Place {
    let function = frame.function.as_ref();
    let name = function.and_then(|function| Some(function.demangle().ok()?.into_owned()));
    let line = frame.location.as_ref().map(|location| {
        let root = workspace::root();
        let file = Path::new(location.file.unwrap_or("?"));
        let file = file.strip_prefix(&root).unwrap_or(file);
        format!("{}:{}", file.display(), location.line.unwrap_or(0))
    });
    Place { name, line }
}

fn rustc_name(symbol: &str) -> String {
    demangle_auto(symbol.into(), None).into_owned()
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
            .find(|symbol| symbol.name().is_ok_and(|name| name.contains("rustc_name")))
            .expect("a symbol for a function of this file");
        let symbols = Symbols::open(&own_elf()).expect("an ELF");
        let found = symbols.describe(here.address());
        assert!(
            found
                .iter()
                .any(|line| line.contains("xtask::symbols::rustc_name")
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
