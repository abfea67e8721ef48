//! One run of QEMU: its console watched as it comes, and every way it can end.
//!
//! The watching loop owns the child. A reader thread passes bytes on and ends with the pipe.

use std::io;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::child::{Child, Reach, pump};
use crate::console::{Joiner, LineReader, Mark, Verdict, Watcher};
use crate::interrupt;
use crate::qemu;
use crate::symbols::Symbols;
use crate::terminal::Terminal;
use trace::stream::{Piece, Splitter};

/// How long the loop sleeps at most before it looks at clocks and signals.
const TICK: Duration = Duration::from_millis(50);

/// How long QEMU may take to end after the hypervisor's last word.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long QEMU may take to end after its end of the console is closed.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The hypervisor came to its end.
    Ended(Verdict),
    /// It took longer than the time-out.
    TimedOut,
    /// Ctrl-C, or a signal that asks to end.
    Interrupted,
    /// The user has left the display.
    Left,
    /// QEMU ended with this error status before anything was on the console.
    Refused(ExitStatus),
    /// QEMU ended with this status, and the console says neither a verdict nor a power-off.
    BrokenOff(ExitStatus),
}

impl Outcome {
    /// The exit status of `cargo xtask qemu`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Ended(Verdict::Passed | Verdict::Silent) | Self::Left => 0,
            Self::Ended(Verdict::Failed(_)) | Self::BrokenOff(_) => 1,
            Self::Refused(_) => 2,
            Self::TimedOut => 3,
            Self::Ended(Verdict::Panicked) => 4,
            Self::Interrupted => interrupt::EXIT_STATUS,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(Verdict::Passed) => write!(f, "passed"),
            Self::Ended(Verdict::Silent) => write!(f, "powered off without a verdict"),
            Self::Ended(Verdict::Failed(reason)) => write!(f, "failed: {reason}"),
            Self::Ended(Verdict::Panicked) => write!(f, "the hypervisor panicked"),
            Self::TimedOut => write!(f, "timed out"),
            Self::Interrupted => write!(f, "interrupted"),
            Self::Left => write!(f, "left while it ran"),
            Self::Refused(status) => write!(f, "QEMU refused to start ({status})"),
            Self::BrokenOff(status) => {
                write!(f, "QEMU ended ({status}) without a verdict or a power-off")
            }
        }
    }
}

/// Where the console goes.
pub trait Screen {
    /// A line as it stands on the console, without its line end.
    fn line(&mut self, line: &str);

    /// A line as the hypervisor or a guest has said it: another one may have cut it on the console.
    fn said(&mut self, _line: &str) {}

    /// A line of QEMU's own messages.
    fn message(&mut self, line: &str) {
        self.line(line);
        self.said(line);
    }

    /// What QEMU's UART sent, as it came: lines, parts of them, frames of trace events.
    fn raw(&mut self, _bytes: &[u8]) {}

    /// The start of a line that has paused; the whole of it comes later through [`Screen::line`].
    fn partial(&mut self, _start: &str) {}

    /// The same as it was said so far; the whole of it comes later through [`Screen::said`].
    fn saying(&mut self, _start: &str) {}

    /// Called at least every 50 ms. Returns whether to go on; if not, QEMU is ended.
    fn tick(&mut self) -> bool {
        true
    }
}

/// Runs QEMU until it ends, is interrupted or `timeout` has passed, and shows its console and its
/// own messages on `screen`, back traces with the names from `symbols`.
///
/// # Errors
///
/// When QEMU cannot be started or waited for. What QEMU itself reports is an [`Outcome`].
pub fn run(
    mut command: Command,
    timeout: Option<Duration>,
    symbols: Option<&Symbols>,
    terminal: &Terminal,
    screen: &mut dyn Screen,
) -> Result<Outcome> {
    let (console, stdout) = io::pipe().context("could not make a pipe for the console")?;
    let (messages, stderr) = io::pipe().context("could not make a pipe for QEMU's messages")?;
    command
        .stdin(terminal.input())
        .stdout(stdout)
        .stderr(stderr);
    let child = Child::spawn(&mut command, Reach::Child)
        .with_context(|| format!("could not start {}", qemu::program().display()))?;
    // The command holds the pipes' other ends, and its end is the end of the console.
    drop(command);
    let mut run = Run {
        child,
        watcher: Watcher::default(),
        reader: LineReader::default(),
        joiner: Joiner::default(),
        splitter: Splitter::new(),
        messages: Messages {
            bytes: pump(messages),
            reader: LineReader::default(),
        },
        symbols,
        screen,
    };
    let (cut, bytes) = run.watch(pump(console), timeout)?;
    run.close(cut, &bytes)
}

