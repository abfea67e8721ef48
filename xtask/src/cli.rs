//! The command line: one documented variant for each verb.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, Styles, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use trace_tools::options::{ReportOptions, TraceOptions};

use crate::qemu::{self, CpuModel, DEFAULT_CPU, MOST_CPUS};
use crate::shard::Shard;
use crate::size::Size;
use crate::test::Only;
use crate::vms::Spec;

/// What follows the help of `cargo xtask`.
const EXAMPLES: &str = "\
Examples:
  cargo xtask qemu                        The stress guest on 4 CPUs, compaction racing it
  cargo xtask qemu --guest hello          The smallest guest
  cargo xtask qemu --guest linux          Debian's kernel and a shell
  cargo xtask qemu --vm guest=linux,vcpus=2 --vm guest=linux --vm guest=hello
  cargo xtask qemu --cpu max --cpus 8 --hyp-args 'compaction=off log=debug'
  cargo xtask qemu --timeout 60 -- -d int -D qemu.log
  cargo xtask qemu --trace race.trace     Record what the tables did, then look at it:
  cargo xtask trace race.trace
  cargo xtask report race.trace
  cargo xtask top                         See it live
  cargo xtask gdb                         Stop it, and look at its tables
  cargo xtask test --quick                What to run before a commit
  cargo xtask test                        What has to pass before a change lands

`cargo xtask VERB --help` says more about a verb.";

/// What follows the help of `cargo xtask qemu`.
const EXIT_STATUS: &str = "\
Exit status:
  0    the guest passed, or powered off without a verdict
  1    the guest failed, the hypervisor stopped it, or QEMU ended too soon
  2    wrong usage, or set-up or build failed, or QEMU refused to start
  3    time-out
  4    the hypervisor panicked
  130  Ctrl-C";

/// Build, boot and test Tessera.
///
/// Each verb first sets up what it needs and says what it installs: the Rust target
/// aarch64-unknown-none-softfloat (and for programs in a Linux guest aarch64-unknown-linux-musl)
/// through rustup, and QEMU 7.2 or newer (for the tests a browser and GDB, too) through apt-get
/// where that needs no question. Nothing else of the system is touched.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
#[command(styles = Styles::styled(), max_term_width = 100)]
pub struct Cli {
    /// What to do; without it, this help.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// A verb of the command line.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Boot the hypervisor and a guest in QEMU
    ///
    /// Builds both, boots them on QEMU's `virt` board with EL2 and a GICv3, and shows the console.
    /// The guest's power-off ends QEMU, and so does Ctrl-C, or Ctrl-A q where what is typed is the
    /// guest's (linux, installer, u-boot, edk2).
    #[command(after_help = EXIT_STATUS)]
    Qemu(Box<QemuOptions>),
    /// Boot as `qemu` does, and show live on the terminal what the tables do
    ///
    /// The guest's memory as a map, how often there are faults, collapses, splits, migrations and
    /// the like, what each CPU and vCPU is at, free frames, and the console's last lines. Takes the
    /// options of `qemu`; the stress guest runs for an hour. Keys: q quits, n shows the next
    /// machine, p pauses the picture, t types to the guest (Esc ends that), s has the hypervisor
    /// print its statistics.
    Top(Box<QemuOptions>),
    /// Boot as `qemu` does, stopped before the first instruction, with GDB at hand
    ///
    /// GDB has the symbols of the hypervisor and the command `tessera`: `help tessera` lists what
    /// it prints, such as a machine's stage-2 walk of an address, or a table with its lock and
    /// markers. `continue` starts the machine, Ctrl-C stops it, `quit` ends both. The console is
    /// kept in a file, which is named at the start. Takes the options of `qemu`; the stress guest
    /// runs for an hour. The first time the hypervisor is built anew, with all that a debugger
    /// wants to know.
    Gdb(Box<GdbOptions>),
    /// Build the images that boot, and print where they are
    ///
    /// The hypervisor and every guest, as flat binaries for QEMU's -kernel and -initrd. The ELFs
    /// with their symbols lie beside them.
    Build,
    /// Run every test: formatting, lints, documentation, host, model and boot tests
    ///
    /// Ends in a table and a line `N passed, N failed`. What a step printed is kept under
    /// target/test-logs/, the consoles of the boot tests under target/boot-tests/. Builds go to
    /// target/test/, so that other verbs do not wait for them, and change nothing of what is
    /// tested. The exit status is 0 when everything passed, 1 when something failed and 2 when
    /// set-up failed.
    Test(TestOptions),
    /// Measure what exits and faults cost, in instructions
    ///
    /// Boots the guest touch on cortex-a57 and max with QEMU's -icount, which makes time a count of
    /// instructions, and prints a table with what other hypervisors take beside it.
    Bench(BenchOptions),
    /// Take the rules of the table protocol out, one at a time, and show that tests notice
    ///
    /// Each patch in hyp/stage2/tests/mutations takes one rule out of a copy of the source and
    /// names the tests of the model checker that must fail without it. What they print is kept
    /// under target/rules/. Takes a quarter of an hour or more. The exit status is 0 when every
    /// rule was noticed missing and 1 when one was not.
    Rules(RulesOptions),
    /// Show a recording of trace events: sums, percentiles, or every event
    ///
    /// Record one with `cargo xtask qemu --trace FILE`.
    Trace(TraceOptions),
    /// Draw a recording of trace events: one page of HTML
    ///
    /// The machines' memory over time, what happened when, how long faults took, and figures. The
    /// page needs nothing but a browser.
    Report(ReportOptions),
    /// Build the documentation: of the crates, and the book
    ///
    /// Prints where they begin. The book's chapters are in hyp/doc/src.
    Doc,
    /// Install what the other verbs need, and nothing else
    ///
    /// The Rust targets, rustfmt, Clippy and QEMU, which are needed, and what the tests can do
    /// without: Miri on Rust nightly, Chromium, which draws reports, and GDB. Guests that come from
    /// Debian are fetched when they are booted. The other verbs do the same by themselves.
    Setup,
}

