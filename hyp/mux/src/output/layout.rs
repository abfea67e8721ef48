//! How what several speakers say becomes lines of one console.
//!
//! The hypervisor says whole lines. Guests say pieces of lines, each as soon as it is there, and
//! others may speak in between. So a guest's line may take several lines of the console:
//!
//! ```text
//! vm0| verd\
//! vm1| something else
//! vm0+ ict: passed
//! ```
//!
//! `vm0|` begins a line of the guest's and `vm0+` goes on with it: no guest can write either, since
//! its text is never where a line of the console begins. That is all that is needed to put the line
//! together again. The backslash tells who reads that more may come; by itself it means nothing,
//! since a guest can write one, too.

use core::fmt::{self, Write};

use super::printable::Printable;
use crate::lines::Piece;
use bootargs::MAX_VMS;

/// Ends a line of the console if a guest's line is not complete by it.
const CUT: &str = "\\\n";
/// A line of the console that has this many characters of a guest's goes on in another one, so that
/// who reads need not keep more than a few thousand.
const LONGEST: usize = 2048;

/// Whose output the last line of the console is, where it has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// A guest's, behind its name.
    Named(usize),
    /// A guest's, byte for byte.
    Raw(usize),
}

/// Where the console is in a line, and the guests in theirs.
#[derive(Debug)]
pub struct Layout {
    open: Option<Open>,
    /// How many characters are on the line that is open, if it has a name.
    length: usize,
    /// The guests of whose line some is on the console, and not its end.
    begun: [bool; MAX_VMS],
}

impl Layout {
    /// Nobody has said anything.
    pub const fn new() -> Self {
        Self {
            open: None,
            length: 0,
            begun: [false; MAX_VMS],
        }
    }

    /// Writes a line of the hypervisor's.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn line(&mut self, text: fmt::Arguments<'_>, out: &mut impl Write) -> fmt::Result {
        self.interrupt(out)?;
        writeln!(out, "{text}")
    }

    /// Writes a piece of a line that guest `vm` has said.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn piece(&mut self, vm: usize, piece: Piece<'_>, out: &mut impl Write) -> fmt::Result {
        let mut begun = false;
        if let Some(place) = self.begun.get_mut(vm) {
            begun = core::mem::replace(place, !piece.ends);
        }
        if self.open != Some(Open::Named(vm)) || self.length >= LONGEST {
            self.interrupt(out)?;
            write!(out, "vm{vm}{} ", if begun { '+' } else { '|' })?;
        }
        let mut out = Counted { out, count: 0 };
        write!(out, "{}", Printable(piece.text))?;
        self.length += out.count;
        self.open = Some(Open::Named(vm));
        if piece.ends {
            self.open = None;
            self.length = 0;
            writeln!(out)?;
        }
        Ok(())
    }

    /// Guest `vm` says `byte`, which the caller passes on as it is: writes what has to come before.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn before_byte(&mut self, vm: usize, byte: u8, out: &mut impl Write) -> fmt::Result {
        if self.open != Some(Open::Raw(vm)) {
            self.interrupt(out)?;
        }
        self.open = (byte != b'\n').then_some(Open::Raw(vm));
        Ok(())
    }

    /// Ends a line of the console that is open.
    fn interrupt(&mut self, out: &mut impl Write) -> fmt::Result {
        self.length = 0;
        match self.open.take() {
            Some(Open::Named(_)) => out.write_str(CUT),
            Some(Open::Raw(_)) => out.write_str("\n"),
            None => Ok(()),
        }
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts what is written.
struct Counted<'a, W> {
    out: &'a mut W,
    count: usize,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.count += text.len();
        self.out.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Console(Layout, String);

    impl Console {
        fn says(&mut self, vm: usize, text: &str) {
            let (text, ends) = match text.strip_suffix('\n') {
                Some(text) => (text, true),
                None => (text, false),
            };
            let text = text.as_bytes();
            let result = self.0.piece(vm, Piece { text, ends }, &mut self.1);
            result.expect("a string takes all");
        }

        fn line(&mut self, text: &str) {
            let result = self.0.line(format_args!("{text}"), &mut self.1);
            result.expect("a string takes all");
        }

        fn byte(&mut self, vm: usize, byte: u8) {
            let result = self.0.before_byte(vm, byte, &mut self.1);
            result.expect("a string takes all");
            self.1.push(byte.into());
        }
    }

    #[test]
    fn a_line_that_nobody_cuts_is_one() {
        let mut console = Console::default();
        console.says(0, "one ");
        console.says(0, "line\n");
        console.line("another");
        console.says(0, "\n");
        assert_eq!(console.1, "vm0| one line\nanother\nvm0| \n");
    }

    #[test]
    fn a_line_that_is_cut_says_where_it_goes_on() {
        let mut console = Console::default();
        console.says(0, "verd");
        console.says(1, "first\n");
        console.says(1, "sec");
        console.says(0, "ict: ");
        console.line("tessera: hello");
        console.says(0, "passed\n");
        console.says(1, "ond\n");
        console.says(0, "next\n");
        assert_eq!(
            console.1,
            "vm0| verd\\\nvm1| first\nvm1| sec\\\nvm0+ ict: \\\ntessera: hello\nvm0+ passed\nvm1+ ond\nvm0| next\n"
        );
    }

    #[test]
    fn a_line_without_end_takes_more_than_one() {
        let mut console = Console::default();
        let piece = "x".repeat(256);
        (0..9).for_each(|_| console.says(0, &piece));
        console.says(0, "end\n");
        let expected = format!("vm0| {}\\\nvm0+ {piece}end\n", piece.repeat(8));
        assert_eq!(console.1, expected);
    }

    #[test]
    fn bytes_as_they_are_have_no_names() {
        let mut console = Console::default();
        console.byte(0, b'$');
        console.byte(0, b' ');
        console.line("tessera: hello");
        console.byte(0, b'l');
        console.says(1, "sec");
        console.byte(0, b's');
        console.byte(0, b'\n');
        console.says(1, "ond\n");
        // The listener's output comes as lines from here on.
        console.byte(0, b'$');
        console.says(0, "ls\n");
        assert_eq!(
            console.1,
            "$ \ntessera: hello\nl\nvm1| sec\\\ns\nvm1+ ond\n$\nvm0| ls\n"
        );
    }
}
