//! `cargo xtask qemu`: from options to a booted machine, its console on the terminal.

use std::borrow::Cow;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use bootargs::ConsoleMode;
use trace::{Categories, Category};
use trace_tools::{About, Planned, Recorder};

use crate::about::about;
use crate::build::{Images, Profile};
use crate::cli::QemuOptions;
use crate::hyp_args::HypArgs;
use crate::qemu::{Machine, TESTED_CPUS};
use crate::run::{Outcome, Screen, run};
use crate::script::{Begin, Script};
use crate::symbols::Symbols;
use crate::terminal::Terminal;
use crate::vms::{self, Sources, Spec};
use crate::workspace::Workspace;
use crate::{qemu, setup, shell};

/// What the stress guest gets unless the user says otherwise: boot arguments for a short run in
/// which compaction races the guest.
const STRESS_DEFAULTS: [(&str, &str); 2] = [
    ("compaction", "stress"),
    ("guest-args", "seconds=10 seed=1"),
];

/// What the guest that checks dirty logging cannot do without.
const DIRTY_DEFAULTS: [(&str, &str); 1] = [("table-calls", "on")];

/// What the stress guest gets where it is watched or debugged: an hour.
const UNTIL_LEFT: &str = "seconds=3600 seed=1";

/// What every machine gets where a guest comes from Debian, unless the user says otherwise.
const DEBIAN_DEFAULTS: [(&str, &str); 1] = [("guest-memory", "512M")];

/// What Linux gets beside that: its memory is worked on while it runs, as that is what it is there
/// to see.
const LINUX_DEFAULTS: [(&str, &str); 2] = [DEBIAN_DEFAULTS[0], ("compaction", "stress")];

/// The guest where none is asked for.
pub(crate) const DEFAULT_GUEST: &str = "stress";

/// What a machine is booted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To see its console.
    Console,
    /// To be watched while it runs, until the user leaves.
    Top,
    /// To be looked at with a debugger, which starts it.
    Debugger,
}

/// A machine that can be booted: all is there and built.
pub(crate) struct Prepared {
    /// What boots it.
    pub(crate) command: Command,
    /// What it is booted from.
    pub(crate) images: Images,
    /// Whether guests' output comes as it is, for a terminal.
    pub(crate) is_raw: bool,
    /// The events that are traced.
    pub(crate) traced: Categories,
    /// Where it is recorded, if it is to be.
    recording: Option<Planned>,
    about: About,
}

impl Prepared {
    /// Begins the recording, if there is to be one.
    ///
    /// # Errors
    ///
    /// When its file cannot be written.
    pub(crate) fn record(&mut self) -> Result<Option<Recorder>> {
        let planned = self.recording.take();
        planned
            .map(|planned| planned.begin(&self.about))
            .transpose()
    }
}

/// Builds and boots, and returns the exit status.
///
/// # Errors
///
/// When the options make no sense together, or set-up or the build fails, or QEMU cannot be run.
pub fn boot(options: &QemuOptions) -> Result<u8> {
    let mut prepared = prepare(options, Purpose::Console)?;
    let recording = prepared.record()?;
    let Prepared {
        command,
        images,
        is_raw,
        traced,
        ..
    } = prepared;
    if is_raw {
        eprintln!(
            "      Typing goes to the guest; Ctrl-A q ends, Ctrl-A h says what else there is"
        );
    }

    let start = Instant::now();
    let symbols = Symbols::open(&images.hypervisor.elf)?;
    let timeout = options.timeout.map(Duration::from_secs);
    let (script, terminal) = input(&specs(options)?)?;
    let mut console = Stdout::new(recording, is_raw, script);
    let outcome = run(command, timeout, Some(&symbols), &terminal, &mut console)?;
    drop(terminal);
    let kept = console.finish();
    if let Ok(Some(file)) = &kept {
        eprintln!("    Recorded {}", what_to_do(file, traced));
    }
    report(&outcome, start.elapsed());
    status(&outcome, kept.map(drop))
}

