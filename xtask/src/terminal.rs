//! The terminal: whether it suits an animated display, and how a QEMU run borrows it as its standard
//! input.
//!
//! QEMU sets the terminal to pass single keys on and its end of it to non-blocking. It gets an open
//! file of its own, so that writes of xtask to the same terminal stay blocking.

use std::env;
use std::fs::File;
use std::io::{IsTerminal, stderr, stdin};
use std::process::Stdio;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Whether bars and spinners suit whoever looks at standard error: a person, and not CI.
pub fn is_animated() -> bool {
    stderr().is_terminal() && env::var_os("CI").is_none()
}

/// The settings of the terminal at standard input; dropping this restores them.
pub struct Terminal(Option<Termios>);

impl Terminal {
    /// Remembers how the terminal is set, where standard input is one.
    pub fn borrow() -> Self {
        let input = stdin();
        Self(
            input
                .is_terminal()
                .then(|| tcgetattr(&input).ok())
                .flatten(),
        )
    }

    /// No terminal, for runs that nobody types into.
    pub fn none() -> Self {
        Self(None)
    }

    /// What a child gets for its standard input: the terminal, or nothing where there is none.
    pub fn input(&self) -> Stdio {
        match (&self.0, File::open("/dev/tty")) {
            (Some(_), Ok(file)) => file.into(),
            _ => Stdio::null(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // A terminal that has gone needs no restoring.
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, settings);
        }
    }
}
