//! The sum of all steps: a table, and the line that machines read.

use std::fmt;

use serde::Serialize;

use super::count::Count;
use super::steps::StepName;
use super::took::Took;
use super::transcript::{Case, Outcome};
use crate::shell;

/// A step that has ended.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: StepName,
    #[serde(flatten)]
    count: Count,
    /// How long it took.
    #[serde(flatten)]
    pub(super) took: Took,
    /// Whether it was cut short.
    interrupted: bool,
    /// Why it was left out, where it was.
    #[serde(rename = "reason")]
    pub(super) skipped: Option<String>,
    /// Its tests, as far as they were named.
    #[serde(rename = "tests")]
    pub(super) cases: Vec<Case>,
}

impl Row {
    /// A step that ran.
    pub(super) fn ran(name: StepName, count: Count, cases: Vec<Case>, took: Took) -> Self {
        Self {
            name,
            count,
            took,
            interrupted: false,
            skipped: None,
            cases,
        }
    }

    /// A step that was cut short.
    pub(super) fn interrupted(self) -> Self {
        Self {
            interrupted: true,
            ..self
        }
    }

    /// A step that was left out, for this reason. It counts as one skipped test.
    pub(super) fn skipped(name: StepName, reason: String) -> Self {
        let count = Count {
            skipped: 1,
            ..Count::default()
        };
        Self {
            skipped: Some(reason),
            ..Self::ran(name, count, Vec::new(), Took::default())
        }
    }

    /// How to run the failed tests again: a command for each, or one for the step where tests of it
    /// cannot be chosen. None where nothing failed.
    pub(super) fn again(&self) -> Vec<String> {
        let step = format!("cargo xtask test --only {}", self.name);
        if self.count.failed == 0 {
            Vec::new()
        } else if !self.name.has_named_tests() || !self.failed().all(|(case, _)| case.is_test()) {
            vec![step]
        } else {
            let name = |case: &Case| shell::quoted(&case.name);
            self.failed()
                .map(|(case, _)| format!("{step} {}", name(case)))
                .collect()
        }
    }

    /// The failed tests, and what each printed.
    fn failed(&self) -> impl Iterator<Item = (&Case, &str)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(text) => Some((case, &text[..])),
            _ => None,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.count.failed {
            0 if self.interrupted => "interrupted",
            0 => "ok",
            _ => "FAILED",
        };
        write!(f, "{}: {verdict}, {}, {}", self.name, self.count, self.took)
    }
}

/// All steps that have ended.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    steps: Vec<Row>,
    /// The sum of their counts.
    #[serde(flatten)]
    total: Count,
}

impl Summary {
    /// Adds a step.
    pub(super) fn add(&mut self, row: Row) {
        self.total += row.count;
        self.steps.push(row);
    }

    /// The steps, in the order in which they ended.
    pub(super) fn rows(&self) -> &[Row] {
        &self.steps
    }

    /// Whether no test ran, and none was left out.
    pub(super) fn is_empty(&self) -> bool {
        self.total.is_empty()
    }

    /// Whether anything failed.
    pub(super) fn failed(&self) -> bool {
        self.total.failed > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nstep     passed  failed  skipped      time       CPU")?;
        for Row {
            name,
            count,
            took,
            interrupted,
            skipped,
            ..
        } in &self.steps
        {
            let Count {
                passed,
                failed,
                skipped: left_out,
                ..
            } = count;
            let name = name.to_string();
            write!(f, "{name:<8} {passed:>6}  {failed:>6}  {left_out:>7}  ")?;
            match skipped {
                Some(reason) => writeln!(f, "{:>8}  {reason}", "-")?,
                None => {
                    let note = if *interrupted { "  interrupted" } else { "" };
                    let (elapsed, cpu) = (took.elapsed.as_secs_f64(), took.cpu.as_secs_f64());
                    writeln!(f, "{elapsed:>6.1} s  {cpu:>6.1} s{note}")?;
                }
            }
        }
        for row in &self.steps {
            for (case, text) in row.failed() {
                let Case { suite, name, .. } = case;
                write!(
                    f,
                    "\nFAILED {}: {suite}: {name}\n{}",
                    row.name,
                    ends_of(text)
                )?;
            }
            for command in row.again() {
                writeln!(f, "run again with: {command}")?;
            }
        }
        write!(f, "\n{}", self.total)?;
        if self.steps.iter().any(|row| row.interrupted) {
            write!(f, "; interrupted")?;
        }
        writeln!(f)
    }
}

/// How many lines of each end of what a failed test printed are shown once more in the summary,
/// behind all that other steps printed: a panic comes first, and the sum of a guest's run last.
const LINES: usize = 10;

