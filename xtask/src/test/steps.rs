//! The list of steps: what each runs, what it counts for and when it is left out.

use std::path::{self, Path};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::job::{Counts, Job};
use super::only::Asked;
use crate::cli::TestOptions;
use crate::loom::{self, Checker};
use crate::shard::Shard;
use crate::workspace::{
    self, BARE_TARGET, EMBED_PACKAGE, FIRMWARE_PACKAGE, GUEST_PACKAGE, TESTS_FOLDER, TRACE_PACKAGE,
    TRACE_TOOLS_PACKAGE, Workspace, XTASK_PACKAGE,
};
use crate::{qemu, setup};

/// How long one command may take, builds included.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How long Miri may take for one package.
const MIRI_LIMIT: Duration = Duration::from_secs(35 * 60);

/// The folder of the hypervisor's crates.
const HYP_FOLDER: &str = "hyp";

/// The modules of guests' memory that Miri looks at: those with unsafe code or lock-free
/// algorithms. In the others it would find nothing and take long.
const MEMORY_FOR_MIRI: [&str; 2] = ["gate::", "tests::bank"];

/// The tests of whole tables that Miri looks at: threads that race on a few pages. The others take
/// minutes each when interpreted.
const TABLES_FOR_MIRI: [&str; 1] = ["threads::few"];

/// Cargo's option for a package's unit tests.
const UNIT_TESTS: &[&str] = &["--lib"];

/// The variable that names the browser to the tests that draw with one.
const BROWSER: &str = "TESSERA_BROWSER";

/// How often, at most, the model checker interrupts a thread with `--quick`, instead of three
/// times. That shows every race of which a rule is in the way (`cargo xtask rules`), and takes
/// seconds, where the third takes minutes.
const QUICK_PREEMPTIONS: &str = "2";

/// A step of `cargo xtask test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StepName {
    /// rustfmt changes nothing
    Fmt,
    /// Clippy has nothing to say, on the host and on the bare target
    Clippy,
    /// The documentation builds without warnings, its examples run, and stage2 can be published
    Docs,
    /// Unit, property and integration tests on the host
    Host,
    /// The protocol under the model checker, and in random schedules
    Model,
    /// Host tests under Miri
    Miri,
    /// Reports of recordings, drawn by a browser
    Browser,
    /// GDB on a booted machine
    Debugger,
    /// The hypervisor and its guests in QEMU
    Boot,
}

impl StepName {
    /// Whether it has tests of which some can be chosen by their names.
    pub(super) fn has_named_tests(self) -> bool {
        !matches!(self, Self::Fmt | Self::Clippy | Self::Docs)
    }

    /// What the step checks.
    pub(super) fn about(self) -> String {
        let value = self.to_possible_value();
        let help = value.as_ref().and_then(|value| value.get_help());
        help.map(ToString::to_string).unwrap_or_default()
    }
}

impl std::fmt::Display for StepName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A step with its commands.
#[derive(Debug)]
pub(super) struct Step {
    /// Its name.
    pub(super) name: StepName,
    /// Its commands, begun one after another.
    pub(super) jobs: Vec<Job>,
    /// How many of them run at once.
    pub(super) at_once: usize,
    /// Why it is left out, where it is.
    pub(super) skip: Option<String>,
}

/// The steps that are asked for, in order. Looks for Miri, a browser and a debugger, and installs
/// them, if they are asked for and may be installed.
pub(super) fn steps(workspace: &Workspace, options: &TestOptions, asked: &Asked) -> Vec<Step> {
    let target = workspace.target_directory();
    chosen(asked, options.shard)
        .into_iter()
        .map(|name| {
            let mut step = step(name, workspace, &target, options.quick);
            if name == StepName::Boot {
                step.jobs.iter_mut().for_each(|job| tell_boot(job, options));
            }
            if !asked.names.is_empty() {
                step.jobs
                    .iter_mut()
                    .for_each(|job| job.choose(&asked.names));
            }
            step
        })
        .collect()
}

