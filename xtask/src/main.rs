//! `cargo xtask`: the command line, and the exit status made of what a verb returns.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use xtask::build::Images;
use xtask::cli::{Cli, Verb};
use xtask::{bench, boot, doc, gdb, interrupt, rules, setup, test, top};

/// The exit status of wrong usage and of a set-up or build that fails.
const EXIT_UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match interrupt::catch().and_then(|()| dispatch(cli)) {
        Ok(status) => ExitCode::from(status),
        Err(_) if interrupt::raised() => ExitCode::from(interrupt::EXIT_STATUS),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_UNUSABLE)
        }
    }
}

fn dispatch(cli: Cli) -> Result<u8> {
    match cli.verb {
        Some(Verb::Qemu(options)) => boot::boot(&options),
        Some(Verb::Top(options)) => top::top(&options),
        Some(Verb::Gdb(options)) => gdb::gdb(&options),
        Some(Verb::Build) => build(),
        Some(Verb::Test(options)) => test::test(&options),
        Some(Verb::Bench(options)) => bench::bench(&options),
        Some(Verb::Rules(options)) => rules::rules(&options),
        Some(Verb::Trace(options)) => trace_tools::trace(&options),
        Some(Verb::Report(options)) => trace_tools::report(&options.file, &options.output),
        Some(Verb::Doc) => doc::doc(),
        Some(Verb::Setup) => set_up(),
        None => {
            Cli::command().print_long_help()?;
            Ok(0)
        }
    }
}

fn build() -> Result<u8> {
    setup::for_build()?;
    let images = Images::build()?;
    for image in std::iter::once(&images.hypervisor).chain(&images.guests) {
        println!("{:<8} {}", image.name, image.flat.display());
    }
    Ok(0)
}

fn set_up() -> Result<u8> {
    setup::for_tests()?;
    setup::for_linux()?;
    let mut missing = Vec::new();
    for (name, found) in [
        ("Miri", setup::miri()),
        ("a browser", setup::browser(true).map(drop)),
        ("GDB", setup::debugger(true).map(drop)),
    ] {
        if let Err(reason) = found {
            println!("What needs {name} will be skipped: {reason:#}");
            missing.push(name);
        }
    }
    match &missing[..] {
        [] => println!("Everything is there."),
        missing => println!("Everything is there but {}.", missing.join(" and ")),
    }
    Ok(0)
}
