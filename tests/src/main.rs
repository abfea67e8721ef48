//! `boot-tests`: builds the images, runs the boot tests and says how they went, in the words of
//! Rust's own test runner. `cargo xtask test` runs it; a part of the tests can be run with
//! `cargo run -p tests -- NAME...`.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use tests::catalogue::catalogue;
use tests::runner::{End, Report, run_all};
use tests::scenario::Scenario;
use xtask::build::{self, Images};
use xtask::cli::QemuProgram;
use xtask::vms::{self, Sources};
use xtask::workspace::Workspace;
use xtask::{interrupt, qemu, setup};

/// Boot Tessera and its guests in QEMU, and judge what comes over the console
///
/// Each test leaves a folder target/boot-tests/NAME with its command line and console.
#[derive(Debug, Parser)]
#[command(name = "boot-tests")]
struct Options {
    /// Run only the quick ones
    #[arg(long)]
    quick: bool,

    /// List the tests instead of running them
    #[arg(long)]
    list: bool,

    /// How many run side by side
    #[arg(long, value_name = "N", default_value = "2")]
    jobs: NonZeroUsize,

    /// Which QEMU
    #[command(flatten)]
    program: QemuProgram,

    /// Run only the tests whose name contains one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match interrupt::catch().and_then(|()| run(&options)) {
        Ok(_) | Err(_) if interrupt::raised() => ExitCode::from(interrupt::EXIT_STATUS),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every test passed.
fn run(options: &Options) -> Result<bool> {
    let scenarios = chosen(options);
    if scenarios.is_empty() {
        bail!("no boot test is called so; `--list` shows them all");
    }
    if options.list {
        scenarios.iter().for_each(describe);
        return Ok(true);
    }
    qemu::choose(options.program.named.as_deref());
    setup::for_boot()?;
    let images = Images::build()?;
    let firmware = build::firmware()?;
    let target = Workspace::load()?.kept_directory();
    let specs: Result<Vec<_>> = scenarios.iter().map(Scenario::specs).collect();
    let debian = vms::debian(&specs?.concat(), &target);
    let sources = Sources {
        images: &images,
        debian: &debian,
    };
    let folders = target.join("boot-tests");
    let asked = scenarios.len();
    let reports = run_all(scenarios, &sources, &firmware.flat, &folders, options.jobs);
    Ok(conclude(&reports, asked))
}

fn chosen(options: &Options) -> Vec<Scenario> {
    let mut scenarios = catalogue();
    scenarios.retain(|scenario| {
        let named = |name: &String| scenario.name.contains(name.as_str());
        let by_name = options.names.is_empty() || options.names.iter().any(named);
        by_name && (scenario.quick || !options.quick)
    });
    scenarios
}

fn describe(scenario: &Scenario) {
    let Scenario {
        name,
        vms,
        cpu,
        cpus,
        memory,
        hyp_args,
        ..
    } = scenario;
    let vms = vms.join(" + ");
    println!("{name:<22} {cpus} x {cpu:<12} {memory:<5} {hyp_args} {vms}");
}

/// Says what failed and how many of those asked for, and returns whether nothing did.
fn conclude(reports: &[Report], asked: usize) -> bool {
    let ended_as = |end| reports.iter().filter(move |report| report.end == end);
    for report in ended_as(End::Failed) {
        println!("---- {}, the end of its console ----", report.name);
        report.tail.iter().for_each(|line| println!("{line}"));
    }
    for report in ended_as(End::Failed) {
        println!(
            "---- {} failed, see {} ----",
            report.name,
            report.folder.display()
        );
        report.wrong.iter().for_each(|reason| println!("{reason}"));
    }
    let [passed, failed, cut] =
        [End::Passed, End::Failed, End::Interrupted].map(|end| ended_as(end).count());
    println!("{}", sum(passed, failed, cut, asked - reports.len()));
    failed == 0
}

/// The line that says how many passed, failed, were cut short and have not been run.
fn sum(passed: usize, failed: usize, cut: usize, left: usize) -> String {
    let interrupted = cut > 0 || left > 0;
    let verdict = match failed {
        0 if interrupted => "interrupted",
        0 => "ok",
        _ => "FAILED",
    };
    let mut text = format!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    if interrupted {
        text += &format!("; {cut} cut short; {left} not run");
    }
    text
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_interrupted_run_has_not_failed() {
        let text = sum(3, 0, 2, 40);
        assert_eq!(
            text,
            "test result: interrupted. 3 passed; 0 failed; 0 ignored; 2 cut short; 40 not run"
        );
        assert_eq!(
            sum(3, 0, 0, 0),
            "test result: ok. 3 passed; 0 failed; 0 ignored"
        );
        assert!(sum(3, 1, 1, 0).contains("FAILED"));
    }
}
