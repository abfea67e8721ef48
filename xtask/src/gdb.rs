//! `cargo xtask gdb`: QEMU stopped before its first instruction, and GDB connected to it.
//!
//! QEMU is in a process group of its own, so that the terminal's Ctrl-C reaches GDB, which stops
//! the machine, and not QEMU, which would end. Whichever way this ends, both have ended before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::boot::{self, Prepared, Purpose};
use crate::build::{Image, Images};
use crate::child::{Child, Reach};
use crate::cli::GdbOptions;
use crate::workspace::{self, Workspace};
use crate::{interrupt, qemu, setup};

/// How long QEMU may take until GDB can connect to it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often QEMU and GDB are looked at.
const TICK: Duration = Duration::from_millis(50);

/// The exit status of a GDB that a signal ended.
const ENDED_BY_SIGNAL: u8 = 1;

/// Boots, and lets the user debug. Returns GDB's exit status.
///
/// # Errors
///
/// When there is no GDB, set-up or the build fails, or QEMU or GDB cannot be run.
pub fn gdb(options: &GdbOptions) -> Result<u8> {
    let debugger = setup::debugger(true).context(
        "a GDB that knows Arm and has Python is needed; install your system's gdb-multiarch (Debian, \
         Ubuntu) or gdb (Fedora, Arch) and run this again",
    )?;
    let Prepared {
        command, images, ..
    } = boot::prepare(&options.qemu, Purpose::Debugger)?;
    let session = Session::new(&images, options)?;
    let mut machine = session.machine(command)?;
    let is_batch = !options.commands.is_empty();
    if !is_batch {
        eprintln!("     Console {}", session.console.display());
        // SAFETY: the signal is ignored from here on, so there is no handler that could do harm.
        // GDB sets one of its own.
        unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }
            .context("could not pass Ctrl-C by")?;
    }
    let mut debugger = Child::spawn(&mut session.debugger(debugger, options), Reach::Child)
        .with_context(|| format!("could not start {debugger}"))?;
    let status = session.wait(&mut debugger)?;
    machine.end().context("could not wait for QEMU")?;
    let code = status.and_then(|status| status.code());
    Ok(match (status, code) {
        (None, _) => interrupt::EXIT_STATUS,
        (Some(_), code) => code
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(ENDED_BY_SIGNAL),
    })
}

/// The places of one session. The socket is removed when this is dropped.
struct Session {
    socket: PathBuf,
    console: PathBuf,
    hypervisor: PathBuf,
    /// The guest, where it is one of ours.
    guest: Option<PathBuf>,
}

impl Session {
    fn new(images: &Images, options: &GdbOptions) -> Result<Self> {
        let folder = Workspace::load()?.kept_directory().join("gdb");
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not make the folder {}", folder.display()))?;
        let id = process::id();
        let name = options.qemu.guest.as_deref().unwrap_or(boot::DEFAULT_GUEST);
        let of_ours = |image: &&Image| image.name == name;
        let guest = images.guests.iter().find(of_ours);
        Ok(Self {
            // A socket's path has to be short.
            socket: env::temp_dir().join(format!("tessera-gdb-{id}")),
            console: folder.join(format!("console-{id}.log")),
            hypervisor: images.hypervisor.elf.clone(),
            guest: guest.map(|image| image.elf.clone()),
        })
    }

    /// Starts QEMU and waits until it listens.
    fn machine(&self, mut command: Command) -> Result<Child> {
        let console = || {
            let file = File::options()
                .append(true)
                .create(true)
                .open(&self.console);
            file.with_context(|| format!("could not make {}", self.console.display()))
        };
        let socket = self.socket.display();
        command
            // A machine that switches itself off can still be looked at.
            .args(["-S", "-no-shutdown"])
            .args(["-gdb", &format!("unix:{socket},server=on,wait=off")])
            .stdin(Stdio::null())
            .stdout(console()?)
            .stderr(console()?);
        let mut machine = Child::spawn(&mut command, Reach::Group)
            .with_context(|| format!("could not start {}", qemu::program().display()))?;
        let start = Instant::now();
        while !self.socket.exists() {
            if let Some(status) = machine.poll().context("could not wait for QEMU")? {
                let said = fs::read_to_string(&self.console).unwrap_or_default();
                bail!("QEMU refused to start ({status}):\n{}", said.trim_end());
            }
            if interrupt::raised() || start.elapsed() > PATIENCE {
                bail!("QEMU does not listen on {socket}");
            }
            thread::sleep(TICK);
        }
        Ok(machine)
    }

    fn debugger(&self, program: &str, options: &GdbOptions) -> Command {
        let script = workspace::root().join("xtask/gdb/tessera.py");
        let mut command = Command::new(program);
        command.arg("-q");
        if !options.commands.is_empty() {
            command.args(["--nx", "--batch"]).stdin(Stdio::null());
        }
        command
            .arg(&self.hypervisor)
            .args(["-iex", "set pagination off", "-ex", "set confirm off"])
            .args(["-ex", &format!("target remote {}", self.socket.display())])
            .args(["-ex", &format!("source {}", script.display())])
            .args(self.guest.iter().flat_map(|elf| {
                [
                    "-ex".to_owned(),
                    format!("tessera guest-file {}", elf.display()),
                ]
            }))
            .args(options.commands.iter().flat_map(|command| ["-ex", command]));
        command
    }

    /// Waits until GDB has ended, and returns how; nothing if this program is to end before.
    fn wait(&self, debugger: &mut Child) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = debugger.wait(TICK).context("could not wait for GDB")? {
                return Ok(Some(status));
            }
            if interrupt::raised() {
                debugger.end().context("could not wait for GDB")?;
                return Ok(None);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(Path::new(&self.socket));
    }
}
