//! What one process does: it takes care of a number of areas of changing sizes, and knows at any
//! time what each has to hold.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use guest_linux::OWN_FILE;

use crate::area::{Area, PAGE};
use crate::pattern::Pattern;
use crate::random::Random;

/// How many areas a process has.
const AREAS: usize = 24;

/// How many pages a program that is run checks.
const PROGRAM_PAGES: usize = 64;

/// What a process is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What its order and its patterns depend on.
    pub(crate) seed: u64,
    /// How much memory it takes care of.
    pub(crate) bytes: usize,
    /// For how long, once its memory is filled.
    pub(crate) time: Duration,
}

/// Something that is done to an area.
#[derive(Clone, Copy, Debug)]
enum Action {
    Write,
    Verify,
    Remap,
    Discard,
    Protect,
    Copy,
    Fork,
    Run,
}

impl Action {
    const ALL: [(Self, &str); 8] = [
        (Self::Write, "written"),
        (Self::Verify, "verified"),
        (Self::Remap, "mapped anew"),
        (Self::Discard, "discarded"),
        (Self::Protect, "write-protected"),
        (Self::Copy, "copied"),
        (Self::Fork, "shared with a fork"),
        (Self::Run, "programs run"),
    ];

    /// Actions by how often they come up: a fork takes longer than a look.
    const CHOICES: [Self; 16] = [
        Self::Write,
        Self::Write,
        Self::Write,
        Self::Write,
        Self::Verify,
        Self::Verify,
        Self::Verify,
        Self::Verify,
        Self::Remap,
        Self::Remap,
        Self::Discard,
        Self::Protect,
        Self::Copy,
        Self::Copy,
        Self::Fork,
        Self::Run,
    ];
}

/// How often what was done.
#[derive(Debug, Default)]
pub(crate) struct Counts([usize; Action::ALL.len()]);

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((_, name), count) in Action::ALL.iter().zip(self.0) {
            let comma = if *name == Action::ALL[0].1 { "" } else { ", " };
            write!(f, "{comma}{count} {name}")?;
        }
        Ok(())
    }
}

/// An area and what it has to hold.
#[derive(Debug)]
struct Kept {
    area: Area,
    pattern: Pattern,
}

impl Kept {
    fn fill(&mut self, pattern: Pattern) {
        pattern.fill(self.area.words_mut());
        self.pattern = pattern;
    }

    fn verify(&self) -> Result<()> {
        let (pattern, pages) = (self.pattern, self.area.pages());
        let wrong = pattern.verify(self.area.words());
        wrong.map_err(|wrong| anyhow!("an area of {pages} pages is not as it was written: {wrong}"))
    }
}

/// A process's state.
#[derive(Debug)]
pub(crate) struct Worker {
    random: Random,
    kept: Vec<Kept>,
    /// Pages that it may map beside those it has.
    spare: usize,
    time: Duration,
    counts: Counts,
}