/// The exit status of a run, whose console was kept or not: a run that failed has its own.
///
/// # Errors
///
/// That some of the console was not kept, if nothing else went wrong.
pub(crate) fn status(outcome: &Outcome, kept: Result<()>) -> Result<u8> {
    match (outcome.exit_code(), kept) {
        (code, Ok(())) => Ok(code),
        (0, Err(error)) => Err(error),
        (code, Err(error)) => {
            eprintln!("error: {error:#}");
            Ok(code)
        }
    }
}

/// What QEMU has for its standard input: the terminal, or a pipe into which is typed what is piped
/// in here.
fn input(specs: &[Spec]) -> Result<(Option<Script>, Terminal)> {
    if io::stdin().is_terminal() {
        return Ok((None, Terminal::borrow()));
    }
    // The first machine gets what is typed.
    let begin = match specs.first().is_some_and(Spec::is_debian) {
        true => Begin::AtPrompt,
        false => Begin::AtOnce,
    };
    let (script, terminal) = Script::new(io::stdin(), begin)?;
    Ok((Some(script), terminal))
}

/// Sets up and builds what the options ask for, and says how it is booted.
///
/// # Errors
///
/// When the options make no sense together, or set-up or the build fails.
pub(crate) fn prepare(options: &QemuOptions, purpose: Purpose) -> Result<Prepared> {
    let specs = specs(options)?;
    let machine = machine(options, &specs, purpose)?;
    let recording = options
        .trace
        .as_deref()
        .map(|file| Planned::new(file, &inputs(&specs)));
    let recording = recording.transpose()?;
    let workspace = Workspace::load()?;
    let target = workspace.kept_directory();
    vms::check_guests(&specs, &workspace.guests())?;
    let host = vms::Host::new(machine.memory, &machine.hyp_args, &target);
    vms::check(&specs, &host)?;
    if let Some(warning) = vms::warning(&specs, &host) {
        eprintln!("warning: {warning}");
    }
    qemu::choose(options.program.named.as_deref());
    setup::for_boot()?;
    machine.cpu.check()?;
    if !machine.cpu.is_tested() {
        let tested = TESTED_CPUS.join(", ");
        eprintln!(
            "warning: {} is not one of the tested CPU models ({tested})",
            machine.cpu
        );
    }
    let images = Images::build_as(match purpose {
        Purpose::Console | Purpose::Top => Profile::Release,
        Purpose::Debugger => Profile::Debugger,
    })?;
    let debian = vms::debian(&specs, &target);
    let sources = Sources {
        images: &images,
        debian: &debian,
    };
    let initrd = vms::initrd(&specs, &sources, archive(&specs, &target)?)?;
    let command = machine.command(&images.hypervisor.flat, &initrd);
    eprintln!("     Booting {}", shell::line(&command));
    Ok(Prepared {
        command,
        images,
        is_raw: machine.is_raw(),
        traced: bootargs::parse(&machine.hyp_args, &mut |_| {}).trace,
        recording,
        about: about(&machine, &specs),
    })
}

/// The files that these machines are made of.
fn inputs(specs: &[Spec]) -> Vec<&Path> {
    let files = specs
        .iter()
        .flat_map(|spec| [&spec.kernel, &spec.firmware, &spec.initrd]);
    files.filter_map(|file| file.as_deref()).collect()
}

/// What can be done with a recording of these events.
fn what_to_do(recording: &Path, traced: Categories) -> String {
    let file = shell::quoted(&recording.to_string_lossy());
    let look = format!("look at it with `cargo xtask trace {file}` or `cargo xtask report {file}`");
    let check = format!("check it with `cargo xtask trace {file} --check`");
    let all = if !traced.has(Category::Replay) {
        look
    } else if traced.has_any(Categories::ALL) {
        format!("{check}, or {look}")
    } else {
        check
    };
    format!("{file}; {all}")
}

