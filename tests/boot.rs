//! The boot tests, run by `libtest-mimic` in the way of Rust's own tests: builds the images, boots,
//! and says how it went. `cargo xtask test` runs them; `cargo test -p tests --test boot -- NAME...`
//! runs some.

use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Result, bail};
use clap::Parser;
use tests::display::Display;
use tests::options::Options;
use tests::runner::{self, Runner};
use tests::scenario::Scenario;
use xtask::build::{self, Images};
use xtask::vms::{self, Sources};
use xtask::workspace::{EMBED_PACKAGE, FIRMWARE_PACKAGE, Workspace};
use xtask::{interrupt, qemu, setup};

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

/// Whether no test failed.
fn run(options: &Options) -> Result<bool> {
    let scenarios = options.chosen();
    if options.list {
        runner::list(scenarios, &options.arguments());
        return Ok(true);
    }
    if scenarios.is_empty() {
        bail!("no boot test has such a name; `--list` shows them all");
    }
    qemu::choose(options.program.named.as_deref());
    if options.no_install {
        setup::forbid_installing();
    }
    setup::for_boot()?;
    let target = Workspace::load()?.kept_directory();
    let specs: Result<Vec<_>> = scenarios.iter().map(Scenario::specs).collect();
    let runner = Runner {
        notes: Mutex::default(),
        display: Display::new(scenarios.len()),
        // Threads use them until the program ends.
        sources: Sources {
            images: Box::leak(Box::new(Images::build()?)),
            debian: Box::leak(Box::new(vms::debian(&specs?.concat(), &target))),
        },
        firmware: build::image_of(FIRMWARE_PACKAGE)?.flat,
        embed: build::image_of(EMBED_PACKAGE)?,
        folders: match &options.artifacts {
            Some(folder) => folder.clone(),
            None => target.join("boot-tests"),
        },
    };
    Ok(runner::run_all(runner, scenarios, &options.arguments()))
}
