//! The threads that send over the console: what the UART did not take at once, and traces.

use platform::timer;
use spin::Once;

use crate::sched::{self, SpawnError, ThreadId};
use crate::{console, mm, tracing};

/// How long the sender of traces sleeps when there is nothing to send, in milliseconds.
const PERIOD_MS: u64 = 2;
/// How many frames it sends between two looks at what memory is left.
const FRAMES_BETWEEN_LOOKS: usize = 64;

/// The thread that sends what is left.
static CONSOLE: Once<ThreadId> = Once::new();

/// Starts the thread that sends what the UART did not take at once.
///
/// # Errors
///
/// There is no room for it: what is left goes with what is said next.
pub(crate) fn start_console() -> Result<(), SpawnError> {
    let thread = sched::spawn("console", send_backlog, 0, None)?;
    CONSOLE.call_once(|| thread);
    console::wake_when_behind(|| {
        if let Some(&thread) = CONSOLE.get() {
            sched::wake(thread);
        }
    });
    Ok(())
}

extern "C" fn send_backlog(_: usize) {
    loop {
        if console::send_backlog() {
            sched::park();
        } else {
            sched::sleep_until(console::next_look());
        }
    }
}

/// Starts the thread that sends traces.
///
/// # Errors
///
/// There is no room for it: no event is sent, but those that are asked for at a VM's end.
pub(crate) fn start_trace() -> Result<(), SpawnError> {
    sched::spawn("trace", send_events, 0, None).map(drop)
}

extern "C" fn send_events(_: usize) {
    loop {
        mm::trace_frames();
        let mut sent = 0;
        while sent < FRAMES_BETWEEN_LOOKS {
            let now = tracing::send_round(wait_for_room);
            if now == 0 {
                sched::sleep_until(timer::now() + timer::frequency() * PERIOD_MS / 1000);
                break;
            }
            sent += now;
            sched::cond_resched();
        }
    }
}

/// Waits until the console has sent the last frame, with nothing locked.
fn wait_for_room() {
    while !console::has_room_for_frames() {
        sched::sleep_until(console::next_look());
    }
}