struct Run<'a> {
    child: Child,
    watcher: Watcher,
    reader: LineReader,
    joiner: Joiner,
    splitter: Splitter,
    messages: Messages,
    symbols: Option<&'a Symbols>,
    screen: &'a mut dyn Screen,
}

/// QEMU's standard error.
struct Messages {
    bytes: Receiver<Vec<u8>>,
    reader: LineReader,
}

impl Messages {
    /// Hands the lines that have come to `screen`; where QEMU has ended, all that there are.
    fn show(&mut self, screen: &mut dyn Screen, ended: bool) {
        let patience = if ended { TICK } else { Duration::ZERO };
        while let Ok(bytes) = self.bytes.recv_timeout(patience) {
            let lines = self.reader.feed(&bytes);
            lines.iter().for_each(|line| screen.message(line));
        }
        if ended && let Some(line) = self.reader.finish() {
            screen.message(&line);
        }
    }
}

impl Run<'_> {
    /// Shows the console until it ends, or until the run has to be cut short, and tells why.
    fn watch(
        &mut self,
        bytes: Receiver<Vec<u8>>,
        timeout: Option<Duration>,
    ) -> Result<(Option<Outcome>, Receiver<Vec<u8>>)> {
        let start = Instant::now();
        let mut last_word: Option<Instant> = None;
        loop {
            match bytes.recv_timeout(TICK) {
                Ok(piece) => self.feed(&piece),
                Err(RecvTimeoutError::Timeout) => self.show_partial(),
                Err(RecvTimeoutError::Disconnected) => return Ok((None, bytes)),
            }
            self.messages.show(self.screen, false);
            if interrupt::raised() {
                return Ok((Some(Outcome::Interrupted), bytes));
            }
            if !self.screen.tick() {
                return Ok((Some(Outcome::Left), bytes));
            }
            if self.watcher.ended() {
                let since = last_word.get_or_insert_with(Instant::now);
                if since.elapsed() > LAST_WORDS {
                    return Ok((None, bytes));
                }
            } else if timeout.is_some_and(|limit| start.elapsed() > limit) {
                return Ok((Some(Outcome::TimedOut), bytes));
            }
        }
    }

    /// Ends QEMU if it still runs, shows the rest of the console and judges.
    fn close(mut self, cut: Option<Outcome>, bytes: &Receiver<Vec<u8>>) -> Result<Outcome> {
        if cut.is_none() {
            self.child
                .wait(LAST_BREATH)
                .context("could not wait for QEMU")?;
        }
        let status = self.child.end().context("could not wait for QEMU")?;
        while let Ok(piece) = bytes.recv_timeout(TICK) {
            self.feed(&piece);
        }
        let mut rest = Vec::new();
        self.splitter.finish(|piece| rest.extend(text_of(piece)));
        self.read(&rest);
        if let Some(line) = self.reader.finish() {
            self.show(&line);
        }
        for line in self.joiner.finish() {
            self.said(&line);
        }
        self.messages.show(self.screen, true);
        // A Ctrl-C reaches QEMU too, which may end the console before the flag is seen.
        let cut = cut.or_else(|| interrupt::raised().then_some(Outcome::Interrupted));
        Ok(match (self.watcher.verdict(), cut) {
            (Some(Verdict::Panicked), _) => Outcome::Ended(Verdict::Panicked),
            (_, Some(cut)) => cut,
            (Some(verdict), None) => Outcome::Ended(verdict),
            (None, None) if status.success() || self.watcher.spoke() => Outcome::BrokenOff(status),
            (None, None) => Outcome::Refused(status),
        })
    }

    fn feed(&mut self, piece: &[u8]) {
        self.screen.raw(piece);
        let mut text = Vec::with_capacity(piece.len());
        for &byte in piece {
            self.splitter
                .feed(byte, |piece| text.extend(text_of(piece)));
        }
        self.read(&text);
    }

    /// Shows the lines that this text completes.
    fn read(&mut self, text: &[u8]) {
        for line in self.reader.feed(text) {
            self.show(&line);
        }
    }

    fn show(&mut self, line: &str) {
        self.screen.line(line);
        for line in self.joiner.feed(line) {
            self.said(&line);
        }
    }

    fn said(&mut self, line: &str) {
        self.screen.said(line);
        if let (Mark::Backtrace(address), Some(symbols)) = (self.watcher.line(line), self.symbols) {
            for name in symbols.describe(address) {
                let line = format!("      {name}");
                self.screen.line(&line);
                self.screen.said(&line);
            }
        }
    }

    fn show_partial(&mut self) {
        let partial = self.reader.partial();
        self.screen.partial(&partial);
        self.screen.saying(&self.joiner.partial(&partial));
    }
}

