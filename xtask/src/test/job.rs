//! One command of a step: run with its output kept in a log, and its tests counted from it.

use std::io::{self, Write};
use std::ops::AddAssign;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::progress::Progress;
use crate::child::{Child, Reach, pump};
use crate::console::LineReader;
use crate::{interrupt, shell};

/// How long what a command started may take to say its last words, once the command has been ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often clocks and signals are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// What a command counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// For one test, which passes when the command succeeds.
    One,
    /// For the tests that it runs, by its `test result:` lines.
    Tests,
}

/// A command of a step.
#[derive(Debug)]
pub(super) struct Job {
    /// The command.
    pub(super) command: Command,
    /// What it counts for.
    pub(super) counts: Counts,
    /// Whether it shows its own progress on standard error.
    pub(super) shows_itself: bool,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// What came of a command.
#[derive(Debug)]
pub(super) struct Ran {
    /// The tests counted.
    pub(super) count: Count,
    /// Why the command itself failed.
    pub(super) error: Option<String>,
    /// Whether it was cut short by Ctrl-C or the like, which is no failure.
    pub(super) interrupted: bool,
}

/// Why a command was not left to run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    TookTooLong,
    Interrupted,
}

impl Job {
    /// Runs the command; what it prints goes to `log`, its last line to `progress`.
    pub(super) fn run(mut self, log: &mut impl Write, progress: &mut Progress) -> Result<Ran> {
        let words = shell::line(&self.command);
        writeln!(log, "$ {words}").context("could not write a log")?;
        let (reader, writer) = io::pipe().context("could not make a pipe")?;
        self.command.stdin(Stdio::null());
        if self.shows_itself {
            self.command.stderr(Stdio::inherit());
            progress.hide();
        } else {
            let writer = writer.try_clone().context("could not share a pipe")?;
            self.command.stderr(writer);
        }
        self.command.stdout(writer);
        let mut child = Child::spawn(&mut self.command, Reach::Group)
            .with_context(|| format!("could not run `{words}`"))?;
        let (counts, limit) = (self.counts, self.limit);
        // The command holds the pipe's other end, and its end is the end of the output.
        drop(self);

        let bytes = pump(reader);
        let mut lines = LineReader::default();
        let mut count = Count::default();
        let mut read = |piece: &[u8]| -> Result<()> {
            log.write_all(piece).context("could not write a log")?;
            for line in lines.feed(piece) {
                count += test_result(&line).unwrap_or_default();
                progress.note(&line);
            }
            Ok(())
        };
        let start = Instant::now();
        let cut = loop {
            match bytes.recv_timeout(TICK) {
                Ok(piece) => read(&piece)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if start.elapsed() > limit {
                break Some(Cut::TookTooLong);
            } else if interrupt::raised() {
                break Some(Cut::Interrupted);
            }
        };
        let status = match cut {
            Some(_) => child.end(),
            None => child.wait(limit).and_then(|_| child.end()),
        };
        let status = status.with_context(|| format!("could not wait for `{words}`"))?;
        let last_words = Instant::now();
        while cut.is_some() && last_words.elapsed() < LAST_WORDS {
            match bytes.recv_timeout(TICK) {
                Ok(piece) => read(&piece)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(judge(counts, count, cut, status, &words, limit))
    }
}

fn judge(
    counts: Counts,
    count: Count,
    cut: Option<Cut>,
    status: ExitStatus,
    words: &str,
    limit: Duration,
) -> Ran {
    let mut count = match counts {
        Counts::One => Count::default(),
        Counts::Tests => count,
    };
    let interrupted = cut == Some(Cut::Interrupted);
    let error = match cut {
        Some(Cut::TookTooLong) => Some(format!("`{words}` took longer than {} s", limit.as_secs())),
        Some(Cut::Interrupted) => None,
        None => (!status.success()).then(|| format!("`{words}` failed ({status})")),
    };
    match (&error, counts) {
        // A command can fail without a failed test, by not compiling for example.
        (Some(_), _) => count.failed = count.failed.max(1),
        (None, Counts::One) => count.passed += usize::from(!interrupted),
        (None, Counts::Tests) => {}
    }
    Ran {
        count,
        error,
        interrupted,
    }
}

/// The counts in a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`.
fn test_result(line: &str) -> Option<Count> {
    let mut count = Count::default();
    let (_, counts) = line
        .trim()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    for part in counts.split("; ") {
        let (number, what) = part.split_once(' ')?;
        let field = match what {
            "passed" => &mut count.passed,
            "failed" => &mut count.failed,
            "ignored" => &mut count.skipped,
            _ => continue,
        };
        *field = number.parse().ok()?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: usize, failed: usize, skipped: usize) -> Count {
        Count {
            passed,
            failed,
            skipped,
        }
    }

    fn run(script: &str, counts: Counts, limit: Duration) -> (Ran, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let job = Job {
            command,
            counts,
            shows_itself: false,
            limit,
        };
        let mut log = Vec::new();
        let ran = job.run(&mut log, &mut Progress::new(1)).expect("a shell");
        (ran, String::from_utf8(log).expect("text"))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn results_are_read() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 4 filtered out; \
                    finished in 0.00s";
        assert_eq!(test_result(line), Some(count(12, 0, 3)));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(test_result(line), Some(count(1, 2, 0)));
        assert_eq!(test_result("test result: ok."), None);
        assert_eq!(test_result("test a::b ... ok"), None);
    }

    #[test]
    fn tests_are_summed_up() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored';
                      echo 'test result: ok. 3 passed; 0 failed; 0 ignored' >&2";
        let (ran, log) = run(script, Counts::Tests, LONG);
        assert_eq!((ran.count, ran.error), (count(5, 0, 1), None));
        assert!(
            log.starts_with("$ sh -c ") && log.contains("3 passed"),
            "{log}"
        );
        assert_eq!(run("exit 0", Counts::One, LONG).0.count, count(1, 0, 0));
    }

    #[test]
    fn a_failure_counts_once() {
        let failed = "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; exit 101";
        assert_eq!(run(failed, Counts::Tests, LONG).0.count, count(2, 1, 0));
        let (broken, _) = run("echo 'error: syntax'; exit 101", Counts::Tests, LONG);
        assert_eq!(broken.count, count(0, 1, 0));
        assert!(broken.error.is_some_and(|error| error.contains("101")));
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let start = Instant::now();
        let (ran, _) = run("sleep 600", Counts::One, Duration::from_millis(200));
        assert_eq!(ran.count, count(0, 1, 0));
        assert!(ran.error.is_some_and(|error| error.contains("longer")));
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn what_is_interrupted_has_not_failed() {
        let status = Command::new("false").status().expect("a program");
        let ended = |counts| {
            let cut = Some(Cut::Interrupted);
            judge(counts, count(2, 0, 1), cut, status, "words", LONG)
        };
        let tests = ended(Counts::Tests);
        assert_eq!((tests.count, tests.error), (count(2, 0, 1), None));
        let one = ended(Counts::One);
        assert_eq!((one.count, one.interrupted), (count(0, 0, 0), true));
    }
}
