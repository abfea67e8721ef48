//! The person at the console: what they type gets to one machine, and their commands are carried out.
//!
//! Bytes come by the console's interrupt, on whatever CPU takes it. Commands are left to a thread, since
//! they take their time; the same thread shows the starts of lines, such as prompts, that guests have
//! not ended.
//!
//! Lock: the keyboard, a leaf.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyp::bootargs::ConsoleMode;
use hyp::vm::keys::{COMMANDS, Command, Input, Keys};
use log::info;
use platform::timer;
use spin::{Mutex, Once};

use crate::sched::{self, SpawnError, ThreadId};
use crate::vm::{self, MAX_VMS};
use crate::{boot, console, machine};

/// How many times a second starts of lines are looked for: none is held back for longer than twice that.
const LOOKS_PER_SECOND: u64 = 50;

static KEYS: Mutex<Keys> = Mutex::new(Keys::new());
/// The command that is to be carried out. One that follows too fast is forgotten.
static COMMAND: Mutex<Option<Command>> = Mutex::new(None);
/// The machine that gets what is typed.
static LISTENER: AtomicUsize = AtomicUsize::new(0);
/// Whether that machine's output is passed on byte for byte.
static RAW: AtomicBool = AtomicBool::new(false);
static THREAD: Once<ThreadId> = Once::new();

/// Starts the thread, and listens to the console.
///
/// # Errors
///
/// There is no room for the thread: nothing that is typed is received, and guests' lines are shown when
/// they end.
pub(crate) fn start(mode: ConsoleMode) -> Result<(), SpawnError> {
    RAW.store(mode == ConsoleMode::Raw, Ordering::Relaxed);
    let thread = sched::spawn("operator", run, 0, None)?;
    THREAD.call_once(|| thread);
    console::listen();
    Ok(())
}

/// Takes what was typed.
pub(crate) fn receive() {
    while let Some(byte) = console::read_byte() {
        let input = KEYS.lock().take(byte);
        match input {
            Input::Guest(byte) => vm::get(listener()).type_in(byte),
            Input::Command(command) => {
                *COMMAND.lock() = Some(command);
                wake();
            }
            Input::Nothing => {}
        }
    }
}

/// Whether the output of machine number `vm` is to be passed on byte for byte.
pub(crate) fn is_raw(vm: usize) -> bool {
    RAW.load(Ordering::Relaxed) && vm == listener()
}

/// Says that the start of a line is there to be shown.
pub(crate) fn wake() {
    if let Some(&thread) = THREAD.get() {
        sched::wake(thread);
    }
}

/// How long the start of a line is held back, in ticks.
pub(crate) fn patience() -> u64 {
    timer::frequency() / LOOKS_PER_SECOND
}

fn listener() -> usize {
    LISTENER.load(Ordering::Relaxed)
}

extern "C" fn run(_: usize) {
    loop {
        let command = COMMAND.lock().take();
        if let Some(command) = command {
            carry_out(command);
        }
        let waiting = vm::all().filter(|vm| vm.show_start_of_line()).count();
        if waiting > 0 {
            sched::sleep_until(timer::now() + patience());
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
            machine::show_statistics();
            machine::show_usage();
        }
        Command::Next => next(),
        Command::Quit => quit(),
    }
}

fn quit() -> ! {
    for vm in vm::all().filter(|vm| vm.is_there()) {
        console::line(format_args!("tessera: vm{} off", vm.index()));
    }
    boot::switch_off()
}

fn help() {
    info!("Ctrl-A and a letter:");
    for (letter, _, text) in COMMANDS {
        info!("  {}  {text}", char::from(letter));
    }
    info!("  Ctrl-A  one Ctrl-A for the guest");
}

/// Machine number `vm` has ended. If what is typed went to it, another one has that from now on.
pub(crate) fn ended(vm: usize) {
    if vm == listener() {
        next();
    }
}

/// Lets the next machine that is there have what is typed.
fn next() {
    let here = listener();
    let after = (1..=MAX_VMS).map(|distance| (here + distance) % MAX_VMS);
    let next = after.map(vm::get).find(|vm| vm.is_alive());
    if let Some(vm) = next {
        LISTENER.store(vm.index(), Ordering::Relaxed);
        info!("what is typed goes to vm{}", vm.index());
    }
}
