//! A process that traces its child.

use std::ops::AddAssign;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::code::{CALL, ROUNDS, STORE, WATCHED, address, stepped, trace};
use crate::regset::Kind;

/// How often the child calls the function that is debugged: to be stepped through, watched, and
/// left alone.
const CALLS: usize = 3;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Single steps.
    pub(crate) steps: u64,
    /// Breakpoints that were hit.
    pub(crate) breakpoints: u64,
    /// Watchpoints that were hit.
    pub(crate) watchpoints: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.breakpoints += other.breakpoints;
        self.watchpoints += other.watchpoints;
    }
}

/// A child that is traced, and stopped. It is killed if it is not let run to its end.
pub(crate) struct Tracer {
    child: Pid,
}

impl Tracer {
    /// Makes a child, which stops before it does anything.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: This process has one thread, so the child may do what it wants.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Child => be_traced(),
            ForkResult::Parent { child } => {
                let tracer = Self { child };
                match waitpid(child, None)? {
                    WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(tracer),
                    other => bail!("the child did not stop: {other:?}"),
                }
            }
        }
    }

    /// How many breakpoints and watchpoints there are.
    pub(crate) fn slots(&self) -> Result<(usize, usize)> {
        let count = |kind: Kind| kind.count(self.child);
        Ok((count(Kind::Breakpoints)?, count(Kind::Watchpoints)?))
    }

    /// Traces the child to its end; which breakpoints and watchpoints are used depends on `round`.
    pub(crate) fn run(self, round: usize) -> Result<Counts> {
        let (breakpoints, watchpoints) = self.slots()?;
        ensure!(
            breakpoints >= 2 && watchpoints >= 2,
            "{breakpoints} breakpoints and {watchpoints} watchpoints are less than there must be"
        );
        let mut counts = Counts::default();
        self.comes_to_begin(round % breakpoints)?;
        counts.breakpoints += 1;
        counts.steps += self.steps_through()?;
        self.comes_to_begin((round + 1) % breakpoints)?;
        counts.breakpoints += 1;
        counts.watchpoints += self.is_watched(round % watchpoints)?;
        ptrace::cont(self.child, None)?;
        match waitpid(self.child, None)? {
            WaitStatus::Exited(_, 0) => Ok(counts),
            other => bail!("the child did not end as it ought to: {other:?}"),
        }
    }

    /// Lets the child run to the begin of the function that is debugged, by a breakpoint.
    fn comes_to_begin(&self, slot: usize) -> Result<()> {
        Kind::Breakpoints.set(self.child, slot, address(0))?;
        ptrace::cont(self.child, None)?;
        let at = self.trapped(libc::TRAP_HWBKPT).context("a breakpoint")?;
        ensure!(
            at == address(0),
            "a breakpoint hit at {at:#x}, not {:#x}",
            address(0)
        );
        Kind::Breakpoints.clear(self.child)
    }

    /// Steps through the whole function; returns how many steps it took.
    fn steps_through(&self) -> Result<u64> {
        let mut steps = 0;
        for n in trace() {
            let at = self.pc()?;
            ensure!(
                at == address(n),
                "after {steps} steps at {at:#x}, not {:#x}",
                address(n)
            );
            if n == CALL {
                // The kernel makes up a trap of its own behind a system call, and the CPU's follows
                // at the same place.
                self.step(libc::SI_USER)?;
            }
            self.step(libc::TRAP_TRACE)?;
            steps += 1;
        }
        Ok(steps)
    }

    /// Lets the function run while its stores are watched; returns how often that hit.
    fn is_watched(&self, slot: usize) -> Result<u64> {
        for hit in 1..=ROUNDS {
            Kind::Watchpoints.set(self.child, slot, WATCHED.as_ptr() as u64)?;
            ptrace::cont(self.child, None)?;
            let at = self.trapped(libc::TRAP_HWBKPT).context("a watchpoint")?;
            ensure!(at == address(STORE), "watchpoint hit {hit} at {at:#x}");
            // The store has not been done yet.
            let value = ptrace::read(self.child, WATCHED.as_ptr().cast())? as u64;
            ensure!(value == hit - 1, "before store {hit} there is {value}");
            Kind::Watchpoints.clear(self.child)?;
            self.step(libc::TRAP_TRACE)?;
            let at = self.pc()?;
            ensure!(
                at == address(STORE + 1),
                "behind watchpoint hit {hit} at {at:#x}"
            );
        }
        Ok(ROUNDS)
    }

    fn step(&self, code: libc::c_int) -> Result<()> {
        ptrace::step(self.child, None)?;
        self.trapped(code).context("a step")?;
        Ok(())
    }

    /// Waits for the child to stop for a SIGTRAP of this kind; returns where.
    fn trapped(&self, code: libc::c_int) -> Result<u64> {
        match waitpid(self.child, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            other => bail!("the child did not trap: {other:?}"),
        }
        let found = ptrace::getsiginfo(self.child)?.si_code;
        ensure!(
            found == code,
            "the child trapped with code {found}, not {code}"
        );
        self.pc()
    }

    fn pc(&self) -> Result<u64> {
        Ok(ptrace::getregs(self.child)?.pc)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = ptrace::kill(self.child);
        let _ = waitpid(self.child, None);
    }
}

/// What the child does.
fn be_traced() -> ! {
    let stopped = ptrace::traceme().and_then(|()| raise(Signal::SIGSTOP));
    let mut right = stopped.is_ok();
    for _ in 0..CALLS {
        WATCHED.store(0, std::sync::atomic::Ordering::Relaxed);
        stepped(ROUNDS, &raw const WATCHED);
        right &= WATCHED.load(std::sync::atomic::Ordering::Relaxed) == ROUNDS;
    }
    std::process::exit(i32::from(!right));
}
