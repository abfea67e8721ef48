//! `cargo xtask test`: every step in turn, a failed one not keeping the others from running, and
//! at the end the sum of it all.

mod job;
mod progress;
mod steps;
mod summary;
mod took;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cli::TestOptions;
use crate::workspace::Workspace;
use crate::{interrupt, qemu, setup};

use job::{Count, Ran};
use progress::Progress;
use steps::Step;
pub use steps::StepName;
use summary::{Row, Summary};
use took::Stopwatch;

/// How much of a failed step's output is shown, in lines. The whole is in its log.
const TAIL: usize = 200;

/// Why a step is left out once one was interrupted.
const INTERRUPTED: &str = "interrupted";

/// Runs the tests and returns the exit status: 0 where all passed, 1 where one failed, and that of an interrupted program
/// where they were.
///
/// # Errors
///
/// When set-up fails or a log cannot be written.
pub fn test(options: &TestOptions) -> Result<u8> {
    qemu::choose(options.program.named.as_deref());
    setup::for_tests()?;
    let workspace = Workspace::load()?;
    let steps = steps::steps(&workspace, options);
    let logs = workspace.kept_directory().join("test-logs");
    fs::create_dir_all(&logs)
        .with_context(|| format!("could not make the folder {}", logs.display()))?;

    let mut progress = Progress::new(steps.len());
    let mut summary = Summary::default();
    for step in steps {
        let row = match interrupt::raised() {
            true => Row::skipped(step.name, INTERRUPTED.to_owned()),
            false => run_step(step, &logs, &mut progress)?,
        };
        summary.add(row);
    }
    output::show(&summary.to_string())?;
    Ok(match interrupt::raised() {
        true => interrupt::EXIT_STATUS,
        false => u8::from(summary.failed()),
    })
}

fn run_step(step: Step, logs: &Path, progress: &mut Progress) -> Result<Row> {
    let name = step.name;
    if let Some(reason) = step.skip {
        progress.skip(name, &reason);
        return Ok(Row::skipped(name, reason));
    }
    let watch = Stopwatch::start();
    progress.start(name);
    let mut count = Count::default();
    let path = logs.join(format!("{name}.log"));
    let mut log =
        fs::File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
    let mut is_whole = true;
    for job in step.jobs {
        let Ran {
            count: more,
            error,
            interrupted,
        } = job.run(&mut log, progress)?;
        count += more;
        if let Some(error) = error {
            progress.print(&format!("{name}: {error}"));
        }
        if interrupted {
            is_whole = false;
            break;
        }
    }
    let row = match is_whole {
        true => Row::ran(name, count, watch.took()),
        false => Row::interrupted(name, count, watch.took()),
    };
    progress.finish(&row);
    if count.failed > 0 {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        progress.print(&format!("{}\n(the whole: {})", tail(&text), path.display()));
    }
    Ok(row)
}

/// The last lines of `text`.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\n"), "a\nb");
        let long: String = (0..TAIL + 10).map(|n| format!("{n}\n")).collect();
        let short = tail(&long);
        assert!(short.starts_with("10\n") && short.ends_with(&format!("{}", TAIL + 9)));
        assert_eq!(tail(""), "");
    }
}