/// Which QEMU is run.
#[derive(Args, Clone, Debug, Default)]
pub struct QemuProgram {
    /// The QEMU to run: a program, or a script that runs one [default: qemu-system-aarch64]
    #[arg(
        long = "qemu",
        id = "qemu_program",
        value_name = "PATH",
        env = qemu::VARIABLE,
        hide_env_values = true,
        value_parser = OsStringValueParser::new().try_map(program)
    )]
    pub named: Option<PathBuf>,
}

/// The options of `cargo xtask qemu`.
#[derive(Args, Debug)]
pub struct QemuOptions {
    /// Which QEMU
    #[command(flatten)]
    pub program: QemuProgram,

    /// The guest: hello, stress, chaos, interrupts, touch, dirty, sweep, placed, linux, installer,
    /// u-boot or edk2 [default: stress, or --kernel]
    ///
    /// linux (Debian's kernel with BusyBox), installer (Debian's), u-boot and edk2 are fetched with
    /// apt into the target directory, and nothing of the system is changed.
    #[arg(long, value_name = "NAME")]
    pub guest: Option<String>,

    /// A kernel of your own: an arm64 Image, as it is, packed with gzip or in an EFI zboot image,
    /// an ELF file, or a flat binary
    ///
    /// With `--guest linux` or `installer` it has the initial RAM disk of that.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,

    /// Firmware of your own, which starts from flash at address 0 and keeps its settings there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kernel", "initrd"])]
    pub firmware: Option<PathBuf>,

    /// An initial RAM disk of your own
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// The guest's boot arguments
    #[arg(long, value_name = "TEXT")]
    pub append: Option<String>,

    /// A virtual machine, or several: guest=linux,vcpus=2,memory=256M,append="a b", or a file
    ///
    /// Keys are name, guest, kernel, firmware, initrd, append, vcpus, memory and restarts (how
    /// often it is started again after it has switched itself off); a value with a comma is put in
    /// double quotes. A file has a line `key = value` for each; paths in it are relative to it.
    #[arg(
        long,
        value_name = "VM",
        value_parser = |text: &str| Spec::parse(text).map_err(|error| format!("{error:#}")),
        conflicts_with_all = ["guest", "kernel", "firmware", "initrd", "append"]
    )]
    pub vm: Vec<Spec>,

    /// The CPU model, with QEMU's properties after commas
    ///
    /// cortex-a57, cortex-a72, cortex-a76, neoverse-n1 and max are tested. Another one is passed
    /// on to QEMU with a warning; it needs EL2 and AArch64.
    #[arg(long, value_name = "MODEL", default_value = DEFAULT_CPU)]
    pub cpu: CpuModel,

    /// How many CPUs the machine has, 1 to 8
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count())]
    pub cpus: u32,

    /// The machine's RAM
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = machine_memory)]
    pub memory: Size,

    /// How many vCPUs a guest has, 1 to 8 [default: one for each CPU]
    #[arg(long, value_name = "N", value_parser = count())]
    pub vcpus: Option<u32>,

    /// A guest's RAM [default: the hypervisor's, 128M, or 512M for those of Debian]
    #[arg(long, value_name = "SIZE")]
    pub guest_memory: Option<Size>,

    /// Boot arguments of the hypervisor, such as 'log=debug compaction=off'
    ///
    /// One that is not known is refused, and the known ones are listed. The stress guest gets
    /// compaction=stress and guest-args="seconds=10 seed=1", and linux compaction=stress, unless
    /// this says otherwise.
    #[arg(
        long,
        value_name = "ARGUMENTS",
        default_value = "",
        hide_default_value = true
    )]
    pub hyp_args: String,

    /// Record trace events, with the console, in this file
    ///
    /// Without `trace=` in --hyp-args all but the entries and exits of vCPUs are traced.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// End the run after this time, with exit status 3 [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,

    /// More options for QEMU
    #[arg(last = true, value_name = "QEMU OPTIONS")]
    pub extra: Vec<OsString>,
}

