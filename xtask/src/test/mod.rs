//! `cargo xtask test`: every step in turn, a failed one not keeping the others from running, and
//! at the end the sum of it all.

mod count;
mod job;
mod only;
mod progress;
mod report;
mod steps;
mod summary;
mod took;
mod transcript;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use output::Output;

use crate::cli::TestOptions;
use crate::workspace::Workspace;
use crate::{interrupt, qemu, setup};

use count::Count;
use job::Ran;
use only::Asked;
pub use only::Only;
use progress::Progress;
use steps::Step;
pub use steps::StepName;
use summary::{Row, Summary};
use took::Stopwatch;

/// How much of a failed step's output is shown, in lines. The whole is in its log.
const TAIL: usize = 200;

/// Why a step is left out once one was interrupted.
const INTERRUPTED: &str = "interrupted";

/// Runs the tests and returns the exit status: 0 where all passed, 1 where one failed, and that of
/// an interrupted program where they were.
///
/// # Errors
///
/// When set-up fails, a test is asked for that there is none of, or a file cannot be written.
pub fn test(options: &TestOptions) -> Result<u8> {
    let asked = Asked::new(&options.only)?;
    qemu::choose(options.program.named.as_deref());
    if options.no_install {
        setup::forbid_installing();
    }
    if let Some(folder) = &options.artifacts {
        // The files that are asked for may go there.
        make_folder(folder)?;
    }
    let place = |path: &Option<PathBuf>, kind| {
        let path = path.as_deref();
        path.map(|path| Output::new(path, kind, &[])).transpose()
    };
    let (junit, json) = (
        place(&options.junit, report::JUNIT)?,
        place(&options.json, report::JSON)?,
    );
    setup::for_tests()?;
    let workspace = Workspace::load()?;
    let steps = steps::steps(&workspace, options, &asked);
    if options.list {
        return list(steps);
    }
    let artifacts = options.artifacts.clone();
    let artifacts = artifacts.unwrap_or_else(|| workspace.kept_directory());
    let logs = artifacts.join("test-logs");
    make_folder(&logs)?;
    let summary = run(steps, &logs, &asked)?;
    output::show(&summary.to_string())?;
    if let Some(place) = junit {
        place.write(&report::junit(&summary)?)?;
    }
    if let Some(place) = json {
        place.write(&report::json(&summary)?)?;
    }
    Ok(match interrupt::raised() {
        true => interrupt::EXIT_STATUS,
        false => u8::from(summary.failed()),
    })
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))
}

/// Prints each test, after its step.
fn list(steps: Vec<Step>) -> Result<u8> {
    for step in steps {
        if let Some(reason) = step.skip {
            eprintln!("{}: skipped: {reason}", step.name);
            continue;
        }
        for job in step.jobs {
            for name in job.list()? {
                output::show(&format!("{} {name}\n", step.name))?;
            }
        }
    }
    Ok(0)
}

/// Runs the steps, a failed one not keeping the others from running.
fn run(steps: Vec<Step>, logs: &Path, asked: &Asked) -> Result<Summary> {
    let mut progress = Progress::new(steps.len());
    let mut summary = Summary::default();
    for step in steps {
        let row = match interrupt::raised() {
            true => Row::skipped(step.name, INTERRUPTED.to_owned()),
            false => run_step(step, logs, &mut progress)?,
        };
        summary.add(row);
    }
    if summary.is_empty() && !asked.names.is_empty() && !interrupt::raised() {
        bail!(
            "no test's name contains {}; `cargo xtask test --list` shows them all",
            asked.names.join(" or ")
        );
    }
    Ok(summary)
}

fn run_step(step: Step, logs: &Path, progress: &mut Progress) -> Result<Row> {
    let name = step.name;
    if let Some(reason) = step.skip {
        progress.skip(name, &reason);
        return Ok(Row::skipped(name, reason));
    }
    let watch = Stopwatch::start();
    progress.start(name);
    let (mut count, mut cases) = (Count::default(), Vec::new());
    let path = logs.join(format!("{name}.log"));
    let mut log =
        fs::File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
    let mut is_whole = true;
    for job in step.jobs {
        let ran: Ran = job.run(&name.to_string(), &mut log, progress)?;
        count += ran.count;
        cases.extend(ran.cases);
        if let Some(error) = ran.error {
            progress.print(&format!("{name}: {error}"));
        }
        if ran.interrupted {
            is_whole = false;
            break;
        }
    }
    let row = Row::ran(name, count, cases, watch.took());
    let row = if is_whole { row } else { row.interrupted() };
    progress.finish(&row);
    if count.failed > 0 {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        progress.print(&format!("{}\n(the whole: {})", tail(&text), path.display()));
    }
    for command in row.again() {
        progress.print(&format!("run again with: {command}"));
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
