//! The terminal: whether it suits an animated display, and how a QEMU run borrows it as its
//! standard input.
//!
//! QEMU sets the terminal to pass single keys on and its end of it to non-blocking. It gets an open
//! file of its own, so that writes of xtask to the same terminal stay blocking.

use std::env;
use std::fs::File;
use std::io::{IsTerminal, PipeReader, stderr, stdin};
use std::process::Stdio;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Whether bars and spinners suit the reader of standard error: a person, and not CI.
pub fn is_animated() -> bool {
    stderr().is_terminal() && env::var_os("CI").is_none()
}

/// What a run has for its standard input. Where that is the terminal, dropping this restores its
/// settings.
pub enum Terminal {
    /// The terminal at standard input, with the settings that it had.
    Borrowed(Termios),
    /// A pipe, for runs that something else types into.
    Piped(PipeReader),
    /// Nothing, for runs that nobody types into.
    None,
}

impl Terminal {
    /// Remembers how the terminal is set, where standard input is one.
    pub fn borrow() -> Self {
        let input = stdin();
        let settings = input.is_terminal().then(|| tcgetattr(&input).ok());
        settings.flatten().map_or(Self::None, Self::Borrowed)
    }

    /// What a child gets for its standard input.
    pub fn input(&self) -> Stdio {
        match self {
            Self::Borrowed(_) => File::open("/dev/tty").map_or(Stdio::null(), Stdio::from),
            Self::Piped(reader) => reader.try_clone().map_or(Stdio::null(), Stdio::from),
            Self::None => Stdio::null(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Self::Borrowed(settings) = self {
            // A terminal that has gone needs no restoring.
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, settings);
        }
    }
}
