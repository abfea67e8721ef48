//! `cargo xtask top`: what the hypervisor does, on the terminal, while it does it.
//!
//! The loop of [`run`] owns QEMU; this owns the terminal, and looks at the keys and draws whenever
//! the loop comes by. The terminal is put right when the session is dropped, and by ratatui's hook
//! if there is a panic.

#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::io::{self, IsTerminal, PipeWriter, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType};
use trace_tools::Recorder;
use trace_tools::top::{Asked, Picture};

use crate::boot::{self, Prepared, Purpose};
use crate::cli::QemuOptions;
use crate::interrupt;
use crate::run::{Outcome, Screen, run};
use crate::symbols::Symbols;
use crate::terminal::Terminal;

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
    let words = top.picture.last_words();
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
    picture: Picture,
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
            picture: Picture::default(),
            keys,
            recording,
            start: Instant::now(),
            drawn: None,
        }
    }

    /// Shows the last picture until the user leaves.
    fn stay(&mut self, outcome: &Outcome) {
        self.picture.end(&outcome.to_string());
        self.drawn = None;
        while self.tick() && !interrupt::raised() {
            // An error of the terminal comes out of the next tick, too.
            let _ = event::poll(PICTURE);
        }
    }

    /// Does what the keys that were pressed say. Returns whether the user stays.
    fn read_keys(&mut self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) => match self.picture.press(key) {
                    Asked::Quit => return Ok(false),
                    // A QEMU that has ended reads nothing.
                    Asked::Send(bytes) => drop(self.keys.write_all(&bytes)),
                    Asked::Draw => {}
                    Asked::Nothing => continue,
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            self.drawn = None;
        }
        Ok(true)
    }

    fn draw(&mut self) -> io::Result<()> {
        self.drawn = Some(Instant::now());
        let picture = &self.picture;
        self.session.0.draw(|frame| picture.draw(frame))?;
        Ok(())
    }
}

impl Screen for Top {
    fn line(&mut self, line: &str) {
        self.picture.line(line);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.picture.feed(bytes);
        let recording = self.recording.as_mut();
        if let Some(said) = recording.and_then(|recording| recording.add(bytes)) {
            self.picture.line(&said);
        }
    }

    fn partial(&mut self, start: &str) {
        self.picture.partial(start);
    }

    /// Without its terminal there is nothing left to do.
    fn tick(&mut self) -> bool {
        self.picture.sample(self.start.elapsed());
        let stays = self.read_keys().unwrap_or(false);
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= PICTURE);
        stays && (!is_due || self.draw().is_ok())
    }
}
