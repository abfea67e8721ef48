//! What it takes to boot Linux to its shell, under the hypervisor and without.
//!
//! The guest's counter is of no use for that: while nothing runs it goes on. QEMU counts the
//! instructions that it has retired where it records a run for a later replay, and tells how many
//! on its monitor; it is asked when the shell's prompt comes. Nothing is replayed.
//!
//! Both boots have one CPU of the same model, the same kernel, initial RAM disk and memory for
//! Linux. All that the hypervisor does from its own first instruction on counts, the loading of the
//! kernel among it, which without one QEMU has done before the first instruction.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::CPUS;
use super::figures::Figures;
use super::rows;
use crate::build::Images;
use crate::debian::{Guest, LINUX};
use crate::qemu::{self, Machine};
use crate::run::{Screen, run};
use crate::size::Size;
use crate::terminal::Terminal;
use crate::vms::{self, Sources, Spec};
use crate::workspace::Workspace;

/// How its memory is mapped: by default.
pub(super) const BOOT: rows::Boot = rows::Boot::Reserved;

/// The rows, by key and for a person.
pub(super) const ROWS: [(&str, &str); 5] = [
    (INSTRUCTIONS, "Linux to its shell"),
    (BARE_INSTRUCTIONS, "the same without a hypervisor"),
    (RATIO, "the one divided by the other"),
    (SECONDS, "Linux to its shell, seconds"),
    (BARE_SECONDS, "the same without a hypervisor, seconds"),
];
const INSTRUCTIONS: &str = "linux_boot_instructions";
const BARE_INSTRUCTIONS: &str = "linux_boot_bare_instructions";
const RATIO: &str = "linux_boot_ratio";
const SECONDS: &str = "linux_boot_seconds";
const BARE_SECONDS: &str = "linux_boot_bare_seconds";

/// The most that [`RATIO`] may be.
const MOST: f64 = 1.03;

/// What the shell says when it waits for a command.
const PROMPT: &[u8] = b"/ # ";
/// Linux's memory, and what the machine has with a hypervisor in it.
const MEMORY: Size = Size::mib(256);
const MACHINE_MEMORY: Size = Size::mib(512);
/// How long one boot may take. It takes some seconds.
const LIMIT: Duration = Duration::from_secs(300);

/// Boots on each of [`CPUS`], and adds the figures.
///
/// # Errors
///
/// When Linux cannot be had, or does not come to its shell.
pub(super) fn measure(images: &Images, figures: &mut Figures) -> Result<()> {
    let target = Workspace::load()?.kept_directory();
    let folder = target.join("bench");
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    let guest = Guest::new(LINUX, &target)?;
    let bare = Bare::new(&guest, &folder)?;
    let debian = vms::Debian::from([(LINUX.to_owned(), Ok(guest))]);
    let sources = Sources {
        images,
        debian: &debian,
    };
    let archive = vms::initrd(
        &[Spec::of_guest(LINUX)],
        &sources,
        folder.join("linux.cpio"),
    )?;
    for key in CPUS {
        let cpu = model(key);
        let machine = Machine {
            cpu: cpu.parse().map_err(anyhow::Error::msg)?,
            cpus: 1,
            memory: MACHINE_MEMORY,
            hyp_args: format!("console=raw guest-memory={MEMORY} huge={}", BOOT.policy()),
            extra: Vec::new(),
        };
        let with = machine.command(&images.hypervisor.flat, &archive);
        let with = boot(with, &folder).with_context(|| format!("Linux as a guest on {cpu}"))?;
        let without = boot(bare.command(&cpu), &folder)
            .with_context(|| format!("Linux without a hypervisor on {cpu}"))?;
        figures.set(key, INSTRUCTIONS, with.instructions as f64);
        figures.set(key, BARE_INSTRUCTIONS, without.instructions as f64);
        let ratio = with.instructions as f64 / without.instructions as f64;
        figures.set(key, RATIO, (ratio * 1e4).round() / 1e4);
        figures.add(key, SECONDS, with.seconds);
        figures.add(key, BARE_SECONDS, without.seconds);
    }
    Ok(())
}

/// QEMU's name for a CPU model: `max` with an algorithm for pointer authentication that is fast to
/// emulate, which changes no count.
fn model(key: &str) -> String {
    let property = if key == "max" { ",pauth-impdef=on" } else { "" };
    format!("{key}{property}")
}

