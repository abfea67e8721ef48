//! The monitor: the commands that are typed at the console, and the starts of lines, such as
//! prompts, that guests have not ended.

use bootargs::ConsoleMode;
use log::info;
use mux::keys::{COMMANDS, Command};
use platform::timer;

use crate::sched::{self, SpawnError};
use crate::vm::{self, input};
use crate::{console, mm};

/// Starts the thread, and listens to the console.
///
/// # Errors
///
/// There is no room for the thread: nothing that is typed is received, and guests' lines are shown
/// when they end.
pub(crate) fn start(mode: ConsoleMode) -> Result<(), SpawnError> {
    input::serve_by(sched::spawn("monitor", run, 0, None)?, mode);
    Ok(())
}

extern "C" fn run(_: usize) {
    loop {
        if let Some(command) = input::command() {
            carry_out(command);
            input::command_done();
        }
        let waiting = vm::all().filter(|vm| vm.show_start_of_line()).count();
        if input::remark_hold() || waiting > 0 {
            sched::sleep_until(timer::now() + input::patience());
        } else {
            sched::park();
        }
    }
}

fn carry_out(command: Command) {
    match command {
        Command::Help => help(),
        Command::Statistics => {
            vm::all()
                .filter(|vm| vm.is_there())
                .for_each(|vm| vm.show_exits());
            mm::show_statistics();
            mm::show_usage();
        }
        Command::Next => input::next(),
        Command::Quit => quit(),
    }
}

fn quit() -> ! {
    for vm in vm::all().filter(|vm| vm.is_there()) {
        console::line(format_args!("tessera: vm{} off", vm.index()));
    }
    console::switch_off()
}

fn help() {
    info!("Ctrl-A and a letter:");
    for (letter, _, text) in COMMANDS {
        info!("  {}  {text}", char::from(letter));
    }
    info!("  Ctrl-A  one Ctrl-A for the guest");
}
