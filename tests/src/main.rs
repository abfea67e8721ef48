//! `boot-tests`: builds the images, runs the boot tests and says how they went, in the words of
//! Rust's own test runner. `cargo xtask test` runs it; a part of the tests can be run with
//! `cargo run -p tests -- NAME...`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use tests::catalogue::catalogue;
use tests::runner::{Report, run_all};
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
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,

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
    let target = Workspace::load()?.target_directory();
    let specs: Result<Vec<_>> = scenarios.iter().map(Scenario::specs).collect();
    let debian = vms::debian(&specs?.concat(), &target);
    let sources = Sources {
        images: &images,
        debian: &debian,
    };
    let folders = target.join("boot-tests");
    let reports = run_all(scenarios, &sources, &firmware.flat, &folders, options.jobs);
    Ok(conclude(&reports))
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

/// Says what failed and how many, and returns whether nothing did.
fn conclude(reports: &[Report]) -> bool {
    let (passed, failed): (Vec<_>, Vec<_>) = reports.iter().partition(|report| report.passed());
    for report in &failed {
        println!("---- {}, the end of its console ----", report.name);
        report.tail.iter().for_each(|line| println!("{line}"));
    }
    for report in &failed {
        println!(
            "---- {} failed, see {} ----",
            report.name,
            report.folder.display()
        );
        report.wrong.iter().for_each(|reason| println!("{reason}"));
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let (passed, failed) = (passed.len(), failed.len());
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    failed == 0
}
