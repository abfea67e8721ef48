//! How long a thread runs while others wait: a slice, less what it has overrun before.
//!
//! Inside EL2 nothing takes the CPU away, so a thread may run past the end of its slice: while a
//! machine that resets is loaded anew, or 2 MiB are zeroed. What is too much it owes: its next
//! slices begin as if it had had the CPU for so long already. So machines get equal shares,
//! whatever they have EL2 do for them (deficit round robin).

/// The most that a thread can owe, in slices. It bounds how long one waits that had the CPU for
/// long because nobody else wanted it.
const MOST_SLICES: u64 = 4;

/// What a thread owes that leaves the CPU at `now` and whose slice began at `since`, in ticks.
pub const fn debt(since: u64, now: u64, slice: u64) -> u64 {
    let over = now.saturating_sub(since).saturating_sub(slice);
    if over < MOST_SLICES * slice {
        over
    } else {
        MOST_SLICES * slice
    }
}

/// When the slice of a thread that owes `debt` and gets the CPU at `now` began, or counts as begun.
pub const fn begin(now: u64, debt: u64) -> u64 {
    now.saturating_sub(debt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: u64 = 100;

    /// The ticks that each of two threads gets of many, if the slice of the first ends only when a
    /// multiple of `step` ticks of its turn is over.
    fn shares(step: u64) -> [u64; 2] {
        let (mut now, mut debts, mut shares) = (1000, [0; 2], [0; 2]);
        for turn in 0..2000 {
            let (who, step) = if turn % 2 == 0 { (0, step) } else { (1, 1) };
            let since = begin(now, debts[who]);
            let left = (since + SLICE).saturating_sub(now);
            let ran = left.next_multiple_of(step);
            now += ran;
            shares[who] += ran;
            debts[who] = debt(since, now, SLICE);
        }
        shares
    }

    #[test]
    fn who_overruns_gets_no_more_than_others() {
        for step in [1, 30, 70, 140, 399] {
            let [first, second] = shares(step);
            assert!(
                first.abs_diff(second) <= 4 * SLICE,
                "{step}: {first}, {second}"
            );
        }
    }

    #[test]
    fn a_debt_is_bounded() {
        assert_eq!(debt(0, SLICE, SLICE), 0);
        assert_eq!(debt(0, SLICE + 7, SLICE), 7);
        assert_eq!(debt(0, u64::MAX, SLICE), MOST_SLICES * SLICE);
        assert_eq!(begin(5, 100), 0);
    }
}
