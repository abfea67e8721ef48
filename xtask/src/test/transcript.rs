//! The tests of a command, read from what it prints: in the format of Rust's test harness, which
//! `libtest-mimic` prints, too.

use serde::Serialize;

use super::count::Count;

/// One test that has run or was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Case {
    /// The binary that holds it.
    pub(super) suite: String,
    /// Its name there.
    pub(super) name: String,
    /// How it ended.
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// The suite of commands that are tests by themselves, or failed without a failed test.
pub(super) const COMMANDS: &str = "commands";

/// Stands for the tests of a binary that crashed, or ended itself, while they ran.
const ENDED_EARLY: &str = "the binary ended before its tests";

impl Case {
    /// Whether it is one test, which can be run by its name. A command is none, nor is a binary
    /// that ended before its tests.
    pub(super) fn is_test(&self) -> bool {
        self.suite != COMMANDS && self.name != ENDED_EARLY
    }
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "text")]
pub(super) enum Outcome {
    /// It passed.
    Passed,
    /// It failed, was run again, and passed; what was said of that.
    Flaky(String),
    /// It failed; what it printed.
    Failed(String),
    /// It did not run; why, where that is known.
    Skipped(String),
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    /// How many tests there were, by the harnesses' sums.
    pub(super) count: Count,
    /// The tests that were named.
    pub(super) cases: Vec<Case>,
    /// The binary that is running.
    suite: String,
    /// Its tests, until it has summed them up.
    running: Option<Running>,
    /// The failed test whose output is being read, by its place in `cases`.
    failed: Option<usize>,
}

/// The tests of a binary that has not summed them up yet.
#[derive(Debug)]
struct Running {
    /// The place in `cases` of its first one.
    first: usize,
    /// What it printed that is no test's result.
    said: String,
}

impl Transcript {
    /// Nothing read yet; tests belong to `suite` until cargo names a binary.
    pub(super) fn new(suite: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            ..Self::default()
        }
    }

    /// Reads a line.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(count) = test_result(line) {
            self.count += count;
            self.failed = None;
            self.running = None;
        } else if let Some(suite) = suite(line) {
            self.end_early();
            self.suite = suite;
            self.failed = None;
        } else if is_begin(line) && self.running.is_none() {
            self.running = Some(Running {
                first: self.cases.len(),
                said: String::new(),
            });
        } else if let Some(name) = heading(line) {
            self.failed = self.place(name);
        } else if line == "failures:" {
            self.failed = None;
        } else if let Some((name, outcome)) = result(line) {
            self.cases.push(Case {
                suite: self.suite.clone(),
                name: name.to_owned(),
                outcome,
            });
        } else if let Some((name, said)) = flaky(line) {
            if let Some(place) = self.place(name) {
                self.cases[place].outcome = Outcome::Flaky(said.to_owned());
                self.count.flaky += 1;
            }
        } else if let Some(place) = self.failed
            && let Outcome::Failed(text) = &mut self.cases[place].outcome
        {
            text.push_str(line);
            text.push('\n');
        } else if let Some(running) = &mut self.running {
            running.said.push_str(line);
            running.said.push('\n');
        }
    }

    /// The command has ended by itself: a binary that has not summed up its tests by now never
    /// will.
    pub(super) fn end(&mut self) {
        self.end_early();
    }

    /// Counts the tests of a binary that ended before it summed them up, and its end as a failure.
    fn end_early(&mut self) {
        let Some(Running { first, said }) = self.running.take() else {
            return;
        };
        self.cases.push(Case {
            suite: self.suite.clone(),
            name: ENDED_EARLY.to_owned(),
            outcome: Outcome::Failed(said),
        });
        for case in &self.cases[first..] {
            let counted = match case.outcome {
                Outcome::Passed | Outcome::Flaky(_) => &mut self.count.passed,
                Outcome::Failed(_) => &mut self.count.failed,
                Outcome::Skipped(_) => &mut self.count.skipped,
            };
            *counted += 1;
        }
    }

    /// Where the latest test of the running binary with this name is.
    fn place(&self, name: &str) -> Option<usize> {
        let is_it = |case: &Case| case.suite == self.suite && case.name == name;
        self.cases.iter().rposition(is_it)
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

/// Whether a binary begins its tests with this line: `running 3 tests`.
fn is_begin(line: &str) -> bool {
    let number = line
        .strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or(rest.strip_suffix(" test")));
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// The binary in cargo's lines `Running unittests src/lib.rs
/// (target/debug/deps/arch-0123456789abcdef)` and `Doc-tests arch`.
fn suite(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} (documentation)"));
    }
    let path = line.strip_prefix("Running ")?.strip_suffix(')')?;
    let (_, path) = path.rsplit_once('(')?;
    let file = path.rsplit('/').next()?;
    // What follows is cargo's hash.
    Some(file.rsplit_once('-')?.0.to_owned())
}