fn report(outcome: &Outcome, elapsed: Duration) {
    eprintln!(
        "{:>12} after {:.1} s: {outcome}",
        "Ended",
        elapsed.as_secs_f64()
    );
    if matches!(outcome, Outcome::Refused(_)) {
        eprintln!("QEMU's own message is above.");
    }
}

/// The virtual machines that are asked for.
fn specs(options: &QemuOptions) -> Result<Vec<Spec>> {
    if !options.vm.is_empty() {
        return Ok(options.vm.clone());
    }
    let guest = options.guest.as_deref();
    let has_own = options.kernel.is_some() || options.firmware.is_some();
    let default = (!has_own).then_some(DEFAULT_GUEST);
    let spec = Spec {
        guest: guest.or(default).map(str::to_owned),
        kernel: options.kernel.clone(),
        firmware: options.firmware.clone(),
        initrd: options.initrd.clone(),
        append: options.append.clone(),
        ..Spec::default()
    };
    Ok(vec![spec.checked()?])
}

/// Where the archive of these machines goes.
fn archive(specs: &[Spec], target: &Path) -> Result<PathBuf> {
    let folder = target.join("vms");
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    let guests = specs.iter().map(|spec| spec.guest.as_deref());
    let names: Vec<_> = guests.map(|guest| guest.unwrap_or("own")).collect();
    Ok(folder.join(format!("{}.cpio", names.join("+"))))
}

fn machine(options: &QemuOptions, specs: &[Spec], purpose: Purpose) -> Result<Machine> {
    Ok(Machine {
        cpu: options.cpu.clone(),
        cpus: options.cpus,
        memory: options.memory,
        hyp_args: hyp_args(options, specs, purpose)?.to_string(),
        extra: options.extra.clone(),
    })
}

fn hyp_args(options: &QemuOptions, specs: &[Spec], purpose: Purpose) -> Result<HypArgs> {
    let mut args = HypArgs::parse(&options.hyp_args)?;
    args.option("vcpus", "--vcpus", options.vcpus.map(|n| n.to_string()))?;
    let guest_memory = options.guest_memory.map(|size| size.to_string());
    args.option("guest-memory", "--guest-memory", guest_memory)?;
    let stress = Spec::of_guest("stress");
    let is_stress = specs == [stress];
    if is_stress && purpose != Purpose::Console {
        args.default("guest-args", UNTIL_LEFT);
    }
    let defaults = if is_stress {
        &STRESS_DEFAULTS[..]
    } else if specs == [Spec::of_guest("dirty")] {
        &DIRTY_DEFAULTS[..]
    } else if specs.iter().any(Spec::is_linux) {
        &LINUX_DEFAULTS[..]
    } else if specs.iter().any(Spec::is_debian) {
        &DEBIAN_DEFAULTS[..]
    } else {
        &[]
    };
    for (key, value) in defaults {
        args.default(key, value);
    }
    if options.trace.is_some() || purpose == Purpose::Top {
        let is_raw = bootargs::parse(&options.hyp_args, &mut |_| {}).console == ConsoleMode::Raw;
        if is_raw {
            bail!(
                "trace events come over the console only with console=lines; leave out console=raw, or --trace"
            );
        }
        args.default("trace", trace_tools::DEFAULT);
    } else if is_for_typing(specs) && io::stdin().is_terminal() {
        args.default("console", "raw");
    }
    Ok(args)
}

/// Whether there is one machine, with a shell and no test: its output is for a terminal, and is not
/// judged.
fn is_for_typing(specs: &[Spec]) -> bool {
    let is_test = |word: &str| word.starts_with("test=");
    matches!(specs, [spec] if spec.is_debian()
        && !spec.append.as_deref().is_some_and(|text| text.split_whitespace().any(is_test)))
}

/// How long the console may be silent from the start before that is remarked upon.
const SILENCE: Duration = Duration::from_secs(10);

