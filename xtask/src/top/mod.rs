//! `cargo xtask top`: what the hypervisor does, on the terminal, while it does it.
//!
//! The loop of [`run`] owns QEMU; this owns the terminal, and looks at the keys and draws whenever the
//! loop comes by. The terminal is put right when the session is dropped, and by ratatui's hook if there
//! is a panic.

mod keys;
mod map;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal, PipeWriter, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType};
use trace::stream::{Piece, Splitter};

use crate::boot::{self, Prepared, Purpose};
use crate::cli::QemuOptions;
use crate::interrupt;
use crate::run::{Outcome, Screen, run};
use crate::symbols::Symbols;
use crate::terminal::Terminal;
use crate::trace::Recorder;
use keys::Action;
use state::State;
use view::View;

/// How long a picture stays at least.
const PICTURE: Duration = Duration::from_millis(100);

/// Boots, and shows what happens until the user has seen enough. Returns the exit status.
///
/// # Errors
///
/// When there is no terminal, set-up or the build fails, or QEMU cannot be run.
pub fn top(options: &QemuOptions) -> Result<u8> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!(
            "`top` draws on a terminal, and this is none; `cargo xtask qemu --trace FILE` records"
        );
    }
    let mut prepared = boot::prepare(options, Purpose::Top)?;
    let recording = prepared.record()?;
    let Prepared {
        command, images, ..
    } = prepared;
    let symbols = Symbols::open(&images.hypervisor.elf)?;
    let timeout = options.timeout.map(Duration::from_secs);
    watch(command, timeout, Some(&symbols), recording)
}

/// Runs `command` and shows what its console tells.
fn watch(
    command: Command,
    timeout: Option<Duration>,
    symbols: Option<&Symbols>,
    recording: Option<Recorder>,
) -> Result<u8> {
    let (reader, writer) = io::pipe().context("could not make a pipe for the keys")?;
    let mut top = Top::new(Session::new()?, writer, recording);
    let outcome = run(
        command,
        timeout,
        symbols,
        &Terminal::Piped(reader),
        &mut top,
    );
    if let Ok(outcome) = &outcome
        && !matches!(outcome, Outcome::Left | Outcome::Interrupted)
    {
        top.stay(outcome);
    }
    let words = top.last_words();
    let recording = top.recording.take();
    drop(top);
    let outcome = outcome?;
    eprint!("{words}");
    eprintln!("{:>12}: {outcome}", "Ended");
    let recorded = recording.map(Recorder::end).transpose();
    boot::status(&outcome, recorded.map(drop))
}

/// The terminal while it is drawn on.
struct Session(DefaultTerminal);

impl Session {
    fn new() -> Result<Self> {
        let terminal = ratatui::try_init().context("could not draw on this terminal")?;
        let session = Self(terminal);
        // Not every terminal has a second screen that is empty.
        execute!(io::stdout(), Clear(ClearType::All)).context("could not clear the terminal")?;
        Ok(session)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

struct Top {
    session: Session,
    state: State,
    /// What is shown while the picture is paused.
    frozen: Option<State>,
    view: View,
    splitter: Splitter,
    /// What the guest gets typed.
    keys: PipeWriter,
    /// Where all that comes is kept.
    recording: Option<Recorder>,
    start: Instant,
    drawn: Option<Instant>,
}

impl Top {
    fn new(session: Session, keys: PipeWriter, recording: Option<Recorder>) -> Self {
        Self {
            session,
            state: State::default(),
            frozen: None,
            view: View::default(),
            splitter: Splitter::new(),
            keys,
            recording,
            start: Instant::now(),
            drawn: None,
        }
    }

    /// Shows the last picture until the user leaves.
    fn stay(&mut self, outcome: &Outcome) {
        self.state.end = Some(format!("ended: {outcome}"));
        self.frozen = None;
        self.view.typing = false;
        self.drawn = None;
        while self.tick() && !interrupt::raised() {
            // An error of the terminal comes out of the next tick, too.
            let _ = event::poll(PICTURE);
        }
    }

    /// The console's last lines, for after the terminal has been put right.
    fn last_words(&self) -> String {
        let lines = &self.state.console;
        let last = lines.range(lines.len().saturating_sub(8)..);
        last.map(|line| format!("{line}\n")).collect()
    }

    /// Does what the keys that were pressed say. Returns whether the user stays.
    fn read_keys(&mut self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) => match keys::action(key, self.view.typing) {
                    Action::Quit => return Ok(false),
                    Action::NextVm => self.view.vm += 1,
                    Action::Pause => self.pause(),
                    Action::Type => self.view.typing = self.state.end.is_none(),
                    Action::StopTyping => self.view.typing = false,
                    // Where QEMU has ended, nobody reads it.
                    Action::Send(bytes) => drop(self.keys.write_all(&bytes)),
                    Action::Nothing => continue,
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            self.drawn = None;
        }
        Ok(true)
    }

    fn pause(&mut self) {
        self.view.paused = !self.view.paused;
        self.frozen = self.view.paused.then(|| self.state.clone());
    }

    fn draw(&mut self) -> io::Result<()> {
        self.drawn = Some(Instant::now());
        let state = self.frozen.as_ref().unwrap_or(&self.state);
        let view = &self.view;
        self.session
            .0
            .draw(|frame| view::draw(frame, state, view))?;
        Ok(())
    }
}

impl Screen for Top {
    fn line(&mut self, line: &str) {
        self.state.line(line);
    }

    fn raw(&mut self, bytes: &[u8]) {
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
        let recording = self.recording.as_mut();
        if let Some(said) = recording.and_then(|recording| recording.add(bytes)) {
            self.state.line(&said);
        }
    }

    fn partial(&mut self, start: &str) {
        start.clone_into(&mut self.state.partial);
    }

    /// Without its terminal there is nothing left to do.
    fn tick(&mut self) -> bool {
        if self.state.end.is_none() {
            self.state.sample(self.start.elapsed());
        }
        let stays = self.read_keys().unwrap_or(false);
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= PICTURE);
        stays && (!is_due || self.draw().is_ok())
    }
}
