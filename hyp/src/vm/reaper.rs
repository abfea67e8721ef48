//! The thread that frees the places of VMs that are over, and makes them anew where their manifest
//! says so: a vCPU's own thread cannot, since it is one of those that have to end first.

use platform::timer;
use spin::Once;

use super::all;
use crate::sched::{self, SpawnError, ThreadId};

/// How often a second it is looked whether threads have ended that are about to.
const LOOKS_PER_SECOND: u64 = 500;

static REAPER: Once<ThreadId> = Once::new();

/// Starts the thread.
///
/// # Errors
///
/// There is no room for it.
pub(crate) fn start() -> Result<(), SpawnError> {
    let thread = sched::spawn("reaper", reap, 0, None)?;
    REAPER.call_once(|| thread);
    Ok(())
}

/// Says that a VM is over.
pub(super) fn wake() {
    if let Some(&thread) = REAPER.get() {
        sched::wake(thread);
    }
}

extern "C" fn reap(_: usize) {
    loop {
        let waiting = all().filter(|vm| !vm.clear_away()).count();
        if waiting > 0 {
            sched::sleep_until(timer::now() + timer::frequency() / LOOKS_PER_SECOND);
        } else {
            sched::park();
        }
    }
}