/// The console on standard output, lines shown as they grow.
struct Stdout {
    /// When the console was opened, until something comes over it or its silence is remarked upon.
    silent_since: Option<Instant>,
    /// Whether Ctrl-C is the guest's.
    is_raw: bool,
    /// Where all that comes is kept.
    recording: Option<Recorder>,
    /// What is piped in, where that is no terminal.
    script: Option<Script>,
    /// How many bytes of the line that is growing are on the screen.
    shown: usize,
    /// Why nothing is shown any more.
    failed: Option<io::Error>,
}

impl Stdout {
    fn new(recording: Option<Recorder>, is_raw: bool, script: Option<Script>) -> Self {
        let silent_since = Some(Instant::now());
        Self {
            silent_since,
            is_raw,
            recording,
            script,
            shown: 0,
            failed: None,
        }
    }

    /// Ends a line that was left open.
    fn end_line(&mut self) {
        if std::mem::take(&mut self.shown) > 0 {
            self.write("\n");
        }
    }

    /// Ends a line that was left open, and the recording, whose place is returned.
    ///
    /// # Errors
    ///
    /// When some of the console was not recorded, or not shown.
    fn finish(mut self) -> Result<Option<PathBuf>> {
        self.end_line();
        let recorded = self.recording.map(Recorder::end).transpose()?;
        let shown = self.failed.map_or(Ok(()), |error| Err(Error::from(error)));
        shown.context("the console could not be shown whole")?;
        Ok(recorded)
    }

    fn write(&mut self, text: &str) {
        if self.failed.is_some() {
            return;
        }
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Nobody reads on: the run's verdict is still worth having.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => self.failed = Some(error),
            _ => {}
        }
    }
}

/// A shell's question to its terminal where the cursor is (BusyBox asks after each prompt), as the
/// hypervisor shows it.
const CURSOR_QUERY: &str = r"\u{1b}[6n";

/// A line, or its start, without what a guest asks its terminal: what is shown as lines has none
/// that could answer.
fn without_queries(line: &str) -> Cow<'_, str> {
    match line.contains(CURSOR_QUERY) {
        true => line.replace(CURSOR_QUERY, "").into(),
        false => line.into(),
    }
}

/// The start of a line, without a query of which only the beginning has come.
fn without_half_query(start: &str) -> &str {
    let mut halves = (1..CURSOR_QUERY.len())
        .rev()
        .map(|end| &CURSOR_QUERY[..end]);
    halves
        .find_map(|half| start.strip_suffix(half))
        .unwrap_or(start)
}

impl Screen for Stdout {
    fn line(&mut self, line: &str) {
        self.silent_since = None;
        if let Some(script) = &mut self.script {
            script.line(line);
        }
        let line = &*without_queries(line);
        let shown = std::mem::take(&mut self.shown);
        let rest = line.get(shown..).unwrap_or(line);
        self.write(&format!("{rest}\n"));
    }

    fn message(&mut self, line: &str) {
        self.end_line();
        eprintln!("{line}");
    }

    fn raw(&mut self, bytes: &[u8]) {
        let recording = self.recording.as_mut();
        if let Some(said) = recording.and_then(|recording| recording.add(bytes)) {
            eprintln!("{said}");
        }
    }

