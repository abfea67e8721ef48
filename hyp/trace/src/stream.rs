//! A console's bytes, told apart: frames, and the text between them.
//!
//! The splitter takes bytes one at a time and keeps no more than one frame. A frame that is broken,
//! cut or too long loses itself: what comes behind it is text, or the next frame. Text, too, are
//! the marks that `cargo xtask qemu --trace` puts round a recording: `ESC _ tessera-recording;`,
//! pairs of names and values as JSON, `ESC \` before it, and `ESC _ tessera-recording-ends ESC \`
//! behind one that is whole.

use crate::frame::{BEGIN, END, Frame, LONGEST_TEXT, Room, Unreadable};

/// What a byte completed.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A byte of the text between frames.
    Text(u8),
    /// A whole frame.
    Frame(Frame<'a>),
    /// The end of a frame that cannot be read.
    Unreadable(Unreadable),
}

/// Where in the stream the splitter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In text, so many bytes of [`BEGIN`] having come.
    Text(usize),
    /// In a frame.
    Frame,
    /// In a frame, the first byte of [`END`] having come.
    Ending,
}

/// Tells frames from text.
pub struct Splitter {
    state: State,
    text: [u8; LONGEST_TEXT],
    length: usize,
    room: Room,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// At the start of a stream, which is taken for text.
    pub const fn new() -> Self {
        Self {
            state: State::Text(0),
            text: [0; LONGEST_TEXT],
            length: 0,
            room: Room::new(),
        }
    }

    /// Takes the next byte and hands what it completes to `sink`.
    pub fn feed(&mut self, byte: u8, mut sink: impl FnMut(Piece<'_>)) {
        match self.state {
            State::Text(matched) => self.in_text(byte, matched, sink),
            State::Frame if byte == END[0] => self.state = State::Ending,
            State::Frame if byte.is_ascii_graphic() && self.length < LONGEST_TEXT => {
                self.text[self.length] = byte;
                self.length += 1;
            }
            State::Ending if byte == END[1] => {
                self.state = State::Text(0);
                match Frame::parse(&self.text[..self.length], &mut self.room) {
                    Ok(frame) => sink(Piece::Frame(frame)),
                    Err(reason) => sink(Piece::Unreadable(reason)),
                }
            }
            State::Frame => {
                sink(Piece::Unreadable(Unreadable::Broken));
                self.in_text(byte, 0, sink);
            }
            // The ESC may have begun the next frame.
            State::Ending => {
                sink(Piece::Unreadable(Unreadable::Broken));
                self.in_text(byte, 1, sink);
            }
        }
    }

    /// Ends the stream: what was held back is text, or a frame that was cut.
    pub fn finish(&mut self, mut sink: impl FnMut(Piece<'_>)) {
        match self.state {
            State::Text(matched) => BEGIN[..matched].iter().for_each(|&b| sink(Piece::Text(b))),
            State::Frame | State::Ending => sink(Piece::Unreadable(Unreadable::Broken)),
        }
        self.state = State::Text(0);
    }

    /// Takes a byte of text behind the first `matched` bytes of [`BEGIN`].
    fn in_text(&mut self, byte: u8, matched: usize, mut sink: impl FnMut(Piece<'_>)) {
        let matched = if byte == BEGIN[matched] {
            matched + 1
        } else {
            BEGIN[..matched].iter().for_each(|&b| sink(Piece::Text(b)));
            if byte == BEGIN[0] {
                1
            } else {
                sink(Piece::Text(byte));
                0
            }
        };
        self.state = if matched == BEGIN.len() {
            self.length = 0;
            State::Frame
        } else {
            State::Text(matched)
        };
    }
}
