//! Gathering what a guest sends into lines, so that those of several guests and of the hypervisor
//! do not mix on the console.

/// Longer lines are handed out in pieces.
const LENGTH: usize = 256;

/// The line that a guest is at.
#[derive(Debug)]
pub struct Lines {
    /// What of the line has not been handed out.
    line: [u8; LENGTH],
    length: usize,
    since: u64,
    /// Whether some of the line has been handed out.
    begun: bool,
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
            begun: false,
        }
    }

    /// Adds a byte at the time `now`. A line that is complete by that, or for which there is no
    /// more room, is handed to `print`.
    pub fn push(&mut self, byte: u8, now: u64, print: impl FnOnce(Piece<'_>)) {
        match byte {
            b'\n' => return self.end(print),
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
            self.flush(print);
        }
    }

    /// Since when there has been something of a line that was not handed out, if there is.
    pub fn waiting_since(&self) -> Option<u64> {
        (self.length > 0).then_some(self.since)
    }

    /// Hands out what there is of a line that is not complete. The first bytes of a character stay,
    /// unless there is nothing else.
    pub fn flush(&mut self, print: impl FnOnce(Piece<'_>)) {
        if self.length == 0 {
            return;
        }
        let whole = match whole_characters(&self.line[..self.length]) {
            0 => self.length,
            whole => whole,
        };
        print(Piece {
            text: &self.line[..whole],
            ends: false,
        });
        self.begun = true;
        self.line.copy_within(whole..self.length, 0);
        self.length -= whole;
    }

    /// Ends a line that is not complete: nothing more comes of it.
    pub fn finish(&mut self, print: impl FnOnce(Piece<'_>)) {
        if self.begun || self.length > 0 {
            self.end(print);
        }
    }

    fn end(&mut self, print: impl FnOnce(Piece<'_>)) {
        print(Piece {
            text: &self.line[..self.length],
            ends: true,
        });
        self.length = 0;
        self.begun = false;
    }
}

/// How many bytes of `text` there are before a character of UTF-8 at its end that is not complete.
fn whole_characters(text: &[u8]) -> usize {
    let is_start = |byte: &u8| byte & 0xc0 != 0x80;
    let Some(start) = text.iter().rposition(is_start) else {
        return text.len();
    };
    let length = match text[start].leading_ones() {
        length @ 2..=4 => length as usize,
        _ => 1,
    };
    if start + length > text.len() {
        start
    } else {
        text.len()
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
    fn a_long_line_is_handed_out_in_pieces() {
        let (mut out, mut lines) = gather(&[b'x'; 2 * LENGTH + 1]);
        assert_eq!(out, "x".repeat(2 * LENGTH));
        lines.push(b'\n', 0, |piece| show(&mut out, piece));
        assert_eq!(out, format!("{}|", "x".repeat(2 * LENGTH + 1)));
    }

    #[test]
    fn characters_stay_whole() {
        for before in 0..4 {
            let text = "x".repeat(before) + &"\u{20ac}\u{1f642}\u{e9}".repeat(60);
            let (mut out, mut lines) = gather(text.as_bytes());
            lines.finish(|piece| show(&mut out, piece));
            assert_eq!(out, format!("{text}|"));
        }
        let (mut out, mut lines) = gather(b"a\xe2\x82");
        lines.flush(|piece| show(&mut out, piece));
        assert_eq!((&*out, lines.waiting_since()), ("a", Some(0)));
        lines.push(0xac, 9, |_| panic!("there is room"));
        lines.flush(|piece| show(&mut out, piece));
        assert_eq!((&*out, lines.waiting_since()), ("a\u{20ac}", None));
    }

    #[test]
    fn half_a_character_is_handed_out_in_the_end() {
        let (_, mut lines) = gather(b"\xe2\x82");
        let mut out = Vec::new();
        lines.flush(|piece| out.extend_from_slice(piece.text));
        assert_eq!((&*out, lines.waiting_since()), (&b"\xe2\x82"[..], None));
    }

    #[test]
    fn what_nobody_ends_is_ended() {
        let (mut out, mut lines) = gather(b"one\ntw");
        lines.flush(|piece| show(&mut out, piece));
        lines.finish(|piece| show(&mut out, piece));
        assert_eq!(out, "one|tw|");
        lines.finish(|_| panic!("it is ended"));
    }
}
