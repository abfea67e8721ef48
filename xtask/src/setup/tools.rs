//! Programs that one verb or test is for, and the rest can do without: a browser and a debugger.

use anyhow::{Context, Result, bail};

use super::{apt, command, succeeds};

/// A program that may be there.
#[derive(Clone, Copy, Debug)]
struct Tool {
    /// The names that it goes by, the best first.
    names: &'static [&'static str],
    /// Debian's and Ubuntu's package that holds it.
    package: &'static str,
    /// Arguments with which a good one succeeds.
    probe: &'static [&'static str],
}

/// A browser that draws pages without a screen.
const BROWSER: Tool = Tool {
    names: &["chromium", "chromium-browser", "google-chrome"],
    package: "chromium",
    probe: &["--version"],
};

/// A debugger that knows Arm and runs Python.
const DEBUGGER: Tool = Tool {
    names: &["gdb-multiarch", "aarch64-linux-gnu-gdb", "gdb"],
    package: "gdb-multiarch",
    probe: &[
        "--nx",
        "--batch",
        "-ex",
        "python gdb.execute('set architecture aarch64')",
    ],
};

/// A browser for the tests of the page, installed if it has to be and that needs no question.
///
/// # Errors
///
/// The reason why there is none.
pub fn browser(install: bool) -> Result<&'static str> {
    BROWSER.get(install)
}

/// GDB, installed likewise.
///
/// # Errors
///
/// The reason why there is none.
pub fn debugger(install: bool) -> Result<&'static str> {
    DEBUGGER.get(install)
}

impl Tool {
    /// The name of the one that is there, after installing it if that is wanted.
    fn get(&self, install: bool) -> Result<&'static str> {
        if let Some(name) = self.found() {
            return Ok(name);
        }
        let names = self.names.join(", ");
        if !install {
            bail!("none of {names} is installed");
        }
        apt::install(self.package, self.names[0], |_| Ok(()))
            .with_context(|| format!("none of {names} is there, and none could be installed"))?;
        self.found().with_context(|| {
            format!(
                "apt-get has installed {}, but it does not run",
                self.package
            )
        })
    }

    fn found(&self) -> Option<&'static str> {
        let mut names = self.names.iter().copied();
        names.find(|name| succeeds(&mut command(name, self.probe)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_named() {
        let tool = |names| Tool {
            names,
            package: "none",
            probe: &["--version"],
        };
        let found = tool(&["no-such-program", "cargo"]).get(false);
        assert_eq!(found.ok(), Some("cargo"));
        let none = tool(&["no-such-program"]).get(false);
        let error = none.expect_err("no such program");
        assert!(error.to_string().contains("no-such-program"), "{error}");
    }
}
