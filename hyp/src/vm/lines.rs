//! Gathering what a guest sends into lines, so that those of several guests and of the hypervisor do
//! not mix on the console.

/// Longer lines are broken.
const LENGTH: usize = 256;

/// The line that a guest is at.
#[derive(Debug)]
pub struct Lines {
    line: [u8; LENGTH],
    length: usize,
    since: u64,
}

/// A piece of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its characters, line end excluded.
    pub text: &'a [u8],
    /// Whether the line ends with it.
    pub ends: bool,
}

impl Lines {
    /// At the start of a line.
    pub const fn new() -> Self {
        Self {
            line: [0; LENGTH],
            length: 0,
            since: 0,
        }
    }

    /// Adds a byte at the time `now`. A line that is complete by that is handed to `print`.
    pub fn push(&mut self, byte: u8, now: u64, print: impl FnOnce(Piece<'_>)) {
        match byte {
            b'\n' => return self.end(true, print),
            b'\r' => return,
            _ => {}
        }
        if self.length == 0 {
            self.since = now;
        }
        if let Some(slot) = self.line.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
        if self.length == LENGTH {
            self.end(true, print);
        }
    }

    /// Since when there has been something of a line that is not complete, if there is.
    pub fn waiting_since(&self) -> Option<u64> {
        (self.length > 0).then_some(self.since)
    }

    /// Hands out what there is of a line that is not complete.
    pub fn flush(&mut self, print: impl FnOnce(Piece<'_>)) {
        if self.length > 0 {
            self.end(false, print);
        }
    }

    fn end(&mut self, ends: bool, print: impl FnOnce(Piece<'_>)) {
        let text = &self.line[..self.length];
        print(Piece { text, ends });
        self.length = 0;
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, with `|` for the end of a line.
    fn gather(text: &[u8]) -> (String, Lines) {
        let mut lines = Lines::new();
        let mut out = String::new();
        for (now, &byte) in (0..).zip(text) {
            lines.push(byte, now, |piece| show(&mut out, piece));
        }
        (out, lines)
    }

    fn show(out: &mut String, piece: Piece<'_>) {
        out.push_str(core::str::from_utf8(piece.text).unwrap());
        if piece.ends {
            out.push('|');
        }
    }

    #[test]
    fn characters_become_lines() {
        let (mut out, mut lines) = gather(b"hello\r\n\nworld\nrest");
        assert_eq!(out, "hello||world|");
        assert_eq!(lines.waiting_since(), Some(14));
        lines.flush(|piece| show(&mut out, piece));
        assert_eq!(out, "hello||world|rest");
        assert_eq!(lines.waiting_since(), None);
        lines.flush(|_| panic!("nothing is left"));
        lines.push(b'\n', 0, |piece| show(&mut out, piece));
        assert_eq!(out, "hello||world|rest|");
    }

    #[test]
    fn a_line_without_end_is_broken() {
        let (out, _) = gather(&[b'x'; 2 * LENGTH + 1]);
        assert_eq!(out, format!("{0}|{0}|", "x".repeat(LENGTH)));
    }
}