/// The options of `cargo xtask gdb`.
#[derive(Args, Debug)]
pub struct GdbOptions {
    /// Have GDB run these commands and end, instead of asking for some; may be given several times
    ///
    /// Settings of your own are not read then, and Ctrl-C ends both. The exit status is GDB's.
    #[arg(long = "command", short = 'x', value_name = "COMMAND")]
    pub commands: Vec<String>,

    /// What to boot
    #[command(flatten)]
    pub qemu: QemuOptions,
}

/// The options of `cargo xtask test`.
#[derive(Args, Debug, Default)]
pub struct TestOptions {
    /// Which QEMU
    #[command(flatten)]
    pub program: QemuProgram,

    /// Leave out what takes long: 3 minutes on two idle CPUs, once all is built
    ///
    /// That is Miri, GDB and most boot tests; and the model checker interrupts a thread twice at
    /// most, instead of three times, which shows every race of which a rule is in the way.
    #[arg(long)]
    pub quick: bool,

    /// Run only these steps, or only some tests of them: --only boot hello-max
    ///
    /// The steps: fmt, clippy, docs, host, model, miri, browser, debugger, boot. A word that is no
    /// step chooses the tests of the steps whose name contains it; fmt, clippy and docs are run as
    /// a whole.
    #[arg(long, value_name = "STEP|NAME", num_args = 1..)]
    pub only: Vec<Only>,

    /// List the tests instead of running them, each after its step; they are built for that
    #[arg(long)]
    pub list: bool,

    /// Run the I-th of N parts: all N together run every test once
    ///
    /// Each part has every N-th boot test; the other steps are dealt out, each to one part.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,

    /// Write what came of each test to this file as well, in JUnit's format
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Write what came of each test to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Where logs and consoles go, in the folders test-logs and boot-tests [default: target]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,

    /// Install nothing: fail if something needed is missing, and leave out what needs the rest
    #[arg(long)]
    pub no_install: bool,
}

/// The options of `cargo xtask bench`.
#[derive(Args, Debug)]
pub struct BenchOptions {
    /// Which QEMU
    #[command(flatten)]
    pub program: QemuProgram,

    /// Boot Linux to its shell too, as a guest and without a hypervisor: some seconds each
    #[arg(long)]
    pub linux: bool,

    /// Write the figures to this file as well, as JSON: {"cortex-a57": {"hvc": 99.0, ...}, ...}
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Show what has changed since the figures in this file, which --json wrote
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
}

/// The options of `cargo xtask rules`.
#[derive(Args, Debug)]
pub struct RulesOptions {
    /// Only the rules whose patch's name contains one of these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// The QEMU that is named, by the option or the variable.
fn program(path: OsString) -> Result<PathBuf, String> {
    let variable = qemu::VARIABLE;
    let is_empty = |value: OsString| value.is_empty();
    if !path.is_empty() {
        Ok(path.into())
    } else if env::var_os(variable).is_some_and(is_empty) {
        Err(format!(
            "the variable {variable} is set, and empty; unset it, or have it name a program"
        ))
    } else {
        Err("name a program".to_owned())
    }
}

/// The RAM of a machine that has room for the hypervisor.
fn machine_memory(text: &str) -> Result<Size, String> {
    let size: Size = text.parse()?;
    match size < qemu::LEAST_MEMORY {
        true => Err(format!("the hypervisor alone needs {}", qemu::LEAST_MEMORY)),
        false => Ok(size),
    }
}

/// A number of CPUs.
fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MOST_CPUS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian;
    use crate::test::StepName;
    use clap::{CommandFactory, ValueEnum};
    use std::collections::BTreeSet;

