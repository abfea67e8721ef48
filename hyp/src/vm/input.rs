//! What is typed at the console, on its way to one VM.
//!
//! Bytes come by the console's interrupt, on whatever CPU takes it. Commands are left to a thread
//! ([`serve_by`]), since they take their time.
//!
//! Nothing that is typed is lost. While the VM that gets it has no room, or a command has not been
//! carried out, no byte is taken: it waits in the UART, and where that is QEMU's in the pipe or
//! terminal behind it. What makes room calls [`go_on`]. So commands are seen in their order with
//! the text, and a VM that does not read holds them up only if more has been typed than it has room
//! for (4096 bytes).
//!
//! Lock order: the keyboard; then that for the command, a VM's terminal, or the console.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bootargs::ConsoleMode;
use log::info;
use mux::keys::{Command, Input, Keys};
use platform::timer;
use platform::uart::Received;
use spin::{Mutex, Once};

use super::{MAX_VMS, get};
use crate::console;
use crate::sched::{self, ThreadId};

/// How many times a second starts of lines are looked for: none is held back for longer than twice
/// that.
const LOOKS_PER_SECOND: u64 = 50;

/// How long what is typed may wait before that is remarked upon, in seconds.
const HOLD_REMARKED: u64 = 2;

/// How many bytes are taken at a time: an interrupt comes again if there are more.
const AT_ONCE: usize = 64;

static KEYS: Mutex<Keys> = Mutex::new(Keys::new());
/// Nothing is taken until there is room. Written with the keyboard locked only.
static HELD: AtomicBool = AtomicBool::new(false);
/// When that began, in ticks.
static HELD_SINCE: AtomicU64 = AtomicU64::new(0);
/// Whether the user knows that what is typed now waits.
static IS_HOLD_KNOWN: AtomicBool = AtomicBool::new(false);
/// The command that is carried out, or is about to be.
static COMMAND: Mutex<Option<Command>> = Mutex::new(None);
/// The VM that gets what is typed.
static LISTENER: AtomicUsize = AtomicUsize::new(0);
/// Whether that VM's output is passed on byte for byte.
static RAW: AtomicBool = AtomicBool::new(false);
/// The thread that carries commands out, and shows starts of lines.
static THREAD: Once<ThreadId> = Once::new();

/// Listens to the console; `thread` takes the commands, and shows the starts of lines that guests
/// have not ended.
pub(crate) fn serve_by(thread: ThreadId, mode: ConsoleMode) {
    RAW.store(mode == ConsoleMode::Raw, Ordering::Relaxed);
    THREAD.call_once(|| thread);
    console::listen(true);
}

/// Takes what was typed, as far as there is room for it.
pub(crate) fn receive() {
    let mut keys = KEYS.lock();
    for _ in 0..AT_ONCE {
        if !has_room() {
            console::listen(false);
            // Before another look: what makes room after that sees it, and calls `go_on`.
            HELD_SINCE.store(timer::now(), Ordering::Relaxed);
            HELD.store(true, Ordering::SeqCst);
            if !has_room() {
                // It says so if it lasts.
                wake();
                return;
            }
            listen_again();
        }
        let Some(received) = console::read() else {
            return;
        };
        let input = match received {
            Received::Byte(byte) => keys.take(byte),
            Received::Lost => {
                get(listener()).type_in(received);
                continue;
            }
        };
        match input {
            Input::Guest(byte) => get(listener()).type_in(Received::Byte(byte)),
            Input::Command(command) => {
                *COMMAND.lock() = Some(command);
                wake();
            }
            Input::Nothing => {}
        }
    }
}

/// There may be room for what is typed: takes it, if it was left waiting.
pub(crate) fn go_on() {
    if !HELD.load(Ordering::SeqCst) {
        return;
    }
    let keys = KEYS.lock();
    if HELD.load(Ordering::Relaxed) && has_room() {
        listen_again();
    }
    drop(keys);
    receive();
}

/// Lets what is typed come again. With the keyboard locked.
fn listen_again() {
    HELD.store(false, Ordering::Relaxed);
    IS_HOLD_KNOWN.store(false, Ordering::Relaxed);
    console::listen(true);
}

/// Whether the next byte that was typed can be dealt with at once.
fn has_room() -> bool {
    let is_free = COMMAND.lock().is_none();
    is_free && get(listener()).has_room_to_type()
}

/// Whether the output of VM number `vm` is to be passed on byte for byte.
pub(crate) fn is_raw(vm: usize) -> bool {
    RAW.load(Ordering::Relaxed) && vm == listener()
}

/// Says that what is typed waits, commands too, if the VM that gets it has not read for
/// [`HOLD_REMARKED`] seconds. Returns whether to look again soon. The thread calls it, with no
/// command to carry out.
pub(crate) fn remark_hold() -> bool {
    if !HELD.load(Ordering::Relaxed) || IS_HOLD_KNOWN.load(Ordering::Relaxed) {
        return false;
    }
    let since = HELD_SINCE.load(Ordering::Relaxed);
    let is_long = timer::now().saturating_sub(since) > HOLD_REMARKED * timer::frequency();
    if is_long {
        IS_HOLD_KNOWN.store(true, Ordering::Relaxed);
        let vm = listener();
        info!(
            "vm{vm} does not read what is typed, and there is no room for more: the rest waits, Ctrl-A too"
        );
    }
    !is_long
}

/// Has the thread look for commands, and for starts of lines to be shown.
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
    LISTENER.load(Ordering::SeqCst)
}

/// The command that waits to be carried out, if there is one. It counts as waiting until
/// [`command_done`].
pub(crate) fn command() -> Option<Command> {
    *COMMAND.lock()
}

/// The command has been carried out: another can be typed.
pub(crate) fn command_done() {
    *COMMAND.lock() = None;
    go_on();
}

/// VM number `vm` has ended. If what is typed went to it, another one has that from now on.
pub(crate) fn ended(vm: usize) {
    if vm == listener() {
        next();
    }
}

/// The VM that had number `from` has been made anew, with number `to`. If what is typed went to it,
/// it still does.
pub(crate) fn moved(from: usize, to: usize) {
    if from == listener() && from != to {
        listen_to(to);
    }
}

/// Lets the next VM that is there have what is typed.
pub(crate) fn next() {
    let here = listener();
    let after = (1..=MAX_VMS).map(|distance| (here + distance) % MAX_VMS);
    let next = after.map(get).find(|vm| vm.is_alive());
    if let Some(vm) = next {
        listen_to(vm.index());
    }
}

fn listen_to(vm: usize) {
    LISTENER.store(vm, Ordering::SeqCst);
    info!("what is typed goes to vm{vm}");
    go_on();
}
