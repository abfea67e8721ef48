//! The list of boot tests, by subject.

mod chaos;
mod consoles;
mod embedding;
mod images;
mod linux;
mod machines;
mod memory;
mod models;
mod shares;
mod speculation;
mod tracing;
mod trouble;
mod vcpus;

use crate::scenario::Scenario;

use chaos::chaos;
use consoles::consoles;
use embedding::embedded;
use images::images;
use linux::linux;
use machines::{machines, power};
use memory::{logging, policies, stress};
use models::{cpu_models, registers};
use shares::shares;
use speculation::speculation;
use tracing::{breaches, replayed, traced, traced_races};
use trouble::trouble;
use vcpus::{debugging, interrupts};

/// Every boot test, in the order in which they are shown.
pub fn catalogue() -> Vec<Scenario> {
    let mut tests = cpu_models();
    tests.extend(speculation());
    tests.extend(registers());
    tests.extend(stress());
    tests.extend(policies());
    tests.extend(logging());
    tests.extend(interrupts());
    tests.extend(debugging());
    tests.extend([traced(), traced_races()]);
    tests.extend(replayed());
    tests.extend(breaches());
    tests.extend(power());
    tests.extend(machines());
    tests.extend(shares());
    tests.extend(consoles());
    tests.extend(trouble());
    tests.extend(images());
    tests.extend(embedded());
    tests.extend(chaos());
    tests.extend(linux());
    tests
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_fit_for_folders() {
        let mut seen = HashSet::new();
        for test in catalogue() {
            let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(test.name.chars().all(fit), "{}", test.name);
            assert!(seen.insert(test.name), "{} is there twice", test.name);
        }
    }

    #[test]
    fn patterns_are_regular_expressions() {
        for test in catalogue() {
            for pattern in test.wanted.iter().chain(&test.unwanted) {
                assert!(
                    regex::Regex::new(pattern).is_ok(),
                    "{}: {pattern}",
                    test.name
                );
            }
        }
    }

    #[test]
    fn machines_are_possible_and_guests_exist() {
        let workspace = xtask::workspace::Workspace::load().expect("a workspace");
        for test in catalogue() {
            let specs = test.specs().expect(test.name);
            xtask::vms::check_guests(&specs, &workspace.guests()).expect(test.name);
            let target = workspace.kept_directory();
            let host = xtask::vms::Host::new(test.memory, test.hyp_args, &target);
            xtask::vms::check(&specs, &host).expect(test.name);
            let cpu: Result<xtask::qemu::CpuModel, _> = test.cpu.parse();
            assert!(cpu.is_ok_and(|cpu| cpu.is_tested()), "{}", test.name);
            assert!(
                (1..=xtask::qemu::MOST_CPUS).contains(&test.cpus),
                "{}",
                test.name
            );
            let is_known = xtask::hyp_args::HypArgs::parse(test.hyp_args).is_ok();
            assert_eq!(is_known, test.name != "unknown-arguments", "{}", test.name);
        }
    }

    #[test]
    fn every_cpu_model_and_every_kind_of_race_is_covered() {
        let tests = catalogue();
        for cpu in xtask::qemu::TESTED_CPUS {
            assert!(
                tests
                    .iter()
                    .any(|test| test.vms == ["hello"] && test.cpu == cpu)
            );
        }
        for cpus in [1, 2, 4, 8] {
            assert!(
                tests.iter().any(|test| {
                    test.cpus == cpus && test.hyp_args.contains("compaction=stress")
                })
            );
        }
    }
}
