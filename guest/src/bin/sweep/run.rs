//! The order of things, and what is reported.

use core::fmt::Arguments;

use arch::Encoding;
use guest::{
    args::{Args, ArgsError},
    catalogue,
    machine::Machine,
    println,
    random::Random,
};
use plural::count;

use crate::{alarm, code, rounds, survey};

guest::main!(run);

/// So many mismatches are shown.
const SHOWN: usize = 40;

/// What was not as it should be.
#[derive(Default)]
pub(crate) struct Mismatches(usize);

impl Mismatches {
    /// Counts one, and shows it unless there were many.
    pub(crate) fn add(&mut self, what: Arguments<'_>) {
        self.0 += 1;
        if self.0 <= SHOWN {
            println!("sweep: {what}");
        }
    }
}

/// What is stored in a register in this round, by the guest with this seed.
pub(crate) fn pattern(seed: u64, register: Encoding, round: u64) -> u64 {
    Random::new(seed << 48 ^ round << 16 ^ u64::from(register.bits())).next()
}

fn run(machine: &'static Machine<'static>) {
    let (seed, rounds) = plan(machine).unwrap_or_else(|error| panic!("{error}"));
    let mut mismatches = Mismatches::default();
    code::write();
    alarm::enable(machine);
    survey::survey(seed, &mut mismatches);
    for number in 1..=rounds {
        rounds::round(number, seed, &mut mismatches);
    }
    println!(
        "sweep: {}, {}",
        count(rounds, "round", "rounds"),
        count(mismatches.0, "mismatch", "mismatches")
    );
    assert!(
        mismatches.0 == 0,
        "registers are not as the contract has them"
    );
}

fn plan(machine: &Machine<'static>) -> Result<(u64, u64), ArgsError<'static>> {
    let args = Args::new(machine.arguments, &catalogue::SWEEP)?;
    Ok((args.number("seed", 1), args.number("rounds", 100)))
}
