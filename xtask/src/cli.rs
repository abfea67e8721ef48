//! The command line: one documented variant for each verb.

use std::ffi::OsString;

use clap::builder::Styles;
use clap::{Args, Parser, Subcommand};

use crate::qemu::{CpuModel, DEFAULT_CPU, MOST_CPUS};
use crate::size::Size;
use crate::test::StepName;

/// What follows the help of `cargo xtask`.
const EXAMPLES: &str = "\
Examples:
  cargo xtask qemu                        The stress guest on 4 CPUs, compaction racing it
  cargo xtask qemu --guest hello          The smallest guest
  cargo xtask qemu --cpu max --cpus 8 --hyp-args 'compaction=off log=debug'
  cargo xtask qemu --timeout 60 -- -d int -D qemu.log
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
/// aarch64-unknown-none-softfloat through rustup, and QEMU 7.2 or newer through apt-get where that
/// needs no question. Nothing else of the system is touched.
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
    /// The guest's power-off ends QEMU, and so does Ctrl-C.
    #[command(after_help = EXIT_STATUS)]
    Qemu(QemuOptions),
    /// Build the images that boot, and print where they are
    ///
    /// The hypervisor and every guest, as flat binaries for QEMU's -kernel and -initrd. The ELFs
    /// with their symbols lie beside them.
    Build,
    /// Run every test: formatting, lints, documentation, host, model and boot tests
    ///
    /// Ends in a table and a line `N passed, N failed`. What a step printed is kept under
    /// target/test-logs/, the consoles of the boot tests under target/boot-tests/. The exit status
    /// is 0 when everything passed, 1 when something failed and 2 when set-up failed.
    Test(TestOptions),
    /// Take the rules of the table protocol out, one at a time, and show that tests notice
    ///
    /// Each patch in hyp/stage2/tests/rules takes one rule out of a copy of the source and names the
    /// tests of the model checker that must fail without it. What they print is kept under
    /// target/rules/. Takes a quarter of an hour or more. The exit status is 0 when every rule was
    /// noticed missing and 1 when one was not.
    Rules(RulesOptions),
    /// Install what the other verbs need, and nothing else
    ///
    /// The Rust target, rustfmt, Clippy and QEMU, which are needed, and Miri on Rust nightly, which
    /// the tests can do without. The other verbs do the same by themselves.
    Setup,
}

/// The options of `cargo xtask qemu`.
#[derive(Args, Debug)]
pub struct QemuOptions {
    /// The guest: hello, stress or touch
    #[arg(long, value_name = "NAME", default_value = "stress")]
    pub guest: String,

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
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub memory: Size,

    /// How many vCPUs the guest has, 1 to 8 [default: one for each CPU]
    #[arg(long, value_name = "N", value_parser = count())]
    pub vcpus: Option<u32>,

    /// The guest's RAM [default: the hypervisor's, 128M]
    #[arg(long, value_name = "SIZE")]
    pub guest_memory: Option<Size>,

    /// Boot arguments of the hypervisor, such as 'log=debug compaction=off'
    ///
    /// The console lists the known ones when it meets one that is unknown. The stress guest gets
    /// compaction=stress and guest-args="seconds=10 seed=1" unless this says otherwise.
    #[arg(
        long,
        value_name = "ARGUMENTS",
        default_value = "",
        hide_default_value = true
    )]
    pub hyp_args: String,

    /// End the run after this time, with exit status 3 [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,

    /// More options for QEMU
    #[arg(last = true, value_name = "QEMU OPTIONS")]
    pub extra: Vec<OsString>,
}

/// The options of `cargo xtask test`.
#[derive(Args, Debug)]
pub struct TestOptions {
    /// Leave out what takes long, to be done in under 5 minutes
    #[arg(long)]
    pub quick: bool,

    /// Run only these steps
    #[arg(long, value_name = "STEP", num_args = 1.., value_enum)]
    pub only: Vec<StepName>,
}

/// The options of `cargo xtask rules`.
#[derive(Args, Debug)]
pub struct RulesOptions {
    /// Only the rules whose patch's name contains one of these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// A number of CPUs.
fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MOST_CPUS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn qemu(args: &[&str]) -> Result<QemuOptions, clap::Error> {
        let words = ["cargo xtask", "qemu"].iter().chain(args);
        Cli::try_parse_from(words).map(|cli| match cli.verb {
            Some(Verb::Qemu(options)) => options,
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
    fn defaults() {
        let options = qemu(&[]).expect("no options");
        assert_eq!((options.guest.as_str(), options.cpus), ("stress", 4));
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
            ["--guest-memory", "0M"],
            ["--timeout", "0"],
            ["--cpu", "a b"],
        ] {
            let error = qemu(&wrong).expect_err(wrong[0]);
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn the_rest_is_for_qemu() {
        let options = qemu(&["--cpus", "2", "--", "-d", "int", "--cpu"]).expect("options");
        assert_eq!(options.extra, ["-d", "int", "--cpu"]);
        assert!(qemu(&["-d", "int"]).is_err());
    }
}