/// The test in the line `---- NAME stdout ----`, below which follows what a failed test printed.
fn heading(line: &str) -> Option<&str> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(name.strip_suffix(" stdout").unwrap_or(name))
}

/// The test and its end in a line such as `test a::b ... ok`.
fn result(line: &str) -> Option<(&str, Outcome)> {
    let (name, end) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name.trim_end();
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    let outcome = match end.split_once(", ") {
        None if end == "ok" => Outcome::Passed,
        None if end == "FAILED" => Outcome::Failed(String::new()),
        None if end == "ignored" => Outcome::Skipped(String::new()),
        Some(("ignored", reason)) => Outcome::Skipped(reason.to_owned()),
        _ => return None,
    };
    Some((name, outcome))
}

/// The test in a line such as `flaky: NAME: passed in try 2: REASON`, which our boot tests print.
fn flaky(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("flaky: ")?.split_once(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Transcript {
        let mut transcript = Transcript::new("boot");
        text.lines().for_each(|line| transcript.read(line));
        transcript
    }

    fn case(suite: &str, name: &str, outcome: Outcome) -> Case {
        Case {
            suite: suite.to_owned(),
            name: name.to_owned(),
            outcome,
        }
    }

    #[test]
    fn results_are_read() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 4 filtered out; \
                    finished in 0.00s";
        let expected = Count {
            passed: 12,
            skipped: 3,
            ..Count::default()
        };
        assert_eq!(test_result(line), Some(expected));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        let expected = Count {
            passed: 1,
            failed: 2,
            ..Count::default()
        };
        assert_eq!(test_result(line), Some(expected));
        assert_eq!(test_result("test result: ok."), None);
        assert_eq!(test_result("test a::b ... ok"), None);
    }

    #[test]
    fn tests_belong_to_the_binary_that_runs() {
        let text =
            "     Running unittests src/lib.rs (target/test/debug/deps/arch-d2aaa9dd4ef27e7b)
test a::b ... ok
test a::b ... but a line that a test prints
test long - should panic ... ok
test c ... ignored, needs a browser
   Doc-tests page_table
test src/lib.rs - walk (line 3) ... ok
";
        let expected = [
            case("arch", "a::b", Outcome::Passed),
            case("arch", "long", Outcome::Passed),
            case("arch", "c", Outcome::Skipped("needs a browser".to_owned())),
            case(
                "page_table (documentation)",
                "src/lib.rs - walk (line 3)",
                Outcome::Passed,
            ),
        ];
        assert_eq!(read(text).cases, expected);
    }

    #[test]
    fn a_failed_test_has_what_it_printed() {
        let text = "test a ... FAILED
test b        ... FAILED

failures:

---- a stdout ----
assertion failed: x
---- b ----
no line matches

failures:
    a
    b

test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out
error: test failed
";
        let read = read(text);
        let failed = |text: &str| Outcome::Failed(text.to_owned());
        let expected = [
            case("boot", "a", failed("assertion failed: x\n")),
            case("boot", "b", failed("no line matches\n\n")),
        ];
        assert_eq!(read.cases, expected);
        assert_eq!(read.count.failed, 2);
    }

    #[test]
    fn a_binary_that_ends_before_its_tests_has_failed() {
        let text = "     Running tests/main.rs (target/test/debug/deps/tables-d2aaa9dd4ef27e7b)

running 3 tests
test a ... ok
in a thread of b: lost
";
        let next = "     Running tests/next.rs (target/test/debug/deps/next-d2aaa9dd4ef27e7b)

running 1 test
test c ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
error: 1 target failed:
";
        let expected = [
            case("tables", "a", Outcome::Passed),
            case(
                "tables",
                ENDED_EARLY,
                Outcome::Failed("in a thread of b: lost\n".to_owned()),
            ),
            case("next", "c", Outcome::Passed),
        ];
        let mut both = read(&format!("{text}{next}"));
        both.end();
        assert_eq!(both.cases, expected);
        assert_eq!((both.count.passed, both.count.failed), (2, 1));

        let mut last = read(text);
        assert_eq!(last.count, Count::default());
        last.end();
        assert_eq!(last.cases, expected[..2]);
        assert_eq!((last.count.passed, last.count.failed), (1, 1));
        assert!(!last.cases[1].is_test() && last.cases[0].is_test());
    }

    #[test]
    fn a_retry_is_counted() {
        let text = "test a ... ok\ntest b ... ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
flaky: b: passed in try 2: the host's clock
flaky: c: is none of these tests
";
        let read = read(text);
        assert_eq!(read.count.flaky, 1);
        let said = "passed in try 2: the host's clock".to_owned();
        assert_eq!(read.cases[0].outcome, Outcome::Passed);
        assert_eq!(read.cases[1].outcome, Outcome::Flaky(said));
    }
}
