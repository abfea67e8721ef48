//! Chooses the mode.

use guest::{
    args::{Args, ArgsError},
    catalogue,
    machine::Machine,
    psci,
};

use crate::{
    accesses, clock, debug, devices, error, facts, halt, hold, origins, outside, read, reset, say,
    share, split, storm,
};

guest::main!(run);

fn run(machine: &'static Machine<'static>) {
    if let Err(error) = run_mode(machine) {
        panic!("{error}");
    }
}

fn run_mode(machine: &'static Machine<'static>) -> Result<(), ArgsError<'static>> {
    let args = Args::new(machine.arguments, &catalogue::HELLO)?;
    match args.value("mode").unwrap_or("hello") {
        "hello" => facts::print(machine),
        "accesses" => accesses::run(machine),
        "clock" => clock::run(machine),
        "debug" => debug::run(machine, args.number("ms", 0), args.number("seed", 1)),
        "devices" => devices::run(machine),
        "error" => {
            let syndrome = args.number("syndrome", 0);
            let comes = args.number("comes", u64::from(syndrome != 0)) != 0;
            let waits = (args.number("waits", 0) != 0).then_some(machine);
            error::run(syndrome, comes, args.number("ms", 30), waits);
        }
        "halt" => halt::run(machine, args.value("kind").unwrap_or("loop")),
        "hold" => {
            let step = args.number("step", 1);
            hold::run(machine, step as usize, args.number("wait", 1) != 0);
        }
        "origins" => origins::run(machine),
        "outside" => outside::run(machine),
        "poweroff" => psci::system_off(),
        "read" => read::run(args.number("bytes", 10), args.number("every", 0)),
        "reset" => reset::run(machine),
        "say" => say::run(
            args.number("lines", 5),
            args.number("every", 100),
            args.number("most", u64::MAX),
        ),
        "share" => share::run(args.number("least", 0)),
        "split" => split::run(args.number("ms", 100)),
        "storm" => {
            let kind = args.value("kind").unwrap_or("work");
            storm::run(
                machine,
                kind,
                args.number("ms", 100),
                args.number("times", 10),
            );
        }
        other => unreachable!("the catalogue has a mode `{other}`, and nothing does it"),
    }
    Ok(())
}
