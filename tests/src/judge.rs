//! A run compared with what its test expects.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use regex::Regex;
use trace::event::NOBODY;
use trace_tools::Recording;
use trace_tools::check::check;
use xtask::console::Verdict;
use xtask::run::Outcome;

use crate::scenario::{Ending, Scenario};

/// What is wrong with a run; nothing where the test passed.
///
/// # Errors
///
/// When a pattern of the test is no regular expression.
pub fn judge(scenario: &Scenario, outcome: &Outcome, console: &[String]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    if !ends_as(scenario.ending, outcome) {
        wrong.push(format!(
            "expected {}, but: {outcome}",
            describe(scenario.ending)
        ));
    }
    if let Some(lost) = lost_memory(scenario, console)? {
        wrong.push(format!("{lost} KiB of memory are not free at the end"));
    }
    for pattern in &scenario.wanted {
        if find(pattern, console)?.is_none() {
            wrong.push(format!("no line matches `{pattern}`"));
        }
    }
    for pattern in &scenario.unwanted {
        if let Some(line) = find(pattern, console)? {
            wrong.push(format!(
                "a line matches `{pattern}`, which none may: {line}"
            ));
        }
    }
    Ok(wrong)
}

/// How much memory is not free when the last machine is off, in KiB; `None` where all of it is, or
/// where that is not known: of two machines that end at the same time either may give the older
/// figures, and a recording is kept to the end.
fn lost_memory(scenario: &Scenario, console: &[String]) -> Result<Option<u64>> {
    let last = |what: &str| {
        let regex = Regex::new(&format!(r" memory: +(\d+) {what}$"))?;
        let figure = |line: &String| regex.captures(line)?[1].parse::<u64>().ok();
        anyhow::Ok(console.iter().rev().find_map(figure))
    };
    if scenario.vms.len() > 1 || scenario.hyp_args.contains("trace=") {
        return Ok(None);
    }
    let lost = last("in all")?.zip(last("free")?);
    Ok(lost.map(|(all, free)| all - free).filter(|&lost| lost > 0))
}

fn ends_as(ending: Ending, outcome: &Outcome) -> bool {
    match ending {
        Ending::Passed => *outcome == Outcome::Ended(Verdict::Passed),
        Ending::PoweredOff => *outcome == Outcome::Ended(Verdict::Silent),
        Ending::Failed | Ending::Stopped => matches!(outcome, Outcome::Ended(Verdict::Failed(_))),
        Ending::Panicked => *outcome == Outcome::Ended(Verdict::Panicked),
        Ending::Quit => matches!(outcome, Outcome::BrokenOff(status) if status.success()),
    }
}

fn describe(ending: Ending) -> &'static str {
    match ending {
        Ending::Passed => "the guest to pass",
        Ending::PoweredOff => "a power-off without a verdict",
        Ending::Failed => "the guest to fail",
        Ending::Stopped => "the guest to be stopped",
        Ending::Panicked => "a panic of the hypervisor",
        Ending::Quit => "a power-off",
    }
}

fn find<'a>(pattern: &str, console: &'a [String]) -> Result<Option<&'a String>> {
    let regex = Regex::new(pattern).with_context(|| format!("`{pattern}` cannot be matched"))?;
    Ok(console.iter().find(|line| regex.is_match(line)))
}

/// What is wrong with the events that were traced.
pub fn judge_trace(scenario: &Scenario, recording: &Recording) -> Vec<String> {
    let mut wrong = Vec::new();
    // The last one may be cut when the machine goes off, which is nothing to who only counts.
    let whole = scenario.replayed || !scenario.traced.is_empty();
    if whole && recording.broken > 0 {
        wrong.push(format!("{} frames of events are broken", recording.broken));
    }
    let came = |name: &str| recording.records.iter().any(|r| r.event.name() == name);
    for name in &scenario.traced {
        if !came(name) {
            wrong.push(format!("no event `{name}` was traced"));
        }
    }
    if scenario.replayed {
        wrong.extend(judge_replay(scenario, recording));
    }
    if scenario.in_turns {
        wrong.extend(judge_turns(scenario.vms.len(), recording));
    }
    wrong
}

