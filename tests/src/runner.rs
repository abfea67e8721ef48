//! Runs boot tests side by side. Each leaves a folder:
//! - `command`: the command line that repeats the boot in a shell;
//! - `console.log`: the console, back traces with names, and QEMU's own messages;
//! - `trace`: what came over the console as it came, where events were traced;
//! - `result`: how it went.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use trace_tools::Recording;
use xtask::build::Image;
use xtask::qemu::Machine;
use xtask::run::{Outcome, Screen, run};
use xtask::symbols::Symbols;
use xtask::terminal::Terminal;
use xtask::vms::{self, Sources};
use xtask::{interrupt, shell};

use crate::display::Display;
use crate::judge::{judge, judge_trace};
use crate::scenario::Scenario;

/// How much of a failed test's console is shown, in lines.
const TAIL: usize = 60;

/// QEMU's arguments that make time a count of instructions.
const COUNTED: [&str; 2] = ["-icount", "shift=0,sleep=off"];

/// How often a test that is marked as flaky may be run before it has failed.
const TRIES: usize = 2;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All was as it should be, in this try.
    Passed {
        /// Which one, from 1; a later one only where the test is marked as flaky.
        tries: usize,
    },
    /// Something was not: this.
    Failed(Vec<String>),
    /// It was cut short, by Ctrl-C or the like.
    Interrupted,
}

/// What the end of all tests says beside the sum of what passed and failed.
#[derive(Debug, Default)]
pub struct Notes {
    /// A line for each test that passed in a later try, which `cargo xtask test` counts.
    retries: Vec<String>,
    /// How many tests were interrupted, or not even begun because of that.
    cut_short: usize,
}

impl Notes {
    /// A test has ended.
    fn add(&mut self, scenario: &Scenario, end: &End) {
        match end {
            End::Passed { tries: 1 } | End::Failed(_) => {}
            End::Passed { tries } => {
                let (name, reason) = (scenario.name, scenario.flaky.unwrap_or_default());
                self.retries
                    .push(format!("flaky: {name}: passed in try {tries}: {reason}"));
            }
            End::Interrupted => self.cut_short += 1,
        }
    }
}

/// Runs boot tests, with a folder for each.
pub struct Runner {
    /// What is said at the end.
    pub notes: Mutex<Notes>,
    /// How far they are.
    pub display: Display,
    /// What guests are made of.
    pub sources: Sources<'static>,
    /// The image of the firmware that some tests have at EL3.
    pub firmware: PathBuf,
    /// The smallest hypervisor.
    pub embed: Image,
    /// Where the folders go.
    pub folders: PathBuf,
}

/// Runs the tests as the arguments say. Returns whether none failed.
pub fn run_all(runner: Runner, scenarios: Vec<Scenario>, arguments: &Arguments) -> bool {
    let runner = Arc::new(runner);
    let trials = scenarios.into_iter().map(|scenario| {
        let runner = Arc::clone(&runner);
        Trial::ignorable_test(scenario.name, move || runner.trial(&scenario))
    });
    let conclusion = libtest_mimic::run(arguments, trials.collect());
    runner.display.end();
    let notes = runner.notes.lock().unwrap_or_else(PoisonError::into_inner);
    for retry in &notes.retries {
        println!("{retry}");
    }
    if notes.cut_short > 0 {
        eprintln!("boot: {} cut short or not run", notes.cut_short);
    }
    !conclusion.has_failed()
}

/// Lists the tests as the arguments say.
pub fn list(scenarios: Vec<Scenario>, arguments: &Arguments) {
    let trials = scenarios
        .into_iter()
        .map(|scenario| Trial::test(scenario.name, || Ok(())));
    // Nothing is run that could fail.
    let _ = libtest_mimic::run(arguments, trials.collect());
}

impl Runner {
    /// Runs one test, and says of a failure all that there is to know.
    fn trial(&self, scenario: &Scenario) -> Result<Completion, Failed> {
        let note = |end: &End| {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.add(scenario, end);
        };
        let cut_short = || Ok(Completion::ignored_with("interrupted"));
        if interrupt::raised() {
            note(&End::Interrupted);
            return cut_short();
        }
        self.display.start(scenario.name);
        let folder = self.folders.join(scenario.name);
        let mut console = Console::default();
        let end = tried(scenario.flaky, || {
            console = Console::default();
            self.boot(scenario, &folder, &mut console)
                .unwrap_or_else(|error| Some(vec![format!("could not be run: {error:#}")]))
        });
        self.display.finish(scenario, &end);
        note(&end);
        match end {
            End::Passed { .. } => Ok(Completion::Completed),
            End::Interrupted => cut_short(),
            End::Failed(wrong) => {
                Err(failure(scenario.name, &folder, &wrong, &console.lines).into())
            }
        }
    }
}

