//! How long a step took: by the clock, and of the CPUs' time, which does not depend on what else
//! runs on the machine.

use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Serialize, Serializer};

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Took {
    /// By the clock.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub(super) elapsed: Duration,
    /// What its processes had of the CPUs, all together.
    #[serde(rename = "cpu_seconds", serialize_with = "seconds")]
    pub(super) cpu: Duration,
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { elapsed, cpu } = self;
        write!(
            f,
            "{:.1} s, CPU {:.1} s",
            elapsed.as_secs_f64(),
            cpu.as_secs_f64()
        )
    }
}

/// Measures from here on.
pub(super) struct Stopwatch {
    start: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts it.
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            cpu: of_children(),
        }
    }

    /// What has passed, of the CPUs' time what children had that have ended and been waited for.
    pub(super) fn took(&self) -> Took {
        Took {
            elapsed: self.start.elapsed(),
            cpu: of_children().saturating_sub(self.cpu),
        }
    }
}

/// The CPUs' time of all children so far, and of theirs.
fn of_children() -> Duration {
    // A system that does not tell gives figures of no use, and nothing depends on them.
    getrusage(UsageWho::RUSAGE_CHILDREN).map_or(Duration::ZERO, |usage| {
        let time = usage.user_time() + usage.system_time();
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_time_of_children_counts() {
        let watch = Stopwatch::start();
        let mut shell = Command::new("sh");
        shell.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]);
        assert!(shell.status().expect("a shell").success());
        let took = watch.took();
        assert!(
            took.cpu >= Duration::from_millis(20) && took.elapsed >= Duration::from_millis(20),
            "{took}"
        );
    }
}
