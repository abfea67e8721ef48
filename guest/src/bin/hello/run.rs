//! Chooses the mode.

use guest::{
    args::{Args, ArgsError},
    machine::Machine,
    psci,
};

use crate::{devices, facts, hold, outside, reset};

guest::main!(run);

fn run(machine: &'static Machine<'static>) {
    if let Err(error) = run_mode(machine) {
        panic!("{error}");
    }
}

fn run_mode(machine: &'static Machine<'static>) -> Result<(), ArgsError<'static>> {
    let args = Args::new(machine.arguments, &["mode", "step", "wait"])?;
    match args.value("mode").unwrap_or("hello") {
        "hello" => facts::print(machine),
        "devices" => devices::run(machine),
        "hold" => {
            let step = args.number("step", 1)?;
            hold::run(machine, step as usize, args.number("wait", 1)? != 0);
        }
        "outside" => outside::run(machine),
        "poweroff" => psci::system_off(),
        "reset" => reset::run(machine),
        other => panic!("mode={other} is none of hello, devices, hold, outside, poweroff, reset"),
    }
    Ok(())
}