/// Tries a test once, or, where it is marked as flaky and what is wrong with it may be chance, as
/// often as it may be.
fn tried(flaky: Option<&str>, mut try_once: impl FnMut() -> Option<Vec<String>>) -> End {
    let most = if flaky.is_some() { TRIES } else { 1 };
    let mut tries = 1;
    loop {
        match try_once() {
            None => return End::Interrupted,
            Some(wrong) if wrong.is_empty() => return End::Passed { tries },
            Some(wrong) if tries == most => return End::Failed(wrong),
            Some(_) => tries += 1,
        }
    }
}

/// What is said of a test that failed: the end of its console, what is wrong, and how to see it
/// again.
fn failure(name: &str, folder: &Path, wrong: &[String], console: &[String]) -> String {
    let tail = &console[console.len().saturating_sub(TAIL)..];
    let mut said = vec!["the end of its console:".to_owned()];
    said.extend_from_slice(tail);
    said.push(format!("what is wrong with {name}:"));
    said.extend_from_slice(wrong);
    said.push(format!("all of it: {}", folder.display()));
    said.push(format!(
        "run again with: cargo test -p tests --test boot -- --exact {name}"
    ));
    said.join("\n")
}

impl Runner {
    /// Boots, and returns what is wrong; `None` where the run was interrupted.
    fn boot(
        &self,
        scenario: &Scenario,
        folder: &Path,
        console: &mut Console,
    ) -> Result<Option<Vec<String>>> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
        };
        fs::create_dir_all(folder)
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
        let archive = folder.join("initrd.cpio");
        let mut specs = scenario.specs()?;
        if scenario.is_elf
            && let Some(first) = specs.first_mut()
        {
            let guest = first.guest.as_deref().unwrap_or_default();
            first.kernel = Some(self.sources.images.guest(guest)?.elf.clone());
        }
        let initrd = match scenario.as_image {
            true => self.sources.images.guest(scenario.vms[0])?.flat.clone(),
            false => vms::initrd(&specs, &self.sources, archive)?,
        };
        let machine = machine(scenario)?;
        let image = match scenario.embeds {
            true => &self.embed,
            false => &self.sources.images.hypervisor,
        };
        let hypervisor = &image.flat;
        let command = if scenario.on_firmware {
            let tree = folder.join("tree.dtb");
            let described = machine.describe(hypervisor, &initrd, &tree).output();
            described.context("could not have QEMU describe the machine")?;
            machine.on_firmware(&self.firmware, hypervisor, &initrd, &tree)
        } else {
            machine.command(hypervisor, &initrd)
        };
        write("command", format!("{}\n", shell::line(&command)))?;
        console.log = Some(File::create(folder.join("console.log")).context("no console.log")?);

        let symbols = Symbols::open(&image.elf)?;
        let start = Instant::now();
        let timeout = Some(scenario.timeout);
        let terminal = keyboard(scenario, console)?;
        let outcome = run(command, timeout, Some(&symbols), &terminal, console)?;
        if outcome == Outcome::Interrupted {
            return Ok(None);
        }
        let mut wrong = judge(scenario, &outcome, &console.lines)?;
        if scenario.is_traced() {
            fs::write(folder.join("trace"), &console.raw).context("no trace")?;
            wrong.extend(judge_trace(scenario, &Recording::parse(&console.raw)));
        }
        write(
            "result",
            result(&outcome, start.elapsed().as_secs_f64(), &wrong),
        )?;
        Ok(Some(wrong))
    }
}

/// What the machine has for its standard input: a pipe into which `console` types, if the test says
/// so.
fn keyboard(scenario: &Scenario, console: &mut Console) -> Result<Terminal> {
    if scenario.typed.is_empty() {
        return Ok(Terminal::None);
    }
    let (reader, writer) = std::io::pipe().context("could not make a pipe to type into")?;
    console.typist = Some(Typist {
        left: scenario.typed.iter().copied().collect(),
        has_typed: false,
        writer,
    });
    Ok(Terminal::Piped(reader))
}