/// Which of so many VMs have not taken turns with another on a CPU, and whether all stayed on one
/// CPU. Which of them move is up to the scheduler, so one that does is enough: it finds its own
/// registers again on another CPU.
fn judge_turns(vms: usize, recording: &Recording) -> Vec<String> {
    let came = |record: &&trace::Record| {
        matches!(record.event, trace::Event::Switch { .. }) && record.stamp.vcpu != NOBODY
    };
    // The VMs whose vCPUs came to each CPU, in order.
    let mut on: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for record in recording.records.iter().filter(came) {
        on.entry(record.stamp.cpu)
            .or_default()
            .push(record.stamp.vm);
    }
    let mut wrong = Vec::new();
    let moved = |vm: u8| on.values().filter(|came| came.contains(&vm)).count() > 1;
    if !(0..vms).any(|vm| moved(vm as u8)) {
        wrong.push("no VM was on more than one CPU".to_owned());
    }
    for vm in (0..vms).map(|vm| vm as u8) {
        let returns = |came: &Vec<u8>| {
            let away = came.iter().skip_while(|&&who| who != vm);
            let mut away = away.skip_while(|&&who| who == vm);
            away.any(|&who| who == vm)
        };
        if !on.values().any(returns) {
            wrong.push(format!("vm{vm} took turns with nobody"));
        }
    }
    wrong
}

