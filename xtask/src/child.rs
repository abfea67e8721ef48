//! Child processes that never outlive their owner: asked to end, then made to, on every way out.
//!
//! Invariant: when a [`Child`] is dropped its process has been waited for.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long a child that was asked to end may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a child is looked at while it is waited for.
const TICK: Duration = Duration::from_millis(20);

/// Who gets the signal that asks a child to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The child alone. It stays in its owner's process group and so keeps the terminal.
    Child,
    /// The child and all that it started, in a process group of their own.
    Group,
}

/// A running child process.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    reach: Reach,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts `command`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, reach: Reach) -> io::Result<Self> {
        if reach == Reach::Group {
            command.process_group(0);
        }
        end_with_owner(command);
        Ok(Self {
            process: command.spawn()?,
            reach,
            status: None,
        })
    }

    /// The exit status, if the child has ended.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    pub fn poll(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.process.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits for at most `limit` and returns the exit status, if the child has ended by then.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let status = self.poll()?;
            if status.is_some() || start.elapsed() >= limit {
                return Ok(status);
            }
            sleep(TICK);
        }
    }

    /// Asks the child to end, kills it if it does not, and returns its exit status.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.poll()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM);
        if let Some(status) = self.wait(PATIENCE)? {
            return Ok(status);
        }
        self.signal(Signal::SIGKILL);
        let status = self.process.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    fn signal(&self, signal: Signal) {
        let Ok(id) = i32::try_from(self.process.id()) else {
            return;
        };
        // The child has not been waited for, so its id is still its own. A signal that cannot be
        // sent finds a child that has just ended, which is what was wanted.
        let _ = match self.reach {
            Reach::Child => kill(Pid::from_raw(id), signal),
            Reach::Group => killpg(Pid::from_raw(id), signal),
        };
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nobody is left to hear of an error.
        let _ = self.end();
    }
}

/// Reads a child's output in a thread of its own, which ends with the pipe.
pub fn pump(mut output: PipeReader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // An error of the pipe is the end of the output, and so is a receiver that has gone.
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Has the system end the child where its owner is killed and cannot do so itself.
#[cfg(target_os = "linux")]
fn end_with_owner(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call (prctl) and touches no
    // memory, lock or allocator, so it is async-signal-safe.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_owner(_: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Child {
        let mut command = Command::new("sh");
        Child::spawn(command.args(["-c", script]), Reach::Group).expect("a shell")
    }

    #[test]
    fn the_exit_status_comes_back() {
        let mut child = sh("exit 7");
        let status = child.wait(Duration::from_secs(20)).expect("a status");
        assert_eq!(status.and_then(|s| s.code()), Some(7));
        assert_eq!(child.end().expect("a status").code(), Some(7));
    }

    #[test]
    fn a_child_that_goes_on_is_ended_with_what_it_started() {
        let start = Instant::now();
        let mut child = sh("sleep 600 & echo; wait");
        assert_eq!(child.wait(Duration::ZERO).expect("a status"), None);
        assert!(!child.end().expect("a status").success());
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_child_that_will_not_end_is_killed() {
        let mut child = sh("trap '' TERM; while :; do sleep 0.1; done");
        sleep(Duration::from_millis(200));
        assert_eq!(child.end().expect("a status").code(), None);
    }
}
