//! The sum of all steps: a table, and the line that machines read.

use std::fmt;

use super::job::Count;
use super::steps::StepName;
use super::took::Took;

/// A step that has ended.
#[derive(Debug)]
pub(super) struct Row {
    name: StepName,
    count: Count,
    took: Took,
    /// Whether it was cut short.
    interrupted: bool,
    /// Why it was left out, where it was.
    skipped: Option<String>,
}

impl Row {
    /// A step that ran.
    pub(super) fn ran(name: StepName, count: Count, took: Took) -> Self {
        Self {
            name,
            count,
            took,
            interrupted: false,
            skipped: None,
        }
    }

    /// A step that was cut short.
    pub(super) fn interrupted(name: StepName, count: Count, took: Took) -> Self {
        Self {
            interrupted: true,
            ..Self::ran(name, count, took)
        }
    }

    /// A step that was left out, for this reason. It counts as one skipped test.
    pub(super) fn skipped(name: StepName, reason: String) -> Self {
        let count = Count {
            skipped: 1,
            ..Count::default()
        };
        Self {
            name,
            count,
            took: Took::default(),
            interrupted: false,
            skipped: Some(reason),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { passed, failed, .. } = self.count;
        let verdict = match failed {
            0 if self.interrupted => "interrupted",
            0 => "ok",
            _ => "FAILED",
        };
        write!(
            f,
            "{}: {verdict}, {passed} passed, {failed} failed, {}",
            self.name, self.took
        )
    }
}

/// All steps that have ended.
#[derive(Debug, Default)]
pub(super) struct Summary(Vec<Row>);

impl Summary {
    /// Adds a step.
    pub(super) fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Whether anything failed.
    pub(super) fn failed(&self) -> bool {
        self.total().failed > 0
    }

    fn total(&self) -> Count {
        let mut total = Count::default();
        for row in &self.0 {
            total += row.count;
        }
        total
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
        } in &self.0
        {
            let Count {
                passed,
                failed,
                skipped: left_out,
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
        let Count {
            passed,
            failed,
            skipped,
        } = self.total();
        write!(f, "\n{passed} passed, {failed} failed")?;
        if skipped > 0 {
            write!(f, ", {skipped} skipped")?;
        }
        if self.0.iter().any(|row| row.interrupted) {
            write!(f, "; interrupted")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            skipped: 0,
        };
        Row::ran(name, count, took(1250, 2500))
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
        let cut = Row::interrupted(StepName::Boot, count, took(2000, 0));
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
}