/// What is wrong with the events that were traced for the checker of the protocol.
fn judge_replay(scenario: &Scenario, recording: &Recording) -> Vec<String> {
    let checked = check(recording);
    let total: u64 = checked.counts.values().sum();
    let mut broken = checked.violations.iter().map(|violation| {
        let (rule, what, order) = (violation.rule, &violation.what, violation.order);
        format!("{rule}: {what} (event {order} of the order)")
    });
    let mut wrong: Vec<String> = match scenario.broken {
        None => broken.take(3).collect(),
        Some(expected) if broken.any(|broken| broken.contains(expected)) => Vec::new(),
        Some(expected) => vec![format!("the checker does not report `{expected}`")],
    };
    // The last events of a CPU may not have been sent when the machine goes off.
    if !checked.is_complete(recording) || checked.unchecked as u64 > total / 100 {
        wrong.push(format!(
            "events are missing: {total} were checked, {} not",
            checked.unchecked
        ));
    }
    // A rule is kept for nothing where its occasion never comes.
    for name in scenario.seen.iter().filter(|name| checked.seen(name) == 0) {
        wrong.push(format!("the checker has seen no `{name}`"));
    }
    // What is to be reported is, if it has happened.
    if total < 1000 && scenario.broken.is_none() {
        wrong.push(format!("only {total} events were there to check"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(scenario: &Scenario, outcome: &Outcome, console: &[&str]) -> Vec<String> {
        let console: Vec<String> = console.iter().map(ToString::to_string).collect();
        judge(scenario, outcome, &console).expect("regular expressions")
    }

    const PASSED: Outcome = Outcome::Ended(Verdict::Passed);

    #[test]
    fn the_ending_counts() {
        let test = Scenario::new("a", "hello");
        assert!(wrong(&test, &PASSED, &[]).is_empty());
        for outcome in [
            Outcome::Ended(Verdict::Silent),
            Outcome::Ended(Verdict::Failed("x".into())),
            Outcome::Ended(Verdict::Panicked),
            Outcome::TimedOut,
        ] {
            assert_eq!(wrong(&test, &outcome, &[]).len(), 1, "{outcome}");
        }
        let silent = Outcome::Ended(Verdict::Silent);
        assert!(wrong(&test.clone().ends(Ending::PoweredOff), &silent, &[]).is_empty());
        assert!(!wrong(&test.ends(Ending::Panicked), &PASSED, &[]).is_empty());
    }

    #[test]
    fn lines_count() {
        let test = Scenario::new("a", "hello").wants("^vm0. hi$").wants("b+");
        assert!(wrong(&test, &PASSED, &["vm0| hi", "abba"]).is_empty());
        let found = wrong(&test, &PASSED, &["vm0| high"]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn memory_must_be_free_at_the_end() {
        let test = Scenario::new("a", "hello");
        let end = |free| {
            let free = format!("[   1.0] cpu0 INFO  memory:   {free} free");
            let all = "[   1.0] cpu0 INFO  memory:   100 in all";
            let worst = "[   1.0] cpu0 INFO  memory:   50 free at the worst moment";
            wrong(&test, &PASSED, &[all, "vm0| 9 free", &free, worst])
        };
        assert!(end(100).is_empty());
        assert_eq!(end(96), ["4 KiB of memory are not free at the end"]);
    }

    #[test]
    fn complaints_count_unless_expected() {
        let test = Scenario::new("a", "hello");
        let complaint = ["[   1.234567] cpu0 WARN  module: text"];
        assert_eq!(wrong(&test, &PASSED, &complaint).len(), 1);
        assert!(wrong(&test, &PASSED, &["vm0| [   1.2] cpu0 WARN  x"]).is_empty());
        assert!(wrong(&test.may_complain(), &PASSED, &complaint).is_empty());
    }

    /// A recording of so many barriers in order.
    fn barriers(count: u64) -> Recording {
        let record = |order| trace::Record {
            stamp: trace::Stamp {
                time: order,
                cpu: 0,
                vm: trace::event::NOBODY,
                vcpu: trace::event::NOBODY,
            },
            event: trace::Event::Barrier {
                barrier: trace::event::Barrier::Isb,
                order,
            },
        };
        Recording {
            records: (1..=count).map(record).collect(),
            ..Recording::default()
        }
    }

    #[test]
    fn what_was_to_be_traced_must_have_come() {
        let scenario = Scenario::new("test", "hello").traces(&["Barrier", "Marker"]);
        let mut recording = barriers(1);
        assert_eq!(
            judge_trace(&scenario, &recording),
            ["no event `Marker` was traced"]
        );
        recording.broken = 2;
        assert_eq!(
            judge_trace(&scenario, &recording)[0],
            "2 frames of events are broken"
        );
    }

    #[test]
    fn turns_must_be_taken_on_more_than_one_cpu() {
        let on = |cpu, vm| trace::Record {
            stamp: trace::Stamp {
                time: 0,
                cpu,
                vm,
                vcpu: 0,
            },
            event: trace::Event::Switch { from: 8, to: 9 },
        };
        let wrong = |records: &[trace::Record]| {
            let recording = Recording {
                records: records.to_vec(),
                ..Recording::default()
            };
            judge_turns(2, &recording)
        };
        let both = [on(0, 0), on(0, 1), on(0, 0), on(0, 1), on(1, 0), on(1, 1)];
        assert_eq!(wrong(&both), [""; 0]);
        assert_eq!(wrong(&both[..4]), ["no VM was on more than one CPU"]);
        let apart = [on(0, 0), on(1, 1), on(1, 0), on(0, 1)];
        assert_eq!(
            wrong(&apart),
            ["vm0 took turns with nobody", "vm1 took turns with nobody"]
        );
    }

    #[test]
    fn what_is_checked_must_have_happened_and_come_whole() {
        let kept = Scenario::new("test", "hello").keeps_the_rules();
        assert_eq!(judge_trace(&kept, &barriers(1000)), [""; 0]);
        assert_eq!(
            judge_trace(&kept, &barriers(999)),
            ["only 999 events were there to check"]
        );
        let mut hole = barriers(1100);
        hole.records.remove(1000);
        assert_eq!(
            judge_trace(&kept, &hole),
            ["events are missing: 1000 were checked, 99 not"]
        );
        let breaks = kept.clone().breaks("right VMID: vm0");
        let expected = "the checker does not report `right VMID: vm0`";
        assert_eq!(judge_trace(&breaks, &barriers(1000)), [expected]);
        let sees = kept.sees(&["isb", "table taken away"]);
        assert_eq!(
            judge_trace(&sees, &barriers(1000)),
            ["the checker has seen no `table taken away`"]
        );
    }
}