/// The steps that are asked for and belong to this shard: all shards have some of the boot tests,
/// and each of the other steps is in one.
fn chosen(asked: &Asked, shard: Option<Shard>) -> Vec<StepName> {
    let names = StepName::value_variants().iter().copied();
    let asked = names.filter(|&name| asked.has(name));
    let (boot, others): (Vec<_>, Vec<_>) = asked.partition(|&name| name == StepName::Boot);
    let is_here = |place: usize| shard.is_none_or(|shard| shard.has(place));
    let others = others.into_iter().enumerate();
    let here = others.filter(|&(place, _)| is_here(place));
    here.map(|(_, name)| name).chain(boot).collect()
}

/// Hands the options that are the boot tests' to their binary.
fn tell_boot(job: &mut Job, options: &TestOptions) {
    if let Some(shard) = options.shard {
        job.arguments
            .extend(["--shard".to_owned(), shard.to_string()]);
    }
    if let Some(folder) = &options.artifacts {
        // The binary runs in another folder.
        let folder = path::absolute(folder).unwrap_or_else(|_| folder.clone());
        let folder = folder.join("boot-tests").display().to_string();
        job.arguments.extend(["--artifacts".to_owned(), folder]);
    }
    if options.no_install {
        job.arguments.push("--no-install".to_owned());
    }
}

fn step(name: StepName, workspace: &Workspace, target: &Path, quick: bool) -> Step {
    let mut skip = None;
    let builds = &target.join(TESTS_FOLDER);
    let mut jobs = match name {
        StepName::Fmt => vec![check(cargo(&["fmt", "--all", "--check"]))],
        StepName::Clippy => clippy(workspace),
        StepName::Docs => docs(workspace),
        StepName::Host => vec![tests(cargo(&[
            "test",
            "--locked",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
        ]))],
        StepName::Model => vec![models(builds, quick), schedules(builds, Checker::Shuttle)],
        StepName::Miri => {
            skip = why_no_miri(quick);
            vec![
                // Takes as long as all the others together.
                miri("frames", UNIT_TESTS, &[]),
                miri(loom::PACKAGE, UNIT_TESTS, &[]),
                miri(loom::PACKAGE, &["--test", loom::TESTS], &TABLES_FOR_MIRI),
                miri(TRACE_PACKAGE, UNIT_TESTS, &[]),
                miri("threads", UNIT_TESTS, &[]),
                miri("memory", UNIT_TESTS, &MEMORY_FOR_MIRI),
            ]
        }
        StepName::Browser => {
            let browser = setup::browser(!quick);
            let mut reports = ignored(TRACE_TOOLS_PACKAGE, &["--lib"], "report::");
            if let Ok(browser) = &browser {
                reports.command.env(BROWSER, browser);
            }
            skip = why_not(browser);
            vec![reports]
        }
        StepName::Debugger => {
            skip = why_no_debugger(quick);
            vec![ignored(XTASK_PACKAGE, &["--test", "gdb"], "")]
        }
        StepName::Boot => vec![boot(quick)],
    };
    for job in &mut jobs {
        workspace::build_apart(&mut job.command, target, builds);
    }
    // Miri interprets all of a program's threads on one CPU.
    let at_once = if name == StepName::Miri { 2 } else { 1 };
    Step {
        name,
        jobs,
        at_once,
        skip,
    }
}

fn clippy(workspace: &Workspace) -> Vec<Job> {
    let mut host = cargo(&["clippy", "--locked", "--workspace", "--all-targets"]);
    let mut bare = cargo(&["clippy", "--locked", "--lib", "--bins"]);
    for_bare_target(&mut bare, workspace);
    for command in [&mut host, &mut bare] {
        command.args(["--", "--deny", "warnings"]);
    }
    vec![check(host), check(bare)]
}

