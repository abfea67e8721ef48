//! The order of things, and what is reported.

use guest::{
    args::{Args, ArgsError},
    catalogue,
    machine::Machine,
    println,
};
use plural::count;

use crate::mismatches::Mismatches;
use crate::{alarm, code, rounds, survey};

guest::main!(run);

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
        count(mismatches.count(), "mismatch", "mismatches")
    );
    assert!(
        mismatches.count() == 0,
        "registers are not as the contract has them"
    );
}

fn plan(machine: &Machine<'static>) -> Result<(u64, u64), ArgsError<'static>> {
    let args = Args::new(machine.arguments, &catalogue::SWEEP)?;
    Ok((args.number("seed", 1), args.number("rounds", 100)))
}
