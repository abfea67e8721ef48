//! `cargo xtask test`: every step in turn, a failed one not keeping the others from running, and
//! at the end the sum of it all.

mod count;
mod job;
mod only;
mod progress;
mod report;
mod steps;
mod summary;
mod tail;
mod took;
mod transcript;

use std::fs;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use output::Output;

use crate::cli::TestOptions;
use crate::workspace::Workspace;
use crate::{interrupt, qemu, setup};

use count::Count;
use job::{Job, Ran};
use only::Asked;
pub use only::Only;
use progress::Progress;
use steps::Step;
pub use steps::StepName;
use summary::{Row, Summary};
use took::Stopwatch;

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
    let path = logs.join(format!("{name}.log"));
    let log =
        fs::File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
    let (mut count, mut cases, mut is_whole) = (Count::default(), Vec::new(), true);
    let mut shown = String::new();
    for ran in run_jobs(name, step.jobs, step.at_once, log, progress)? {
        count += ran.count;
        cases.extend(ran.cases);
        is_whole &= !ran.interrupted;
        if ran.count.failed > 0 {
            shown.push_str(&ran.tail.to_string());
        }
    }
    let row = Row::ran(name, count, cases, watch.took());
    let row = if is_whole { row } else { row.interrupted() };
    progress.finish(&row);
    if count.failed > 0 {
        progress.print(&format!("{shown}(the whole: {})", path.display()));
    }
    Ok(row)
}

/// Runs the commands of a step, so many `at_once`, until all are done or one is interrupted.
fn run_jobs(
    name: StepName,
    jobs: Vec<Job>,
    at_once: usize,
    log: fs::File,
    progress: &Progress,
) -> Result<Vec<Ran>> {
    let waiting = Mutex::new(jobs.into_iter());
    let next = || lock(&waiting).next();
    let log = &Mutex::new(log);
    let work = || -> Result<Vec<Ran>> {
        let mut done = Vec::new();
        while let Some(job) = next() {
            let ran = if at_once == 1 {
                job.run(&name.to_string(), &mut *lock(log), progress)?
            } else {
                // Their output is kept apart, and in the log when it is whole.
                let mut output = Vec::new();
                let ran = job.run(&name.to_string(), &mut output, progress)?;
                lock(log)
                    .write_all(&output)
                    .context("could not write a log")?;
                ran
            };
            if let Some(error) = &ran.error {
                progress.print(&format!("{name}: {error}"));
            }
            let is_interrupted = ran.interrupted;
            done.push(ran);
            if is_interrupted {
                break;
            }
        }
        Ok(done)
    };
    let done = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => resume_unwind(panic),
        });
        joined.collect::<Result<Vec<_>>>()
    })?;
    Ok(done.into_iter().flatten().collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::job::Counts;
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    /// Runs two shell scripts, so many at once; returns what came of them, and the log.
    fn run_both(scripts: [&str; 2], at_once: usize) -> (Vec<Ran>, String) {
        let jobs = scripts.map(|script| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Job {
                command,
                arguments: Vec::new(),
                names: Vec::new(),
                counts: Counts::One,
                shows_itself: false,
                limit: Duration::from_secs(60),
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let log = fs::File::create(&path).expect("a file");
        let progress = Progress::new(1);
        let ran = run_jobs(StepName::Miri, jobs.into(), at_once, log, &progress);
        let log = fs::read_to_string(path).expect("a file");
        (ran.expect("a shell"), log)
    }

    #[test]
    fn commands_run_side_by_side_and_are_logged_one_after_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name).display().to_string());
        // Each waits for the other to begin.
        let meet = |mine: &str, other: &str| {
            format!("echo begin; touch {mine}; until [ -e {other} ]; do sleep 0.05; done; echo end")
        };
        let (first, second) = (meet(&a, &b), meet(&b, &a));
        let (ran, log) = run_both([&first, &second], 2);
        assert!(ran.iter().all(|ran| ran.error.is_none()), "{log}");
        assert_eq!(log.matches("begin\nend\n").count(), 2, "{log}");
    }

    #[test]
    fn one_after_another_is_the_order_of_the_commands() {
        let (ran, log) = run_both(["echo 1; exit 1", "echo 2"], 1);
        assert_eq!(ran.len(), 2);
        assert!(ran[0].error.is_some() && ran[1].error.is_none());
        assert!(log.find("1\n") < log.find("2\n"), "{log}");
    }

    #[test]
    fn what_failed_is_shown_whatever_ran_after_it() {
        let (ran, _) = run_both(["echo broken; exit 1", "seq 1000"], 1);
        assert_eq!(ran[0].tail.to_string(), "broken\n");
    }
}
