//! Which events of a recording are asked for.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use trace::event::NOBODY;
use trace::{Category, Record};

use super::Recording;
use super::names::hyphened;
use crate::options::TraceOptions;

/// An option that asks for some events only.
struct Filter<'o> {
    /// The option as it was given.
    option: String,
    wants: Box<dyn Fn(&Record) -> bool + 'o>,
    /// What of its kind a recording has.
    has: fn(&Recording) -> BTreeSet<String>,
}

/// Keeps only what the options ask for.
///
/// # Errors
///
/// When nothing of it is there: what is, is said.
pub(super) fn keep(recording: &mut Recording, options: &TraceOptions) -> Result<()> {
    let filters = filters(options);
    for Filter { option, wants, has } in &filters {
        if !recording.records.iter().any(wants) {
            let there: Vec<_> = has(recording).into_iter().collect();
            let there = match there[..] {
                [] => "events of nobody only".to_owned(),
                _ => there.join(", "),
            };
            bail!("there is nothing for {option}; the recording has {there}");
        }
    }
    recording
        .records
        .retain(|record| filters.iter().all(|filter| (filter.wants)(record)));
    if recording.records.is_empty() {
        let options: Vec<_> = filters.into_iter().map(|filter| filter.option).collect();
        bail!(
            "no event is for all of {}; leave one out",
            options.join(", ")
        );
    }
    Ok(())
}

fn filters(options: &TraceOptions) -> Vec<Filter<'_>> {
    let mut filters = Vec::new();
    if let Some(categories) = options.category {
        let named = Category::ALL.iter().filter(|one| categories.has(**one));
        let named: Vec<_> = named.map(|one| one.text()).collect();
        filters.push(Filter {
            option: format!("--category {}", named.join(",")),
            wants: Box::new(move |record| categories.has(record.event.category())),
            has: |recording| {
                names(recording, |record| {
                    Some(record.event.category().text().into())
                })
            },
        });
    }
    if !options.event.is_empty() {
        let is_named = |name: &str| options.event.contains(&hyphened(name));
        filters.push(Filter {
            option: format!("--event {}", options.event.join(" --event ")),
            wants: Box::new(move |record| is_named(record.event.name())),
            has: |recording| names(recording, |record| Some(hyphened(record.event.name()))),
        });
    }
    if let Some(cpu) = options.cpu {
        filters.push(Filter {
            option: format!("--cpu {cpu}"),
            wants: Box::new(move |record| record.stamp.cpu == cpu),
            has: |recording| names(recording, |record| Some(format!("cpu{}", record.stamp.cpu))),
        });
    }
    if let Some(vm) = options.vm {
        filters.push(Filter {
            option: format!("--vm {vm}"),
            wants: Box::new(move |record| record.stamp.vm == vm),
            has: |recording| names(recording, vm_of),
        });
    }
    filters
}

fn vm_of(record: &Record) -> Option<String> {
    (record.stamp.vm != NOBODY).then(|| format!("vm{}", record.stamp.vm))
}

/// The names of what events are of, each once.
fn names(recording: &Recording, name: fn(&Record) -> Option<String>) -> BTreeSet<String> {
    recording.records.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::recording;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: TraceOptions,
    }

    fn options(args: &[&str]) -> TraceOptions {
        Line::parse_from([&["trace", "file"], args].concat()).options
    }

    /// What is kept, by name, or why nothing is.
    fn kept(args: &[&str]) -> Result<Vec<(&'static str, u8, u8)>, String> {
        let mut recording = recording();
        keep(&mut recording, &options(args)).map_err(|error| error.to_string())?;
        let stamp = |record: &Record| (record.event.name(), record.stamp.cpu, record.stamp.vm);
        Ok(recording.records.iter().map(stamp).collect())
    }

    #[test]
    fn everything_is_kept_if_nothing_is_asked_for() {
        let all = kept(&[]).expect("everything");
        assert_eq!(all.len(), recording().records.len());
    }

    #[test]
    fn each_option_keeps_its_own() {
        let names = |args: &[&str]| -> Vec<_> {
            let kept = kept(args).expect("something");
            kept.into_iter().map(|(name, ..)| name).collect()
        };
        assert_eq!(names(&["--event", "SPLIT"]), ["Split"]);
        assert_eq!(
            names(&["--event", "split", "--event", "marker"]),
            ["Marker", "Split"]
        );
        assert_eq!(names(&["--category", "race,vcpu"]), ["Marker", "Enter"]);
        let of_cpu = kept(&["--cpu", "1"]).expect("some");
        assert!(of_cpu.iter().all(|(_, cpu, _)| *cpu == 1));
        let other = kept(&["--cpu", "0"]).expect("others");
        assert_eq!(of_cpu.len() + other.len(), recording().records.len());
        // What is nobody's is not a VM's.
        let of_vm = names(&["--vm", "0"]);
        assert_eq!(of_vm.len(), recording().records.len() - 1);
        assert!(!of_vm.contains(&"Frames"));
        assert_eq!(
            names(&["--category", "change", "--vm", "0", "--event", "split"]),
            ["Split"]
        );
    }

    #[test]
    fn who_asks_for_what_is_not_there_is_told_what_is() {
        let wrong = |args: &[&str]| kept(args).expect_err("nothing");
        assert_eq!(
            wrong(&["--cpu", "77"]),
            "there is nothing for --cpu 77; the recording has cpu0, cpu1"
        );
        assert_eq!(
            wrong(&["--vm", "9"]),
            "there is nothing for --vm 9; the recording has vm0"
        );
        assert_eq!(
            wrong(&["--category", "sched,tlb"]),
            "there is nothing for --category tlb,sched; the recording has change, fault, map, race, vcpu"
        );
        let event = wrong(&["--event", "grace", "--event", "retry"]);
        assert!(
            event.starts_with(
                "there is nothing for --event grace --event retry; the recording has "
            ),
            "{event}"
        );
        assert_eq!(
            wrong(&["--cpu", "1", "--event", "ram"]),
            "no event is for all of --event ram, --cpu 1; leave one out"
        );
        let mut empty = Recording::default();
        let error = keep(&mut empty, &options(&["--vm", "0"])).expect_err("nothing");
        assert!(
            error.to_string().ends_with("has events of nobody only"),
            "{error}"
        );
    }
}
