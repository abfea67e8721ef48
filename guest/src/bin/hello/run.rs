//! Chooses the mode.

use guest::{args::Args, machine::Machine, psci};

use crate::{facts, outside, reset};

guest::main!(run);

fn run(machine: &'static Machine<'static>) {
    let args = match Args::new(machine.arguments, &["mode"]) {
        Ok(args) => args,
        Err(error) => panic!("{error}"),
    };
    match args.value("mode").unwrap_or("hello") {
        "hello" => facts::print(machine),
        "outside" => outside::run(machine),
        "poweroff" => psci::system_off(),
        "reset" => reset::run(machine),
        other => panic!("mode={other} is none of hello, outside, poweroff, reset"),
    }
}