fn docs(workspace: &Workspace) -> Vec<Job> {
    let host = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
    let mut bare = cargo(&["doc", "--locked", "--no-deps"]);
    for_bare_target(&mut bare, workspace);
    let mut jobs = vec![check(host), check(bare)];
    for job in &mut jobs {
        job.command.env("RUSTDOCFLAGS", "--deny warnings");
    }
    let examples = cargo(&["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    jobs.extend([tests(examples), package()]);
    jobs
}

/// What would be published of the table manager is made and built. Without the registry's index,
/// which a test without a network has not.
fn package() -> Job {
    let mut command = cargo(&["package", "--locked", "--offline", "--allow-dirty"]);
    command.args(["--package", loom::PACKAGE]);
    check(command)
}

fn for_bare_target(command: &mut Command, workspace: &Workspace) {
    let mut packages = workspace.packages_in(HYP_FOLDER);
    packages.extend([GUEST_PACKAGE, FIRMWARE_PACKAGE, EMBED_PACKAGE].map(str::to_owned));
    command.args(["--target", BARE_TARGET]);
    for package in packages {
        command.args(["--package", &package]);
    }
}

fn models(target: &Path, quick: bool) -> Job {
    let mut job = schedules(target, Checker::Loom);
    if quick {
        job.command.env("LOOM_MAX_PREEMPTIONS", QUICK_PREEMPTIONS);
    }
    job
}

/// The tests of the table manager that a checker of schedules runs.
fn schedules(target: &Path, checker: Checker) -> Job {
    let mut command = cargo(&["test", "--locked", "--release", "--no-fail-fast"]);
    command.args(["--package", loom::PACKAGE, "--test", loom::TESTS]);
    loom::build_for(&mut command, target, checker);
    tests(command)
}

fn why_no_miri(quick: bool) -> Option<String> {
    if quick {
        return Some("--quick".to_owned());
    }
    why_not(setup::miri())
}

fn why_no_debugger(quick: bool) -> Option<String> {
    if quick {
        // The images are built once more for it.
        return Some("--quick".to_owned());
    }
    why_not(setup::debugger(true))
}

/// The reason why something is not there.
fn why_not<T>(there: anyhow::Result<T>) -> Option<String> {
    there.err().map(|reason| format!("{reason:#}"))
}

/// Those of a package's tests that need something which not every machine has, and whose names
/// begin so.
fn ignored(package: &str, target: &[&str], names: &str) -> Job {
    let mut command = cargo(&["test", "--locked", "--package", package]);
    command.args(target);
    Job {
        arguments: vec!["--ignored".to_owned()],
        names: vec![names.to_owned()],
        ..tests(command)
    }
}

/// Miri on a package's tests in this target, or on those alone whose names contain one of `names`.
fn miri(package: &str, target: &[&str], names: &[&str]) -> Job {
    let mut command = Command::new("rustup");
    command
        .args([
            "run",
            "nightly",
            "cargo",
            "miri",
            "test",
            "--locked",
            "--no-fail-fast",
        ])
        .args(["--package", package])
        .args(target)
        .current_dir(workspace::root())
        // Property tests look at the clock and the environment.
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        // A compiler that fails says so on the console; it need not leave a file in the source
        // tree.
        .env("RUSTC_ICE", "0")
        // These name the toolchain that runs xtask.
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    Job {
        names: names.iter().map(ToString::to_string).collect(),
        limit: MIRI_LIMIT,
        ..tests(command)
    }
}

fn boot(quick: bool) -> Job {
    let mut command = cargo(&["test", "--locked", "--quiet", "--package", "tests"]);
    command.args(["--test", "boot"]);
    let quick = quick.then(|| "--quick".to_owned());
    Job {
        arguments: quick.into_iter().collect(),
        shows_itself: true,
        ..tests(command)
    }
}

fn cargo(args: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command.args(args);
    // What boots runs the same one.
    command.envs(qemu::named().map(|named| (qemu::VARIABLE, named)));
    command
}

/// A command that is one test by itself.
fn check(command: Command) -> Job {
    Job {
        command,
        arguments: Vec::new(),
        names: Vec::new(),
        counts: Counts::One,
        shows_itself: false,
        limit: LIMIT,
    }
}

/// A command that runs tests.
fn tests(command: Command) -> Job {
    Job {
        counts: Counts::Tests,
        ..check(command)
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::shell;

    #[test]
    fn every_command_keeps_to_the_lock_file() {
        let workspace = Workspace::load().expect("cargo reads this tree");
        let target = Path::new("target");
        for &name in StepName::value_variants() {
            // Quick, so that nothing is installed.
            for job in step(name, &workspace, target, true).jobs {
                let line = shell::line(&job.command);
                assert!(line.contains("--locked") || name == StepName::Fmt, "{line}");
            }
        }
    }

    #[test]
    fn every_command_builds_where_no_other_build_does() {
        let workspace = Workspace::load().expect("cargo reads this tree");
        let target = Path::new("/target");
        let variable = |command: &Command, name: &str| {
            let mut variables = command.get_envs();
            let (_, value) = variables.find(|(known, _)| *known == name)?;
            value.map(Path::new).map(Path::to_owned)
        };
        let mut folders = Vec::new();
        for &name in StepName::value_variants() {
            for job in step(name, &workspace, target, true).jobs {
                let line = shell::line(&job.command);
                let folder = variable(&job.command, "CARGO_TARGET_DIR").expect(&line);
                assert!(
                    folder.starts_with("/target/test"),
                    "{line}: {}",
                    folder.display()
                );
                assert_eq!(
                    variable(&job.command, "TESSERA_TARGET").as_deref(),
                    Some(target)
                );
                folders.push(folder);
            }
        }
        // Both replace atomics, each by its own.
        for apart in ["/target/test/loom", "/target/test/shuttle"] {
            let there = folders.iter().filter(|folder| *folder == Path::new(apart));
            assert_eq!(there.count(), 1, "{apart}");
        }
    }

    fn asked(steps: &[StepName]) -> Asked {
        Asked {
            steps: steps.to_vec(),
            ..Asked::default()
        }
    }

    #[test]
    fn only_the_steps_asked_for() {
        let names = chosen(&asked(&[StepName::Docs, StepName::Fmt]), None);
        assert_eq!(names, [StepName::Fmt, StepName::Docs]);
        assert_eq!(chosen(&asked(&[]), None), StepName::value_variants());
        assert!(StepName::Boot.about().contains("QEMU"));
    }

    #[test]
    fn each_step_is_in_one_shard_and_the_boot_tests_in_all() {
        let shards = ["1/3", "2/3", "3/3"].map(|shard| shard.parse().expect(shard));
        let shards = shards.map(|shard| chosen(&asked(&[]), Some(shard)));
        for step in StepName::value_variants() {
            let having = shards.iter().filter(|shard| shard.contains(step)).count();
            let expected = if *step == StepName::Boot { 3 } else { 1 };
            assert_eq!(having, expected, "{step}");
        }
    }

    #[test]
    fn the_boot_tests_are_told_what_is_theirs() {
        let options = TestOptions {
            quick: true,
            shard: Some("2/3".parse().expect("a shard")),
            artifacts: Some("/kept".into()),
            no_install: true,
            ..TestOptions::default()
        };
        let workspace = Workspace::load().expect("a workspace");
        let asked = Asked {
            steps: vec![StepName::Boot],
            names: vec!["hello".to_owned()],
        };
        let [step] = &steps(&workspace, &options, &asked)[..] else {
            panic!("one step");
        };
        assert_eq!(
            step.jobs[0].all_arguments(),
            [
                "--quick",
                "--shard",
                "2/3",
                "--artifacts",
                "/kept/boot-tests",
                "--no-install",
                "hello"
            ]
        );
    }

    #[test]
    fn miri_has_threads_that_race_on_tables() {
        let workspace = Workspace::load().expect("a workspace");
        // Quick, so that nothing is installed.
        let step = step(StepName::Miri, &workspace, Path::new("target"), true);
        let lines = step.jobs.iter().map(|job| shell::line(&job.command));
        let threads = lines
            .zip(&step.jobs)
            .find(|(line, _)| line.contains("--test tables"));
        let (_, job) = threads.expect("a command");
        assert_eq!(job.all_arguments(), TABLES_FOR_MIRI);
        for name in TABLES_FOR_MIRI {
            let file = format!("hyp/stage2/tests/{}.rs", name.replace("::", "/"));
            assert!(workspace::root().join(&file).is_file(), "{file}");
        }
    }

    #[test]
    fn names_replace_those_that_a_step_has_by_itself() {
        let mut reports = ignored(TRACE_TOOLS_PACKAGE, &["--lib"], "report::");
        assert_eq!(reports.all_arguments(), ["--ignored", "report::"]);
        reports.choose(&["film".to_owned()]);
        assert_eq!(reports.all_arguments(), ["--ignored", "film"]);
    }
}