fn machine(scenario: &Scenario) -> Result<Machine> {
    Ok(Machine {
        cpu: scenario
            .cpu
            .parse()
            .map_err(|error: String| anyhow!(error))?,
        cpus: scenario.cpus,
        memory: scenario.memory,
        hyp_args: scenario.hyp_args.to_owned(),
        extra: match scenario.counted {
            true => COUNTED.map(Into::into).to_vec(),
            false => Vec::new(),
        },
    })
}

fn result(outcome: &Outcome, seconds: f64, wrong: &[String]) -> String {
    let verdict = if wrong.is_empty() { "passed" } else { "FAILED" };
    let mut text = format!("{verdict} after {seconds:.1} s; how the run ended: {outcome}\n");
    for reason in wrong {
        text.push_str(&format!("{reason}\n"));
    }
    text
}

/// The console of one run, kept in memory for judging and in a file for people.
#[derive(Default)]
struct Console {
    /// The lines as they were said.
    lines: Vec<String>,
    raw: Vec<u8>,
    log: Option<File>,
    typist: Option<Typist>,
}

/// Waits for prompts, and then types.
struct Typist {
    /// The prompts, each with what is typed there.
    left: VecDeque<(&'static str, &'static str)>,
    /// Whether something was typed in the line that is growing: the next prompt is in a later one.
    has_typed: bool,
    writer: PipeWriter,
}

impl Typist {
    /// A line has grown to `start`.
    fn look_at(&mut self, start: &str) {
        if !self.has_typed
            && let Some(&(prompt, text)) = self.left.front()
            && start.contains(prompt)
        {
            self.left.pop_front();
            // A QEMU that has ended does not read.
            let _ = self.writer.write_all(text.as_bytes());
            self.has_typed = true;
        }
    }
}

impl Screen for Console {
    fn raw(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &str) {
        // A disk that is full must not change the verdict.
        if let Some(log) = &mut self.log
            && let Err(error) = writeln!(log, "{line}")
        {
            eprintln!("a test's console.log ends at its line `{line}`: {error}");
            self.log = None;
        }
    }

    fn said(&mut self, line: &str) {
        self.lines.push(line.to_owned());
        self.saying(line);
        if let Some(typist) = &mut self.typist {
            typist.has_typed = false;
        }
    }

    fn saying(&mut self, start: &str) {
        if let Some(typist) = &mut self.typist {
            typist.look_at(start);
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    /// How a test ends that goes wrong so often, and in how many tries.
    fn ends(flaky: Option<&str>, wrong: usize) -> (End, usize) {
        let mut tries = 0;
        let end = tried(flaky, || {
            tries += 1;
            Some(match tries <= wrong {
                true => vec![format!("try {tries}")],
                false => Vec::new(),
            })
        });
        (end, tries)
    }

    #[test]
    fn only_what_is_marked_is_tried_again_and_that_is_counted() {
        let flaky = Some("the host's clock");
        let failed = |what: &str| End::Failed(vec![what.to_owned()]);
        assert_eq!(ends(None, 0), (End::Passed { tries: 1 }, 1));
        assert_eq!(ends(None, 1), (failed("try 1"), 1));
        assert_eq!(ends(flaky, 0), (End::Passed { tries: 1 }, 1));
        assert_eq!(ends(flaky, 1), (End::Passed { tries: 2 }, 2));
        assert_eq!(ends(flaky, 2), (failed("try 2"), 2));
        assert_eq!(tried(flaky, || None), End::Interrupted);
    }

    #[test]
    fn retries_and_interruptions_are_noted() {
        let scenario = Scenario::new("slow", "hello").may_fail_by_chance("the host's clock");
        let mut notes = Notes::default();
        for end in [
            End::Passed { tries: 1 },
            End::Failed(Vec::new()),
            End::Passed { tries: 2 },
            End::Interrupted,
        ] {
            notes.add(&scenario, &end);
        }
        assert_eq!(
            notes.retries,
            ["flaky: slow: passed in try 2: the host's clock"]
        );
        assert_eq!(notes.cut_short, 1);
    }

    #[test]
    fn a_failure_tells_the_end_of_the_console_and_how_to_run_it_again() {
        let console: Vec<String> = (0..TAIL + 5).map(|n| format!("line {n}")).collect();
        let wrong = ["no line matches".to_owned()];
        let said = failure("hello-max", Path::new("/t/hello-max"), &wrong, &console);
        assert!(
            !said.contains("line 4\n") && said.contains("line 5\n"),
            "{said}"
        );
        for part in ["no line matches", "/t/hello-max", "-- --exact hello-max"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
