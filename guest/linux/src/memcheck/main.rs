//! `memcheck`: looks after most of a Linux system's memory from user space, for a while, and says
//! whether all of it stayed as it was written.
//!
//! Several processes at once fill areas with patterns, verify them, map and unmap, protect,
//! discard, copy, fork and run programs, in an order that the seed decides. It runs on any Linux;
//! in a guest it is a witness of what the hypervisor does to the memory below.
//!
//! - [`pattern`]: what areas are filled with; - [`area`]: mappings;
//! - [`worker`]: what one process does; - [`random`]: its dice.

mod area;
mod pattern;
mod random;
mod worker;

use std::fs;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use guest_linux::{OWN_FILE, as_option, give_verdict};
use plural::count;

use worker::{Plan, Worker};

/// Check memory from user space, and print a verdict
///
/// Options can be given as on the kernel's command line, too: seconds=20 for --seconds 20.
#[derive(Debug, Parser)]
#[command(name = "memcheck")]
struct Options {
    /// How long, once memory is filled
    #[arg(long, default_value_t = 20)]
    seconds: u64,

    /// What the order and the patterns depend on
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many processes [default: two for each CPU]
    #[arg(long)]
    processes: Option<u64>,

    /// How much of the memory that is available, in percent
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u64).range(1..=90))]
    percent: u64,

    #[command(subcommand)]
    role: Option<Role>,
}

/// What this process is for another one.
#[derive(Debug, Subcommand)]
enum Role {
    /// One of the processes, with this number and so many bytes
    #[command(hide = true)]
    Worker { index: u64, bytes: usize },
    /// A program that a process runs, to be done soon
    #[command(hide = true)]
    Program { pattern: u64 },
}

fn main() -> ExitCode {
    let options = Options::parse_from(std::env::args_os().map(as_option));
    let result = match options.role {
        None => lead(&options),
        Some(Role::Worker { index, bytes }) => work(&options, index, bytes),
        Some(Role::Program { pattern }) => worker::program(pattern),
    };
    match (result, options.role.is_none()) {
        (result, true) => give_verdict(&result),
        (Ok(()), false) => {}
        (Err(error), false) => {
            println!("memcheck: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs the processes and waits for them.
fn lead(options: &Options) -> Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let processes = options.processes.unwrap_or(2 * cpus).max(1);
    let bytes = available()? / 100 * options.percent / processes;
    println!(
        "memcheck: {} on {}, {} MiB each, {} s, seed {}",
        count(processes, "process", "processes"),
        count(cpus, "CPU", "CPUs"),
        bytes >> 20,
        options.seconds,
        options.seed
    );
    let children: Vec<_> = (0..processes)
        .map(|index| start(options, index, bytes))
        .collect();
    let mut children = children.into_iter().collect::<Result<Vec<_>>>()?;
    show_progress(options.seconds, &mut children);
    let results: Vec<_> = children.into_iter().map(finish).collect();
    results.into_iter().collect()
}

fn start(options: &Options, index: u64, bytes: u64) -> Result<Child> {
    let mut command = Command::new(OWN_FILE);
    command
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--seed", &options.seed.to_string()])
        .args(["worker", &index.to_string(), &bytes.to_string()]);
    command.spawn().context("could not start a process")
}

/// Says every minute that it goes on, until the time is over or a process has ended.
fn show_progress(seconds: u64, children: &mut [Child]) {
    for second in 1..seconds {
        std::thread::sleep(Duration::from_secs(1));
        let has_ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        if children.iter_mut().any(has_ended) {
            return;
        }
        if second % 60 == 0 {
            println!("memcheck: {second} s of {seconds}, all as it was written");
        }
    }
}

fn finish(mut child: Child) -> Result<()> {
    let status = child.wait().context("could not wait for a process")?;
    if !status.success() {
        bail!("a process ended with {status}");
    }
    Ok(())
}

fn work(options: &Options, index: u64, bytes: usize) -> Result<()> {
    let plan = Plan {
        seed: options.seed << 16 | index,
        bytes,
        time: Duration::from_secs(options.seconds),
    };
    let counts = Worker::new(&plan)?.run()?;
    println!("memcheck: process {index}: {counts}");
    Ok(())
}

/// How many bytes Linux says that programs can have without swapping.
fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("could not read /proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo does not say MemAvailable")? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn options(words: &[&str]) -> Result<Options, clap::Error> {
        let words = ["memcheck"].iter().chain(words).map(OsString::from);
        Options::try_parse_from(words.map(as_option))
    }

    #[test]
    fn options_are_understood_in_either_form() {
        for words in [
            &["--seconds", "5", "--seed=7"][..],
            &["seconds=5", "seed=7"],
        ] {
            let options = options(words).expect("options");
            assert_eq!((options.seconds, options.seed), (5, 7), "{words:?}");
        }
        let wrong = options(&["secnds=5"]).expect_err("a slip").to_string();
        assert!(wrong.contains("--seconds"), "{wrong}");
        let worker = options(&["--seconds", "5", "worker", "1", "4096"]).expect("options");
        assert!(matches!(
            worker.role,
            Some(Role::Worker {
                index: 1,
                bytes: 4096
            })
        ));
    }
}
