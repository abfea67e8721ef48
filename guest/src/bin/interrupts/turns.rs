//! How two vCPUs wait for each other: for an interrupt or, where none says it, for a step that the
//! other has done.

use core::sync::atomic::{AtomicU32, Ordering};

use guest::gic::{NOTHING, interface};
use guest::time;

/// How long the other may take, in seconds.
const PATIENCE: u64 = 20;

/// The last step that is done.
static TURN: AtomicU32 = AtomicU32::new(0);

/// Waits for an interrupt, which must be this one, and ends it.
pub(crate) fn take(intid: u32) {
    let found = await_interrupt(intid);
    assert!(found == intid, "{found} came instead of {intid}");
    interface::end(intid.into());
}

/// Waits for an interrupt: in WFI if `how` is odd.
pub(crate) fn await_interrupt(how: u32) -> u32 {
    let deadline = time::now() + PATIENCE * time::frequency();
    loop {
        let found = interface::acknowledge();
        if found != NOTHING {
            return found;
        }
        assert!(time::now() < deadline, "an interrupt does not come");
        if how % 2 == 1 {
            interface::wait();
        }
    }
}

/// Says that step `turn` is done.
pub(crate) fn give_turn(turn: u32) {
    TURN.store(turn, Ordering::Release);
}

/// Waits until step `turn` is done.
pub(crate) fn await_turn(turn: u32) {
    let deadline = time::now() + PATIENCE * time::frequency();
    while TURN.load(Ordering::Acquire) < turn {
        assert!(
            time::now() < deadline,
            "the other vCPU does not get to step {turn}"
        );
        core::hint::spin_loop();
    }
}
