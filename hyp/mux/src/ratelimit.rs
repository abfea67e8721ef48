//! The limit of the log lines that a guest can cause: there is no end to what it may cause, and
//! all guests share the console.
//!
//! As Linux's `__ratelimit`: some lines an interval, and none while the console is behind; how many
//! did not appear is said with the next one, or when the machine ends.
//!
//! The limit is a machine's, not that of the place that it has: one that is made anew takes it
//! along wherever it goes, and the next machine in its old place begins with none used up.

use core::fmt;

use plural::count;

/// Lines in an interval.
const BURST: u32 = 10;
/// Length of an interval in seconds.
const INTERVAL: u64 = 5;

/// The lines that one machine has caused.
#[derive(Debug)]
pub struct RateLimit {
    /// When the interval began, in ticks.
    since: u64,
    /// Lines in this interval.
    lines: u32,
    /// Lines that did not appear since one did.
    missed: u64,
}

/// Leave for a line, which is to end with this: it tells how many lines did not appear before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    missed: u64,
}

impl RateLimit {
    /// No lines yet.
    pub const fn new() -> Self {
        Self {
            since: 0,
            lines: 0,
            missed: 0,
        }
    }

    /// Whether a line may be logged at the time `now`, by a counter with `frequency` ticks a
    /// second. `has_room` says whether the console takes it without making anybody wait.
    pub const fn ask(&mut self, now: u64, frequency: u64, has_room: bool) -> Option<Leave> {
        if now.wrapping_sub(self.since) >= INTERVAL * frequency {
            self.since = now;
            self.lines = 0;
        }
        if self.lines == BURST || !has_room {
            self.missed += 1;
            return None;
        }
        self.lines += 1;
        let missed = self.take_missed();
        Some(Leave { missed })
    }

    /// How many lines did not appear since one did; they are told now.
    pub const fn take_missed(&mut self) -> u64 {
        core::mem::replace(&mut self.missed, 0)
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missed {
            0 => Ok(()),
            missed => {
                let lines = count(missed, "line", "lines");
                write!(f, " ({lines} like this not shown)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREQUENCY: u64 = 1000;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut limit = RateLimit::new();
        let shown = (0..1000)
            .filter_map(|now| limit.ask(now, FREQUENCY, true))
            .count();
        assert_eq!(shown, BURST as usize);
        let next = limit.ask(INTERVAL * FREQUENCY, FREQUENCY, true).unwrap();
        assert_eq!(next.to_string(), " (990 lines like this not shown)");
        let last = limit.ask(INTERVAL * FREQUENCY, FREQUENCY, true).unwrap();
        assert_eq!(last.to_string(), "", "they were told");
    }

    #[test]
    fn what_is_rare_is_shown() {
        let mut limit = RateLimit::new();
        for second in 0..100 {
            let leave = limit.ask(second * FREQUENCY, FREQUENCY, true);
            assert_eq!(leave, Some(Leave { missed: 0 }), "second {second}");
        }
    }

    #[test]
    fn nobody_waits_for_a_console_that_is_behind() {
        let mut limit = RateLimit::new();
        assert_eq!(limit.ask(0, FREQUENCY, false), None);
        assert_eq!(limit.ask(1, FREQUENCY, false), None);
        assert_eq!(limit.ask(2, FREQUENCY, true), Some(Leave { missed: 2 }));
        assert_eq!(limit.ask(3, FREQUENCY, false), None);
        assert_eq!((limit.take_missed(), limit.take_missed()), (1, 0));
    }
}