impl Worker {
    /// Maps and fills the areas.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        let mut worker = Self {
            random: Random::new(plan.seed),
            kept: Vec::new(),
            spare: plan.bytes / PAGE,
            time: plan.time,
            counts: Counts::default(),
        };
        let usual = (worker.spare / AREAS).max(1);
        for _ in 0..AREAS {
            worker.spare = worker.spare.saturating_sub(usual);
            let mut kept = Kept {
                area: Area::new(usual)?,
                pattern: Pattern::ZERO,
            };
            kept.fill(worker.new_pattern());
            worker.kept.push(kept);
        }
        Ok(worker)
    }

    /// Does what there is to do until the time is over, and then looks at everything once more.
    ///
    /// # Errors
    ///
    /// What was not as it should be.
    pub(crate) fn run(mut self) -> Result<Counts> {
        let begin = Instant::now();
        while begin.elapsed() < self.time {
            let action = Action::CHOICES[self.random.below(Action::CHOICES.len())];
            let index = self.random.below(self.kept.len());
            self.act(action, index)
                .with_context(|| format!("{action:?} on area {index}"))?;
            self.counts.0[action as usize] += 1;
        }
        self.kept.iter().try_for_each(Kept::verify)?;
        Ok(self.counts)
    }

    fn act(&mut self, action: Action, index: usize) -> Result<()> {
        let pattern = self.new_pattern();
        match action {
            Action::Remap => return self.remap(index),
            Action::Copy => return self.copy(index),
            Action::Run => return run(pattern),
            _ => {}
        }
        let kept = &mut self.kept[index];
        match action {
            Action::Write => kept.fill(pattern),
            Action::Discard => {
                kept.verify()?;
                kept.area.discard()?;
                kept.pattern = Pattern::ZERO;
                kept.verify()?;
            }
            Action::Protect => {
                let pattern = kept.pattern;
                kept.area.with_write_protection(|area| {
                    pattern
                        .verify(area.words())
                        .map_err(|wrong| anyhow!("{wrong}"))
                })?;
                kept.fill(pattern);
            }
            Action::Fork => share(kept, pattern)?,
            _ => kept.verify()?,
        }
        Ok(())
    }

    /// Gives the area back and maps another one, of another size.
    fn remap(&mut self, index: usize) -> Result<()> {
        self.kept[index].verify()?;
        let old = self.kept.swap_remove(index).area;
        let room = self.spare + old.pages();
        drop(old);
        // Sizes for which most of the memory is in use on average.
        let pages = 1 + self.random.below((8 * room / AREAS).clamp(1, room));
        self.spare = room - pages;
        let kept = Kept {
            area: Area::new(pages)?,
            pattern: Pattern::ZERO,
        };
        kept.verify()?;
        self.kept.push(kept);
        Ok(())
    }

    /// Copies the area over the start of another one that is as large or larger, which then is
    /// filled with the same pattern to its end.
    fn copy(&mut self, index: usize) -> Result<()> {
        let other = self.random.below(self.kept.len());
        if index == other || self.kept[other].area.pages() < self.kept[index].area.pages() {
            return self.kept[index].verify();
        }
        let pattern = self.kept[index].pattern;
        self.kept[other].fill(pattern);
        let [from, to] = self
            .kept
            .get_disjoint_mut([index, other])
            .context("two areas are one")?;
        let words = from.area.words();
        to.area.words_mut()[..words.len()].copy_from_slice(words);
        to.verify()
    }

    fn new_pattern(&mut self) -> Pattern {
        Pattern(self.random.next() | 1)
    }
}

/// Forks: the child sees what the parent wrote, and what it writes over that is its own.
fn share(kept: &mut Kept, pattern: Pattern) -> Result<()> {
    // SAFETY: This process has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let seen = kept.verify();
            kept.fill(pattern);
            let result = seen.and_then(|()| kept.verify());
            if let Err(error) = &result {
                println!("memcheck: after a fork: {error:#}");
            }
            std::process::exit(result.is_err().into());
        }
        ForkResult::Parent { child } => {
            kept.verify()?;
            match waitpid(child, None).context("waitpid")? {
                WaitStatus::Exited(_, 0) => kept.verify(),
                status => bail!("a forked process ended with {status:?}"),
            }
        }
    }
}

/// Runs a program: this one, which then is [`program`].
fn run(pattern: Pattern) -> Result<()> {
    let mut command = Command::new(OWN_FILE);
    command.args(["program", &pattern.0.to_string()]);
    let status = command.status().context("could not run a program")?;
    if !status.success() {
        bail!("a program ended with {status}");
    }
    Ok(())
}

/// Checks a little memory in a process that has just begun.
///
/// # Errors
///
/// What was not as it should be.
pub(crate) fn program(pattern: u64) -> Result<()> {
    let mut kept = Kept {
        area: Area::new(PROGRAM_PAGES)?,
        pattern: Pattern::ZERO,
    };
    kept.verify()?;
    kept.fill(Pattern(pattern));
    kept.verify()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_change_and_stay_as_written() {
        let plan = Plan {
            seed: 1,
            bytes: 4 << 20,
            time: Duration::from_secs(3600),
        };
        let mut worker = Worker::new(&plan).expect("memory");
        let actions = [
            Action::Write,
            Action::Verify,
            Action::Remap,
            Action::Discard,
            Action::Protect,
            Action::Copy,
        ];
        for round in 0..600 {
            let index = worker.random.below(AREAS);
            let action = actions[round % actions.len()];
            worker.act(action, index).expect("memory as written");
            let pages: usize = worker.kept.iter().map(|kept| kept.area.pages()).sum();
            assert!(pages + worker.spare <= 1024, "{pages} pages");
        }
        worker.time = Duration::ZERO;
        worker.kept[3].area.words_mut()[5] ^= 1;
        let error = worker.run().expect_err("a wrong word").to_string();
        assert!(error.contains("word 5"), "{error}");
    }

    #[test]
    fn a_program_checks_its_memory() {
        program(7).expect("memory as written");
    }
}
