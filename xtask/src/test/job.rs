//! One command of a step: run with its output kept in a log, and its tests counted from it.

use std::io::{self, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::count::Count;
use super::progress::Progress;
use super::tail::Tail;
use super::transcript::{COMMANDS, Case, Outcome, Transcript};
use crate::child::{Child, Reach, pump};
use crate::console::LineReader;
use crate::{interrupt, shell};

/// How long what a command started may take to say its last words, once the command has been ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often clocks and signals are looked at.
const TICK: Duration = Duration::from_millis(100);

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
    /// What the test binaries that it runs are given, after `--`.
    pub(super) arguments: Vec<String>,
    /// Which tests they run: those whose name contains one of these, or all where there is none.
    pub(super) names: Vec<String>,
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
    /// The tests, each by its name.
    pub(super) cases: Vec<Case>,
    /// Why the command itself failed.
    pub(super) error: Option<String>,
    /// Whether it was cut short by Ctrl-C or the like, which is no failure.
    pub(super) interrupted: bool,
    /// The end of what it printed.
    pub(super) tail: Tail,
}

/// Why a command was not left to run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    TookTooLong,
    Interrupted,
}

impl Job {
    /// The names of its tests; of a command that is one test by itself, the command.
    pub(super) fn list(mut self) -> Result<Vec<String>> {
        if self.counts == Counts::One {
            return Ok(vec![shell::line(&self.command)]);
        }
        self.arguments
            .extend(["--list", "--format", "terse"].map(str::to_owned));
        self.complete();
        let words = shell::line(&self.command);
        let output = self
            .command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let output = output.with_context(|| format!("could not run `{words}`"))?;
        if !output.status.success() {
            bail!("`{words}` failed ({})", output.status);
        }
        Ok(listed(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Has it run the tests whose name contains one of these.
    pub(super) fn choose(&mut self, names: &[String]) {
        self.names = names.to_vec();
    }

    /// All that its test binaries are given.
    pub(super) fn all_arguments(&self) -> Vec<String> {
        [&self.arguments[..], &self.names].concat()
    }

    /// Gives the command the arguments of its test binaries.
    fn complete(&mut self) {
        let arguments = self.all_arguments();
        if !arguments.is_empty() {
            self.command.arg("--").args(arguments);
        }
    }

    /// Runs the command; what it prints goes to `log`, its last line to `progress`. Tests belong to
    /// `suite` where cargo names no binary.
    pub(super) fn run(
        mut self,
        suite: &str,
        log: &mut impl Write,
        progress: &Progress,
    ) -> Result<Ran> {
        self.complete();
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
        let (mut transcript, mut tail) = (Transcript::new(suite), Tail::default());
        let mut read = |piece: &[u8]| -> Result<()> {
            log.write_all(piece).context("could not write a log")?;
            for line in lines.feed(piece) {
                transcript.read(&line);
                progress.note(&line);
                tail.add(line);
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
        let ran = judge(counts, transcript, cut, status, &words, limit);
        Ok(Ran { tail, ..ran })
    }
}

fn judge(
    counts: Counts,
    mut transcript: Transcript,
    cut: Option<Cut>,
    status: ExitStatus,
    words: &str,
    limit: Duration,
) -> Ran {
    if cut.is_none() {
        transcript.end();
    }
    let (mut count, mut cases) = match counts {
        Counts::One => Default::default(),
        Counts::Tests => (transcript.count, transcript.cases),
    };
    let mut whole = |outcome| {
        cases.push(Case {
            suite: COMMANDS.to_owned(),
            name: words.to_owned(),
            outcome,
        });
    };
    let interrupted = cut == Some(Cut::Interrupted);
    let error = match cut {
        Some(Cut::TookTooLong) => Some(format!("`{words}` took longer than {} s", limit.as_secs())),
        Some(Cut::Interrupted) => None,
        None => (!status.success()).then(|| format!("`{words}` failed ({status})")),
    };
    match (&error, counts) {
        // A command can fail without a failed test, by not compiling for example.
        (Some(error), _) if count.failed == 0 => {
            count.failed = 1;
            whole(Outcome::Failed(error.clone()));
        }
        (None, Counts::One) if !interrupted => {
            count.passed = 1;
            whole(Outcome::Passed);
        }
        _ => {}
    }
    Ran {
        count,
        cases,
        error,
        interrupted,
        tail: Tail::default(),
    }
}

/// The tests named in what `--list --format terse` prints.
fn listed(text: &str) -> Vec<String> {
    let name = |line: &str| line.strip_suffix(": test").map(str::to_owned);
    text.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: usize, failed: usize, skipped: usize) -> Count {
        Count {
            passed,
            failed,
            skipped,
            flaky: 0,
        }
    }

    fn run(script: &str, counts: Counts, limit: Duration) -> (Ran, String) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let job = Job {
            command,
            arguments: Vec::new(),
            names: Vec::new(),
            counts,
            shows_itself: false,
            limit,
        };
        let mut log = Vec::new();
        let ran = job.run("sh", &mut log, &Progress::new(1)).expect("a shell");
        (ran, String::from_utf8(log).expect("text"))
    }

    const LONG: Duration = Duration::from_secs(60);

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
        let [case] = &broken.cases[..] else {
            panic!("{:?}", broken.cases);
        };
        let Outcome::Failed(text) = &case.outcome else {
            panic!("{case:?}");
        };
        assert!(case.name.starts_with("sh -c ") && text.contains("101"));
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
            let mut transcript = Transcript::default();
            transcript.count = count(2, 0, 1);
            judge(counts, transcript, cut, status, "words", LONG)
        };
        let tests = ended(Counts::Tests);
        assert_eq!((tests.count, tests.error), (count(2, 0, 1), None));
        let one = ended(Counts::One);
        assert_eq!((one.count, one.interrupted), (count(0, 0, 0), true));
    }

    #[test]
    fn tests_are_listed_with_the_arguments_of_their_binaries() {
        let list = |counts| {
            let mut command = Command::new("sh");
            // What follows `--` is not the shell's.
            command.args([
                "-c",
                "echo \"$2: test\"; echo \"$3: test\"; echo 'x: bench'",
            ]);
            let job = Job {
                command,
                arguments: Vec::new(),
                names: vec!["name".to_owned()],
                counts,
                shows_itself: false,
                limit: LONG,
            };
            job.list().expect("a shell")
        };
        assert_eq!(list(Counts::Tests), ["--format", "terse"]);
        assert!(matches!(&list(Counts::One)[..], [one] if one.starts_with("sh -c ")));
    }
}
