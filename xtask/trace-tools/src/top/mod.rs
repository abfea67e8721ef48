//! The picture that `cargo xtask top` draws: what the hypervisor does, made of what comes over its
//! console.
//!
//! [`Picture`] takes in the console and the keys that are pressed, and draws itself. Who uses it
//! owns the terminal, and QEMU.

mod keys;
mod map;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::KeyEvent;
use trace::stream::{Piece, Splitter};

use keys::Action;
use state::State;
use view::View;

/// How many lines of the console outlive the picture.
const LAST_LINES: usize = 8;

/// What a key that was pressed asks of the picture's owner.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// To end.
    Quit,
    /// To type these bytes to the guest.
    Send(Vec<u8>),
    /// To draw anew.
    Draw,
    /// Nothing.
    Nothing,
}

/// What is shown, and how.
#[derive(Default)]
pub struct Picture {
    state: State,
    /// What is shown while the picture is paused.
    frozen: Option<State>,
    view: View,
    splitter: Splitter,
}

impl Picture {
    /// A line of the console is complete.
    pub fn line(&mut self, line: &str) {
        self.state.line(line);
    }

    /// The console's last line has grown to this.
    pub fn partial(&mut self, start: &str) {
        start.clone_into(&mut self.state.partial);
    }

    /// Takes in the console as it comes, for the trace events in it.
    pub fn feed(&mut self, bytes: &[u8]) {
        let state = &mut self.state;
        for &byte in bytes {
            self.splitter.feed(byte, |piece| {
                if let Piece::Frame(frame) = piece {
                    let header = frame.header();
                    state.frequency(header.frequency);
                    let records = frame.inspect(|record| state.event(record)).count();
                    state.arrived(&header, records as u64);
                }
            });
        }
    }

    /// It is this long since the start: rates are taken, until the run has ended.
    pub fn sample(&mut self, elapsed: Duration) {
        if self.state.end.is_none() {
            self.state.sample(elapsed);
        }
    }

    /// The run has ended, like this. From here on nothing moves and nobody types.
    pub fn end(&mut self, how: &str) {
        self.state.end = Some(format!("ended: {how}"));
        self.frozen = None;
        self.view.typing = false;
    }

    /// Does what a key says.
    pub fn press(&mut self, key: KeyEvent) -> Asked {
        match keys::action(key, self.view.typing) {
            Action::Quit => return Asked::Quit,
            Action::NextVm => self.view.vm += 1,
            Action::Pause => {
                self.view.paused = !self.view.paused;
                self.frozen = self.view.paused.then(|| self.state.clone());
            }
            Action::Type => self.view.typing = self.state.end.is_none(),
            Action::StopTyping => self.view.typing = false,
            Action::Send(bytes) => return Asked::Send(bytes),
            Action::Nothing => return Asked::Nothing,
        }
        Asked::Draw
    }

    /// Draws it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let state = self.frozen.as_ref().unwrap_or(&self.state);
        view::draw(frame, state, &self.view);
    }

    /// The console's last lines, for after the terminal has been put right.
    pub fn last_words(&self) -> String {
        let lines = &self.state.console;
        let last = lines.range(lines.len().saturating_sub(LAST_LINES)..);
        last.map(|line| format!("{line}\n")).collect()
    }
}