    fn qemu(args: &[&str]) -> Result<QemuOptions, clap::Error> {
        let words = ["cargo xtask", "qemu"].iter().chain(args);
        Cli::try_parse_from(words).map(|cli| match cli.verb {
            Some(Verb::Qemu(options)) => *options,
            other => panic!("{other:?} is not `qemu`"),
        })
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_verb_is_no_error() {
        assert!(Cli::try_parse_from(["cargo xtask"]).is_ok_and(|cli| cli.verb.is_none()));
    }

    #[test]
    fn events_are_known_by_name() {
        let trace = |event| Cli::try_parse_from(["cargo xtask", "trace", "file", "--event", event]);
        assert!(trace("split").is_ok() && trace("Split").is_ok());
        let error = trace("splt").expect_err("no such event").to_string();
        assert!(error.contains("collapse, "), "{error}");
    }

    #[test]
    fn tests_are_chosen_by_step_and_name() {
        let words = [
            "cargo xtask",
            "test",
            "--only",
            "boot",
            "hello-max",
            "--shard",
            "2/3",
        ];
        let Some(Verb::Test(options)) = Cli::parse_from(words).verb else {
            panic!("`test`");
        };
        assert_eq!(
            options.only,
            [
                Only::Step(StepName::Boot),
                Only::Named("hello-max".to_owned())
            ]
        );
        assert_eq!(
            options.shard.map(|shard| shard.to_string()).as_deref(),
            Some("2/3")
        );
    }

    #[test]
    fn the_help_lists_every_guest() {
        let mut cli = Cli::command();
        let qemu = cli.find_subcommand_mut("qemu").expect("`qemu`");
        let help = qemu.render_long_help().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, after) = words.split_once("The guest: ").expect("a list");
        let (list, _) = after.split_once(" [").expect("its end");
        let listed: BTreeSet<_> = list
            .split([',', ' '])
            .filter(|word| *word != "or")
            .collect();
        let ours = guest::catalogue::GUESTS.iter().map(|guest| guest.name);
        for name in ours.chain(debian::GUESTS) {
            assert!(listed.contains(name), "{name} is not in: {list}");
        }
    }

    #[test]
    fn the_help_of_tests_lists_every_step() {
        let mut cli = Cli::command();
        let test = cli.find_subcommand_mut("test").expect("`test`");
        let help = test.render_long_help().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let steps: Vec<_> = StepName::value_variants()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            words.contains(&format!("The steps: {}.", steps.join(", "))),
            "{words}"
        );
    }

    #[test]
    fn defaults() {
        let options = qemu(&[]).expect("no options");
        assert_eq!((options.guest, options.cpus), (None, 4));
        assert!(options.cpu.is_tested());
        assert!(options.vcpus.is_none() && options.timeout.is_none());
    }

    #[test]
    fn values_are_checked() {
        for wrong in [
            ["--cpus", "0"],
            ["--cpus", "9"],
            ["--vcpus", "x"],
            ["--memory", "512"],
            ["--memory", "1M"],
            ["--guest-memory", "0M"],
            ["--guest-memory", "131073K"],
            ["--timeout", "0"],
            ["--cpu", "a b"],
            ["--cpu", "cortex-a15"],
            ["--vm", "guest=linux,vcpus=9"],
            ["--vm", "guest=linux,memory=131073K"],
        ] {
            let error = qemu(&wrong).expect_err(wrong[0]);
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn machines_are_asked_for_one_by_one_or_as_a_guest() {
        let options = qemu(&["--vm", "guest=hello", "--vm", "guest=linux"]).expect("options");
        assert_eq!(options.vm.len(), 2);
        assert!(qemu(&["--vm", "guest=hello", "--guest", "hello"]).is_err());
        assert!(qemu(&["--kernel", "Image", "--append", "x"]).is_ok());
    }

    #[test]
    fn the_rest_is_for_qemu() {
        let options = qemu(&["--cpus", "2", "--", "-d", "int", "--cpu"]).expect("options");
        assert_eq!(options.extra, ["-d", "int", "--cpu"]);
        assert!(qemu(&["-d", "int"]).is_err());
    }
}
