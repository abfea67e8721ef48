//! What the boot tests take on the command line: what Rust's own tests do, and which part of them
//! to run.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;
use libtest_mimic::{Arguments, ColorSetting, FormatSetting};
use xtask::cli::QemuProgram;
use xtask::shard::Shard;

use crate::catalogue::catalogue;
use crate::scenario::Scenario;

/// Boot Tessera and its guests in QEMU, and judge what comes over the console
///
/// Each test leaves a folder target/boot-tests/NAME with its command line and console.
#[derive(Debug, Parser)]
#[command(name = "boot")]
pub struct Options {
    /// Run only the quick ones
    #[arg(long)]
    pub quick: bool,

    /// List the tests instead of running them
    #[arg(long)]
    pub list: bool,

    /// How many run side by side
    #[arg(long, alias = "test-threads", value_name = "N", default_value = "2")]
    pub jobs: NonZeroUsize,

    /// Run the I-th of N parts: all N together run every test once
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,

    /// Where the folders of the tests go [default: target/boot-tests]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,

    /// Install nothing: fail if something is missing, and name it
    #[arg(long)]
    pub no_install: bool,

    /// Run only the tests with exactly these names
    #[arg(long)]
    pub exact: bool,

    /// Leave out the tests whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,

    /// Run only ignored tests, of which there are none
    #[arg(long)]
    pub ignored: bool,

    /// Run ignored tests, too
    #[arg(long)]
    pub include_ignored: bool,

    /// How what came of them is written
    #[arg(long, value_enum)]
    pub format: Option<FormatSetting>,

    /// One character a test
    #[arg(long, short, conflicts_with = "format")]
    pub quiet: bool,

    /// Whether it is coloured
    #[arg(long, value_enum)]
    pub color: Option<ColorSetting>,

    /// Nothing is captured anyway
    #[arg(long)]
    pub nocapture: bool,

    /// Which QEMU
    #[command(flatten)]
    pub program: QemuProgram,

    /// Run only the tests whose name contains one of these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

impl Options {
    /// The tests that are asked for.
    pub fn chosen(&self) -> Vec<Scenario> {
        let matches = |test: &str, name: &String| match self.exact {
            true => test == name,
            false => test.contains(name.as_str()),
        };
        let is_asked = |scenario: &Scenario| {
            let name = scenario.name;
            (self.names.is_empty() || self.names.iter().any(|one| matches(name, one)))
                && !self.skip.iter().any(|one| matches(name, one))
                && (scenario.quick || !self.quick)
                && !self.ignored
        };
        let asked = catalogue().into_iter().filter(is_asked).enumerate();
        let in_shard = |&(at, _): &(usize, _)| self.shard.is_none_or(|shard| shard.has(at));
        asked
            .filter(in_shard)
            .map(|(_, scenario)| scenario)
            .collect()
    }

    /// What is left for `libtest-mimic` once the tests are chosen.
    pub fn arguments(&self) -> Arguments {
        Arguments {
            list: self.list,
            test_threads: Some(self.jobs.get()),
            format: self.format,
            quiet: self.quiet,
            color: self.color,
            ..Arguments::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(args: &[&str]) -> Vec<&'static str> {
        let options = Options::parse_from([&["boot"], args].concat());
        options
            .chosen()
            .iter()
            .map(|scenario| scenario.name)
            .collect()
    }

    #[test]
    fn names_choose_by_a_part_or_exactly() {
        assert!(chosen(&["hello-max"]).contains(&"hello-max"));
        assert!(chosen(&["hello", "image"]).len() > 5);
        assert_eq!(chosen(&["--exact", "hello-max"]), ["hello-max"]);
        assert_eq!(chosen(&["--exact", "hello"]), [""; 0]);
        assert!(!chosen(&["hello", "--skip", "max"]).contains(&"hello-max"));
        assert_eq!(chosen(&["--ignored"]), [""; 0]);
    }

    #[test]
    fn shards_have_each_test_once() {
        let mut all = chosen(&[]);
        let shards = ["1/3", "2/3", "3/3"].map(|shard| chosen(&["--shard", shard]));
        let sizes = shards.each_ref().map(Vec::len);
        assert!(sizes.iter().max() <= sizes.iter().min().map(|least| least + 1).as_ref());
        let mut together = shards.concat();
        together.sort_unstable();
        all.sort_unstable();
        assert_eq!(together, all);
    }

    #[test]
    fn what_other_programs_ask_for_is_understood() {
        // `cargo nextest` lists, and then runs each by its name.
        for args in [
            &["--list", "--format", "terse"][..],
            &["--list", "--format", "terse", "--ignored"],
            &["hello-max", "--exact", "--nocapture"],
            &["--test-threads", "1", "--format", "json"],
        ] {
            Options::try_parse_from([&["boot"], args].concat()).expect("understood");
        }
    }
}