/// Linux's files, as QEMU itself loads them.
struct Bare {
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Bare {
    fn new(guest: &Guest, folder: &Path) -> Result<Self> {
        let initrd = folder.join("linux.initrd");
        let contents = guest
            .initrd
            .as_ref()
            .context("Linux has no initial RAM disk")?;
        fs::write(&initrd, contents)
            .with_context(|| format!("could not write {}", initrd.display()))?;
        Ok(Self {
            kernel: guest.kernel.clone(),
            initrd,
        })
    }

    fn command(&self, cpu: &str) -> Command {
        let mut command = Command::new(qemu::program());
        command
            .args(["-machine", "virt,gic-version=3", "-cpu", cpu, "-smp", "1"])
            .args(["-m", &MEMORY.to_string(), "-nic", "none"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", "console=ttyAMA0"]);
        command
    }
}

/// One boot.
struct Boot {
    instructions: u64,
    seconds: f64,
}

/// Boots until the prompt comes.
fn boot(mut command: Command, folder: &Path) -> Result<Boot> {
    // The name of a socket must be short, and the target folder may be anywhere.
    let socket = std::env::temp_dir().join(format!("tessera-{}.qmp", std::process::id()));
    let record = folder.join("linux.record");
    command
        .arg("-icount")
        .arg(format!("shift=0,rr=record,rrfile={}", record.display()))
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()));
    let mut prompt = Prompt::new(socket);
    let outcome = run(command, Some(LIMIT), None, &Terminal::None, &mut prompt);
    for file in [&prompt.socket, &record] {
        // What was not made need not be taken away.
        let _ = fs::remove_file(file);
    }
    let outcome = outcome?;
    let lines = prompt
        .lines
        .split_off(prompt.lines.len().saturating_sub(20));
    match prompt.found {
        Some(boot) => boot.context("QEMU does not tell how many instructions it took"),
        None => bail!(
            "it did not come to the shell's prompt, but {outcome}; the end of its console:\n{}",
            lines.join("\n")
        ),
    }
}

/// Watches the console for the prompt, and asks then.
struct Prompt {
    socket: PathBuf,
    start: Instant,
    /// The last bytes of the console.
    end: Vec<u8>,
    lines: Vec<String>,
    found: Option<Result<Boot>>,
}

impl Prompt {
    fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            start: Instant::now(),
            end: Vec::new(),
            lines: Vec::new(),
            found: None,
        }
    }
}

impl Screen for Prompt {
    fn line(&mut self, _line: &str) {}

    fn said(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.end.extend_from_slice(bytes);
        let came = self.end.windows(PROMPT.len()).any(|part| part == PROMPT);
        if came && self.found.is_none() {
            let seconds = self.start.elapsed().as_secs_f64();
            let instructions = retired(&self.socket);
            self.found = Some(instructions.map(|instructions| Boot {
                instructions,
                seconds,
            }));
        }
        let kept = self.end.len().saturating_sub(PROMPT.len() - 1);
        self.end.drain(..kept);
    }
}

/// Stops the QEMU behind `socket`, asks how many instructions it has retired, and ends it.
fn retired(socket: &Path) -> Result<u64> {
    let monitor = UnixStream::connect(socket).context("could not reach QEMU's monitor")?;
    monitor.set_read_timeout(Some(LIMIT))?;
    let mut answers = BufReader::new(monitor.try_clone()?);
    let mut ask = |command: &str| -> Result<Value> {
        let mut line = json!({ "execute": command }).to_string();
        line.push('\n');
        (&monitor).write_all(line.as_bytes())?;
        answer(&mut answers).with_context(|| format!("QEMU does not do `{command}`"))
    };
    ask("qmp_capabilities")?;
    ask("stop")?;
    let count = ask("query-replay")?["icount"].as_u64();
    ask("quit")?;
    count.context("QEMU counts no instructions")
}

/// The next answer; greetings and events are skipped.
fn answer(from: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            bail!("it has ended");
        }
        let mut message: Value = serde_json::from_str(&line)?;
        if let Some(error) = message.get("error") {
            return Err(anyhow!("{error}"));
        }
        if let Some(result) = message.get_mut("return") {
            return Ok(result.take());
        }
    }
}

/// The figures for a person.
pub(super) fn table(figures: &Figures) -> String {
    let title = format!("Linux, huge={}", BOOT.policy());
    let mut text = format!(
        "{title:<47}{:>14}{:>14}{:>9}\n",
        CPUS[0], CPUS[1], "at most"
    );
    for (key, name) in ROWS {
        let digits = match key {
            RATIO => 4,
            SECONDS | BARE_SECONDS => 1,
            _ => 0,
        };
        let limit = if key == RATIO {
            MOST.to_string()
        } else {
            String::new()
        };
        let [first, second] = CPUS.map(|cpu| match figures.get(cpu, key) {
            Some(figure) if key == RATIO && figure > MOST => format!("!{figure:.digits$}"),
            Some(figure) => format!("{figure:.digits$}"),
            None => "-".into(),
        });
        text.push_str(&format!("{name:<47}{first:>14}{second:>14}{limit:>9}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_is_found_in_pieces() {
        let mut prompt = Prompt::new("/nonexistent/socket".into());
        prompt.raw(b"BusyBox v1.35\n/ ");
        assert!(prompt.found.is_none());
        prompt.raw(b"# ");
        let reason = prompt
            .found
            .take()
            .expect("a prompt")
            .err()
            .expect("no monitor");
        assert!(reason.to_string().contains("monitor"), "{reason}");
    }

    #[test]
    fn answers_are_told_from_greetings_and_events() {
        let mut lines = "{\"QMP\": {}}\n{\"event\": \"STOP\"}\n{\"return\": {\"icount\": 5}}\n\
                         {\"error\": {\"desc\": \"no\"}}\n"
            .as_bytes();
        assert_eq!(answer(&mut lines).expect("an answer")["icount"], 5);
        assert!(
            answer(&mut lines)
                .expect_err("an error")
                .to_string()
                .contains("no")
        );
        assert!(answer(&mut lines).is_err(), "the end");
    }

    #[test]
    fn a_ratio_above_its_limit_is_marked() {
        let mut figures = Figures::default();
        figures.set(CPUS[0], RATIO, 1.0301);
        figures.set(CPUS[1], RATIO, 0.9999);
        let text = table(&figures);
        assert!(
            text.contains(" !1.0301") && text.contains(" 0.9999"),
            "{text}"
        );
    }
}
