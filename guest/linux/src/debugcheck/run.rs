//! What is done, by how many processes, and for how long.

use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use guest_linux::{OWN_FILE, as_option, give_verdict};
use plural::count;

use crate::probe;
use crate::tracer::{Counts, Tracer};

/// Debug programs, and print a verdict
///
/// Options can be given as on the kernel's command line, too: seconds=20 for --seconds 20.
#[derive(Debug, Parser)]
#[command(name = "debugcheck")]
struct Options {
    /// How long programs are stepped through
    #[arg(long, default_value_t = 5)]
    seconds: u64,

    /// How many processes do so [default: two for each CPU]
    #[arg(long)]
    processes: Option<u64>,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What this process is for another one.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Role {
    /// One of the processes, with this number
    #[command(hide = true)]
    Worker { index: u64 },
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let options = Options::parse_from(std::env::args_os().map(as_option));
    match options.role {
        None => give_verdict(&lead(&options)),
        Some(Role::Worker { index }) => {
            if let Err(error) = work(options.seconds, index) {
                println!("debugcheck: process {index}: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn lead(options: &Options) -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let processes = options.processes.unwrap_or(2 * cpus).max(1);
    println!(
        "debugcheck: {} on {}, {} s",
        count(processes, "process", "processes"),
        count(cpus, "CPU", "CPUs"),
        options.seconds
    );
    let children: Vec<_> = (0..processes)
        .map(|index| start(options.seconds, index))
        .collect();
    let children = children.into_iter().collect::<Result<Vec<_>>>()?;
    let results: Vec<_> = children.into_iter().map(finish).collect();
    results.into_iter().collect::<Result<()>>()?;
    let hits = probe::check(cpus as usize + 1)?;
    println!("debugcheck: {} of uprobes", count(hits, "hit", "hits"));
    Ok(())
}

fn start(seconds: u64, index: u64) -> Result<Child> {
    let mut command = Command::new(OWN_FILE);
    command
        .args(["--seconds", &seconds.to_string()])
        .args(["worker", &index.to_string()]);
    command.spawn().context("could not start a process")
}

fn finish(mut child: Child) -> Result<()> {
    let status = child.wait().context("could not wait for a process")?;
    if !status.success() {
        bail!("a process ended with {status}");
    }
    Ok(())
}

/// Traces one child after the other until the time is over, at least one.
fn work(seconds: u64, index: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut sum = Counts::default();
    let mut slots = (0, 0);
    for round in usize::try_from(index)?.. {
        let tracer = Tracer::start()?;
        slots = tracer.slots()?;
        sum += tracer.run(round)?;
        if Instant::now() >= end {
            break;
        }
    }
    let (breakpoints, watchpoints) = slots;
    println!(
        "debugcheck: process {index}: {} steps, {} hits of {breakpoints} breakpoints, {} hits of {watchpoints} watchpoints",
        sum.steps, sum.breakpoints, sum.watchpoints
    );
    Ok(())
}