/// What of a piece is for people.
fn text_of(piece: Piece<'_>) -> Option<u8> {
    match piece {
        Piece::Text(byte) => Some(byte),
        Piece::Frame(_) | Piece::Unreadable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines {
        console: Vec<String>,
        said: Vec<String>,
        messages: Vec<String>,
    }

    impl Screen for Lines {
        fn line(&mut self, line: &str) {
            self.console.push(line.to_owned());
        }

        fn said(&mut self, line: &str) {
            self.said.push(line.to_owned());
        }

        fn message(&mut self, line: &str) {
            self.messages.push(line.to_owned());
        }
    }

    /// Runs a shell script in QEMU's place.
    fn stand_in(script: &str, timeout: Option<Duration>) -> (Outcome, Lines) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut lines = Lines::default();
        let outcome = run(command, timeout, None, &Terminal::None, &mut lines);
        (outcome.expect("a shell"), lines)
    }

    #[test]
    fn a_run_that_passes() {
        let (outcome, lines) = stand_in(
            "printf 'vm0| verdict: pas'; sleep 0.2; echo sed; echo 'tessera: off'",
            None,
        );
        assert_eq!(outcome, Outcome::Ended(Verdict::Passed));
        assert_eq!(lines.console, ["vm0| verdict: passed", "tessera: off"]);
        assert_eq!(lines.said, lines.console);
        assert_eq!(outcome.exit_code(), 0);
    }

    #[test]
    fn a_line_that_was_cut_is_judged_as_one() {
        let script = r"echo 'vm0| verd\'; echo 'vm1| verdict: passed'; echo 'vm0+ ict: failed: x'";
        let (outcome, lines) = stand_in(&format!("{script}; echo 'tessera: off'"), None);
        assert_eq!(outcome.to_string(), "failed: x");
        assert_eq!(lines.console.len(), 4);
        assert_eq!(lines.said[1], "vm0| verdict: failed: x");
    }

    #[test]
    fn frames_are_not_shown() {
        let script = "printf 'a\\033_tessera;AQID\\033\\\\b\\n'; echo 'tessera: off'";
        let (_, lines) = stand_in(script, None);
        assert_eq!(lines.console, ["ab", "tessera: off"]);
    }

    #[test]
    fn a_run_that_fails() {
        let (outcome, _) = stand_in("echo 'vm0| verdict: failed: x'; echo 'tessera: off'", None);
        assert_eq!(outcome.to_string(), "failed: x");
        assert_eq!(outcome.exit_code(), 1);
    }

    #[test]
    fn a_panic_is_shown_to_its_end_and_beats_the_time_out() {
        let script = "echo 'tessera: PANIC'; sleep 0.3; echo '  backtrace: 0x10'; exec sleep 600";
        let (outcome, lines) = stand_in(script, Some(Duration::from_millis(100)));
        assert_eq!(outcome.exit_code(), 4);
        assert_eq!(lines.console.len(), 2);
    }

    #[test]
    fn a_run_that_hangs_is_ended() {
        let start = Instant::now();
        let script = "echo 'vm0| verdict: passed'; printf half; exec sleep 600";
        let (outcome, lines) = stand_in(script, Some(Duration::from_millis(300)));
        assert_eq!(outcome, Outcome::TimedOut);
        assert_eq!(outcome.exit_code(), 3);
        assert_eq!(lines.console, ["vm0| verdict: passed", "half"]);
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_refusal_is_told_from_a_run_that_breaks_off() {
        let (refused, lines) = stand_in("echo 'qemu: no such CPU' >&2; exit 1", None);
        assert!(matches!(refused, Outcome::Refused(_)), "{refused}");
        assert_eq!(lines.messages, ["qemu: no such CPU"]);
        assert!(lines.console.is_empty(), "{:?}", lines.console);
        assert_eq!(refused.exit_code(), 2);
        let (broken, _) = stand_in("echo '[    0.1] cpu0 INFO  boot: hi'; kill -9 $$", None);
        assert!(matches!(broken, Outcome::BrokenOff(_)), "{broken}");
        assert_eq!(broken.exit_code(), 1);
        let (quit, _) = stand_in("exit 0", None);
        assert!(matches!(quit, Outcome::BrokenOff(_)), "{quit}");
    }
}
