//! Runs boot tests side by side. Each leaves a folder:
//! - `command`: the command line that repeats the boot in a shell;
//! - `console.log`: the console, back traces with names, and QEMU's own messages;
//! - `trace`: what came over the console as it came, where events were traced;
//! - `result`: how it went.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{PipeWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use trace_tools::Recording;
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

/// How a test that ran went.
#[derive(Debug)]
pub struct Report {
    /// The test's name.
    pub name: &'static str,
    /// How it ended.
    pub end: End,
    /// What is wrong; nothing where it did not fail.
    pub wrong: Vec<String>,
    /// The last lines of the console.
    pub tail: Vec<String>,
    /// The folder that it left.
    pub folder: PathBuf,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All was as it should be.
    Passed,
    /// Something was not.
    Failed,
    /// It was cut short, by Ctrl-C or the like.
    Interrupted,
}

/// Runs `scenarios`, `jobs` at a time, with a folder for each in `folders`; `firmware` is the image of the one that some
/// have at EL3. An interrupted run
/// returns the reports that there are.
pub fn run_all(
    scenarios: Vec<Scenario>,
    sources: &Sources<'_>,
    firmware: &Path,
    folders: &Path,
    jobs: NonZeroUsize,
) -> Vec<Report> {
    let display = Display::new(scenarios.len());
    let queue = Mutex::new(VecDeque::from(scenarios));
    let reports = Mutex::new(Vec::new());
    let next = || lock(&queue).pop_front().filter(|_| !interrupt::raised());
    thread::scope(|scope| {
        for _ in 0..jobs.get() {
            scope.spawn(|| {
                while let Some(scenario) = next() {
                    display.start(scenario.name);
                    let report = run_one(&scenario, sources, firmware, folders);
                    display.finish(scenario.name, report.end);
                    lock(&reports).push(report);
                }
            });
        }
    });
    display.end();
    reports
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs one test. What keeps it from being run makes it fail.
fn run_one(scenario: &Scenario, sources: &Sources<'_>, firmware: &Path, folders: &Path) -> Report {
    let folder = folders.join(scenario.name);
    let mut console = Console::default();
    let wrong = boot(scenario, sources, firmware, &folder, &mut console)
        .unwrap_or_else(|error| Some(vec![format!("could not be run: {error:#}")]));
    let end = match &wrong {
        None => End::Interrupted,
        Some(wrong) if wrong.is_empty() => End::Passed,
        Some(_) => End::Failed,
    };
    let tail = console
        .lines
        .split_off(console.lines.len().saturating_sub(TAIL));
    Report {
        name: scenario.name,
        end,
        wrong: wrong.unwrap_or_default(),
        tail,
        folder,
    }
}

/// Boots, and returns what is wrong; `None` where the run was interrupted.
fn boot(
    scenario: &Scenario,
    sources: &Sources<'_>,
    firmware: &Path,
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
        first.kernel = Some(sources.images.guest(guest)?.elf.clone());
    }
    let initrd = match scenario.as_image {
        true => sources.images.guest(scenario.vms[0])?.flat.clone(),
        false => vms::initrd(&specs, sources, archive)?,
    };
    let machine = machine(scenario)?;
    let hypervisor = &sources.images.hypervisor.flat;
    let command = if scenario.on_firmware {
        let tree = folder.join("tree.dtb");
        let described = machine.describe(hypervisor, &initrd, &tree).output();
        described.context("could not have QEMU describe the machine")?;
        machine.on_firmware(firmware, hypervisor, &initrd, &tree)
    } else {
        machine.command(hypervisor, &initrd)
    };
    write("command", format!("{}\n", shell::line(&command)))?;
    console.log = Some(File::create(folder.join("console.log")).context("no console.log")?);

    let symbols = Symbols::open(&sources.images.hypervisor.elf)?;
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

/// What the machine has for its standard input: a pipe into which `console` types, if the test says so.
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
            // Who has ended does not read.
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
