//! `cargo xtask bench`: what exits and faults cost, in instructions.
//!
//! Boots the guest `touch` with QEMU's `-icount shift=0`, under which the guest's counter counts
//! instructions, its own and the hypervisor's. So the figures do not depend on the machine that
//! this runs on, and two runs of one build agree but for an interrupt here and there.
//!
//! - `rows`: what is measured, and what others take;
//! - `speculation`: what is done against attacks by speculation takes on top;
//! - `linux`: booting Linux, beside the same without a hypervisor;
//! - `figures`: what was measured, and how it is kept in a file;
//! - `table`: figures for a person.

mod figures;
mod linux;
mod rows;
mod speculation;
mod table;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::build::Images;
use crate::cli::BenchOptions;
use crate::qemu::{self, Machine};
use crate::run::{Outcome, Screen, run};
use crate::setup;
use crate::size::Size;
use crate::symbols::Symbols;
use crate::terminal::Terminal;
use output::{Kind, Output};

use figures::Figures;
use rows::{Boot, ROWS};

/// The CPU models that are measured: without and with the newer features.
const CPUS: [&str; 2] = ["cortex-a57", "max"];

/// The guest.
const GUEST: &str = "touch";

/// How long one boot may take. It takes a second.
const LIMIT: Duration = Duration::from_secs(120);

/// Files that --json has written.
const FIGURES: Kind = Kind {
    name: "a file that --json has written",
    is_one: |head| figures_in(head).is_some(),
};

/// Measures, prints the table, and returns the exit status: 0 also where a figure is above its
/// limit.
///
/// # Errors
///
/// When set-up or the build fails, a boot does not pass, or a file cannot be read or written.
pub fn bench(options: &BenchOptions) -> Result<u8> {
    qemu::choose(options.program.named.as_deref());
    // The file that is compared with may be the one that is written: it has been read by then.
    let before = options.compare.as_deref().map(read).transpose()?;
    let json = options
        .json
        .as_deref()
        .map(|path| Output::new(path, FIGURES, &[]));
    let json = json.transpose()?;
    setup::for_boot()?;
    let images = Images::build()?;
    let mut figures = Figures::default();
    for cpu in CPUS {
        for boot in Boot::ALL {
            let lines = measure(&images, cpu, &boot.hyp_args())?;
            for row in ROWS.iter().filter(|row| row.boot == boot) {
                figures.add(cpu, row.key, figure_of(&lines, row.line)? / row.parts);
            }
        }
    }
    speculation::add(&images, &mut figures)?;
    if options.linux {
        linux::measure(&images, &mut figures)?;
    }
    // Before they are shown: where that fails, they are not lost.
    if let Some(output) = json {
        output.write(&(serde_json::to_string_pretty(&figures)? + "\n"))?;
    }
    let mut tables = vec![table::table(&figures), speculation::table(&figures)];
    if options.linux {
        tables.push(linux::table(&figures));
    }
    tables.extend(before.map(|before| table::comparison(&before, &figures)));
    output::show(&tables.join("\n"))?;
    Ok(0)
}

fn read(path: &Path) -> Result<Figures> {
    let text = fs::read(path)
        .with_context(|| format!("could not read the figures in {}", path.display()))?;
    figures_in(&text).with_context(|| {
        format!(
            "{} is not what --json writes: an object of CPU models, each an object of figures",
            path.display()
        )
    })
}

/// The figures that --json has written in a file with these contents.
fn figures_in(contents: &[u8]) -> Option<Figures> {
    serde_json::from_slice(contents).ok()
}

/// The instructions in the guest's line for `row`.
fn figure_of(lines: &[String], row: &str) -> Result<f64> {
    lines
        .iter()
        .find_map(|line| figure(line, row))
        .with_context(|| format!("the guest `{GUEST}` has no row `{row}`"))
}

/// Boots with these boot arguments, and returns the lines of the console.
fn measure(images: &Images, cpu: &str, hyp_args: &str) -> Result<Vec<String>> {
    let machine = Machine {
        cpu: cpu.parse().map_err(anyhow::Error::msg)?,
        cpus: 1,
        memory: Size::mib(512),
        hyp_args: hyp_args.to_owned(),
        extra: ["-icount", "shift=0,sleep=off"].map(Into::into).to_vec(),
    };
    let guest = images.guest(GUEST)?;
    let command = machine.command(&images.hypervisor.flat, &guest.flat);
    let symbols = Symbols::open(&images.hypervisor.elf)?;
    let mut lines = Lines::default();
    let outcome = run(
        command,
        Some(LIMIT),
        Some(&symbols),
        &Terminal::None,
        &mut lines,
    )?;
    if outcome.exit_code() != 0 || outcome == Outcome::TimedOut {
        bail!(
            "`{GUEST}` on {cpu} with {hyp_args}: {outcome}; the end of its console:\n{}",
            lines.end()
        );
    }
    Ok(lines.0)
}

/// The console, kept.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn end(&self) -> String {
        self.0[self.0.len().saturating_sub(20)..].join("\n")
    }
}

impl Screen for Lines {
    fn line(&mut self, _line: &str) {}

    fn said(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
}

/// The instructions that a console line tells of, if it is the guest's line for this row.
fn figure(line: &str, row: &str) -> Option<f64> {
    let said = line.strip_prefix("vm0| touch: ")?.strip_prefix(row)?;
    let (_, figure) = said
        .strip_prefix(' ')?
        .strip_suffix(" instructions per iteration")?
        .rsplit_once(' ')?;
    figure.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_the_guests_lines() {
        let line = "vm0| touch: hvc 10000 iterations, 61876 ticks, 99.0 instructions per iteration";
        assert_eq!(figure(line, "hvc"), Some(99.0));
        assert_eq!(figure(line, "hv"), None);
        assert_eq!(figure(&line[5..], "hvc"), None);
        assert_eq!(figure("vm0| touch: hvc", "hvc"), None);
    }
}