    fn partial(&mut self, start: &str) {
        if self
            .silent_since
            .is_some_and(|start| start.elapsed() > SILENCE)
        {
            self.silent_since = None;
            let end = if self.is_raw { "Ctrl-A q" } else { "Ctrl-C" };
            eprintln!("Nothing has come over the console so far. {end} ends QEMU.");
        }
        if let Some(script) = &mut self.script {
            script.paused(start);
        }
        let start = &*without_queries(without_half_query(start.trim_end_matches('\r')));
        if io::stdout().is_terminal() && start.len() > self.shown {
            let rest = start.get(self.shown..).unwrap_or_default();
            self.write(rest);
            self.shown = start.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn args(words: &[&str]) -> Result<String> {
        let cli = Cli::try_parse_from(["cargo xtask", "qemu"].iter().chain(words))?;
        match cli.verb {
            Some(Verb::Qemu(options)) => machine(&options, &specs(&options)?, Purpose::Console)
                .map(|machine| machine.hyp_args),
            other => panic!("{other:?} is not `qemu`"),
        }
    }

    #[test]
    fn questions_about_the_cursor_are_not_shown() {
        assert_eq!(without_queries(r"vm0| / # \u{1b}[6nls"), "vm0| / # ls");
        for half in [r"vm0| / # \u{1b}[6", r"vm0| / # \u", "vm0| / # "] {
            assert_eq!(without_half_query(half), "vm0| / # ");
        }
        let coloured = r"vm0| \u{1b}[33mShell> ";
        assert_eq!(without_queries(coloured), coloured);
    }

    #[test]
    fn a_console_over_which_no_event_comes_is_not_recorded() {
        let raw = ["--trace", "r", "--hyp-args", "console=raw"];
        let error = args(&raw).expect_err("a refusal").to_string();
        assert!(error.contains("leave out console=raw"), "{error}");
        args(&["--trace", "r", "--hyp-args", "console=lines"]).expect("a recording");
        args(&["--hyp-args", "console=raw"]).expect("a console");
    }

    #[test]
    fn guests_have_what_they_are_there_to_show() {
        let expected = "compaction=stress guest-args=\"seconds=10 seed=1\"";
        assert_eq!(args(&[]).expect("defaults"), expected);
        assert_eq!(
            args(&["--guest", "dirty"]).expect("options"),
            "table-calls=on"
        );
        assert_eq!(args(&["--guest", "hello"]).expect("options"), "");
        assert_eq!(args(&["--kernel", "Image"]).expect("options"), "");
        let linux = ["--vm", "guest=hello", "--vm", "guest=linux"];
        let expected = "guest-memory=512M compaction=stress";
        assert_eq!(args(&linux).expect("options"), expected);
        let edk2 = args(&["--guest", "edk2"]).expect("options");
        assert_eq!(edk2, "guest-memory=512M");
    }

    #[test]
    fn a_shell_is_for_typing_unless_it_runs_a_test() {
        let linux = |append: Option<&str>| {
            let append = append.map(str::to_owned);
            is_for_typing(&[Spec {
                append,
                ..Spec::of_guest("linux")
            }])
        };
        assert!(linux(None) && linux(Some("quiet")));
        assert!(!linux(Some("quiet test=memcheck seconds=3")));
        assert!(!is_for_typing(&[Spec::of_guest("hello")]));
    }

    #[test]
    fn what_can_be_done_with_a_recording_depends_on_its_events() {
        let said = |list: &str| {
            let traced = Categories::parse(list).expect("events");
            what_to_do(Path::new("a b"), traced)
        };
        let check = "'a b'; check it with `cargo xtask trace 'a b' --check`";
        let look = "look at it with `cargo xtask trace 'a b'` or `cargo xtask report 'a b'`";
        assert_eq!(said("replay"), check);
        assert_eq!(said("all"), format!("'a b'; {look}"));
        assert_eq!(said("replay,fault"), format!("{check}, or {look}"));
    }

    #[test]
    fn a_console_that_was_not_kept_is_an_error_beside_no_other() {
        let lost = || Err(Error::msg("lost"));
        assert_eq!(status(&Outcome::Left, Ok(())).expect("a status"), 0);
        assert!(status(&Outcome::Left, lost()).is_err());
        assert_eq!(status(&Outcome::TimedOut, lost()).expect("a status"), 3);
    }

    #[test]
    fn the_user_has_the_last_word() {
        let words = [
            "--hyp-args",
            "compaction=off guest-args=seconds=3",
            "--vcpus",
            "2",
        ];
        assert_eq!(
            args(&words).expect("options"),
            "compaction=off guest-args=seconds=3 vcpus=2"
        );
        assert!(args(&["--hyp-args", "vcpus=1", "--vcpus", "2"]).is_err());
        let slip = args(&["--hyp-args", "compation=off"]).expect_err("a slip");
        assert!(slip.to_string().contains("compaction=on|off|stress"));
    }
}