/// The first and the last lines, indented.
fn ends_of(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    let indented = |lines: &[&str]| lines.iter().map(|line| format!("    {line}\n")).collect();
    match lines.len().checked_sub(2 * LINES) {
        None | Some(0) => indented(&lines),
        Some(between) => {
            let [first, last]: [String; 2] = [
                indented(&lines[..LINES]),
                indented(&lines[LINES + between..]),
            ];
            format!("{first}    (and {between} lines)\n{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::transcript::COMMANDS;
    use std::time::Duration;

    fn took(elapsed: u64, cpu: u64) -> Took {
        Took {
            elapsed: Duration::from_millis(elapsed),
            cpu: Duration::from_millis(cpu),
        }
    }

    fn row(name: StepName, passed: usize, failed: usize) -> Row {
        let count = Count {
            passed,
            failed,
            ..Count::default()
        };
        Row::ran(name, count, Vec::new(), took(1250, 2500))
    }

    #[test]
    fn the_last_line_is_the_sum() {
        let mut summary = Summary::default();
        summary.add(row(StepName::Fmt, 1, 0));
        summary.add(row(StepName::Host, 40, 0));
        assert!(!summary.failed());
        assert!(summary.to_string().ends_with("\n41 passed, 0 failed\n"));

        summary.add(Row::skipped(StepName::Miri, "no nightly".into()));
        summary.add(row(StepName::Boot, 0, 2));
        assert!(summary.failed());
        let text = summary.to_string();
        assert!(
            text.ends_with("\n41 passed, 2 failed, 1 skipped\n"),
            "{text}"
        );
        assert!(
            text.contains("no nightly") && text.contains("1.2 s"),
            "{text}"
        );
    }

    #[test]
    fn what_was_interrupted_is_summed_up() {
        let mut summary = Summary::default();
        summary.add(row(StepName::Fmt, 1, 0));
        let count = Count {
            passed: 3,
            ..Count::default()
        };
        let cut = Row::ran(StepName::Boot, count, Vec::new(), took(2000, 0)).interrupted();
        assert!(
            cut.to_string().starts_with("boot: interrupted, 3 passed"),
            "{cut}"
        );
        summary.add(cut);
        let text = summary.to_string();
        assert!(!summary.failed() && !text.contains("FAILED"));
        assert!(text.contains("2.0 s     0.0 s  interrupted\n"), "{text}");
        assert!(
            text.ends_with("\n4 passed, 0 failed; interrupted\n"),
            "{text}"
        );
    }

    #[test]
    fn a_failure_tells_how_to_run_it_again() {
        let failed = |step, suite: &str, name: &str| {
            let case = Case {
                suite: suite.to_owned(),
                name: name.to_owned(),
                outcome: Outcome::Failed(String::new()),
            };
            Row {
                cases: vec![case],
                ..row(step, 3, 1)
            }
        };
        assert_eq!(row(StepName::Host, 3, 0).again(), [""; 0]);
        assert_eq!(
            failed(StepName::Host, "arch", "a::b").again(),
            ["cargo xtask test --only host a::b"]
        );
        let command = failed(StepName::Host, COMMANDS, "cargo test");
        assert_eq!(command.again(), ["cargo xtask test --only host"]);
        let command = failed(StepName::Fmt, COMMANDS, "cargo fmt");
        assert_eq!(command.again(), ["cargo xtask test --only fmt"]);
        let in_documentation = failed(StepName::Docs, "arch", "src/lib.rs - walk (line 3)");
        assert_eq!(in_documentation.again(), ["cargo xtask test --only docs"]);
    }

    #[test]
    fn a_failure_is_shown_again_at_the_end() {
        let printed: String = (0..3 * LINES)
            .map(|line| format!("line {line}\n"))
            .collect();
        let case = Case {
            suite: "arch".to_owned(),
            name: "a::b".to_owned(),
            outcome: Outcome::Failed(printed),
        };
        let mut summary = Summary::default();
        summary.add(Row {
            cases: vec![case],
            ..row(StepName::Host, 3, 1)
        });
        summary.add(row(StepName::Model, 3, 0));
        let text = summary.to_string();
        let (_, end) = text
            .split_once("\nFAILED host: arch: a::b\n")
            .expect("the failure");
        assert!(end.starts_with("    line 0\n"), "{end}");
        let between = format!("    line {}\n    (and {LINES} lines)\n", LINES - 1);
        let rest = format!("{between}    line {}\n", 2 * LINES);
        assert!(end.contains(&rest), "{end}");
        let last = "run again with: cargo xtask test --only host a::b\n\n6 passed, 1 failed\n";
        let last = format!("    line {}\n{last}", 3 * LINES - 1);
        assert!(end.ends_with(&last), "{end}");
    }

    #[test]
    fn a_flaky_test_is_summed_up() {
        let mut summary = Summary::default();
        let count = Count {
            passed: 3,
            flaky: 1,
            ..Count::default()
        };
        summary.add(Row::ran(StepName::Boot, count, Vec::new(), took(1, 1)));
        let text = summary.to_string();
        assert!(!summary.failed());
        assert!(text.ends_with("\n3 passed, 0 failed, 1 flaky\n"), "{text}");
    }
}
