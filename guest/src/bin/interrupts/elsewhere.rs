//! What one vCPU does to an interrupt that another one waits for or handles.
//!
//! vCPU 1 waits and handles, vCPU 0 does the rest.

use guest::gic::{Bits, Gic, NOTHING, interface};
use guest::time;

use crate::timers::fire_after;
use crate::turns::{await_interrupt, await_turn, give_turn, take};

/// A shared interrupt without a device.
const SHARED: u32 = 43;
/// The timers' interrupts, and how many milliseconds after it begins to wait vCPU 1's timer fires:
/// before vCPU 0 enables the interrupt, or after.
const WAITS: [(u32, u64); 4] = [(27, 0), (27, 200), (30, 0), (30, 200)];
/// After how many milliseconds vCPU 1 is taken to be asleep.
const ASLEEP: u64 = 50;
/// SGIs of vCPU 0's own, more than there are list registers.
const OWN: u32 = 10;

/// vCPU 0's part; `others` is the interrupt controller as vCPU 1 has it.
pub(crate) fn run(gic: Gic, others: Gic, own: u64, other: u64) {
    for round in 0..WAITS.len() as u32 {
        wakes(others, round);
    }
    gic.write_shared(Bits::Group, SHARED);
    gic.set_edge(SHARED);
    gic.set_priority(SHARED, 0x80);
    gic.write_shared(Bits::SetEnable, SHARED);
    gic.route(SHARED, other);
    interface::split_ends(true);
    give_turn(21);
    deactivates(gic, 22, 1);
    deactivates(gic, 26, OWN);
    interface::split_ends(false);
    reroutes(gic, own);
}

/// vCPU 1's part.
pub(crate) fn answer(gic: Gic) {
    for (round, wait) in (0..).zip(WAITS) {
        sleeps(gic, round, wait);
    }
    await_turn(21);
    interface::split_ends(true);
    // vCPU 0 makes it inactive.
    for turn in [22, 24, 26, 28] {
        await_turn(turn);
        take(SHARED);
        give_turn(turn + 1);
    }
    interface::split_ends(false);
    await_turn(30);
    let found = await_interrupt(0);
    assert!(found == SHARED, "{found} came instead of {SHARED}");
    give_turn(31);
    await_turn(32);
    interface::end(SHARED.into());
    let found = interface::acknowledge();
    assert!(
        found == NOTHING,
        "{found} comes to vCPU 1 though it was routed to vCPU 0 before it ended"
    );
    give_turn(33);
}

fn pause(milliseconds: u64) {
    let end = time::now() + milliseconds * time::frequency() / 1000;
    while time::now() < end {}
}

/// vCPU 1 is in a WFI; what would end it is disabled until vCPU 0 enables it.
fn wakes(others: Gic, round: u32) {
    await_turn(9 + 2 * round);
    pause(ASLEEP);
    let (timer, _) = WAITS[round as usize];
    others.write_private(Bits::SetEnable, 1 << timer);
    await_turn(10 + 2 * round);
}

fn sleeps(gic: Gic, round: u32, (timer, delay): (u32, u64)) {
    gic.write_private(Bits::ClearEnable, 1 << timer);
    gic.wait();
    let quiet = fire_after(timer, delay * time::frequency() / 1000);
    give_turn(9 + 2 * round);
    while interface::most_urgent() == NOTHING {
        interface::wait();
    }
    let found = interface::acknowledge();
    assert!(found == timer, "{found} came instead of {timer}");
    quiet();
    interface::end(timer.into());
    give_turn(10 + 2 * round);
}

/// vCPU 0 makes an interrupt inactive that vCPU 1 has taken, by its number. `own` are active here.
fn deactivates(gic: Gic, turn: u32, own: u32) {
    let mask = (1 << own) - 1;
    gic.write_private(Bits::SetPending, mask);
    for _ in 0..own {
        interface::end(interface::acknowledge().into());
    }
    gic.write_shared(Bits::SetPending, SHARED);
    give_turn(turn);
    await_turn(turn + 1);
    assert!(gic.shared(Bits::SetActive, SHARED), "it is not active");
    interface::deactivate(SHARED.into());
    assert!(
        !gic.shared(Bits::SetActive, SHARED),
        "an interrupt that vCPU 1 has taken does not end by its number on vCPU 0"
    );
    // It comes again.
    gic.write_shared(Bits::SetPending, SHARED);
    give_turn(turn + 2);
    await_turn(turn + 3);
    interface::deactivate(SHARED.into());
    gic.write_shared(Bits::SetActive, SHARED);
    assert!(gic.shared(Bits::SetActive, SHARED), "it is not made active");
    interface::deactivate(SHARED.into());
    assert!(
        !gic.shared(Bits::SetActive, SHARED),
        "an interrupt that software made active does not end by its number"
    );
    assert!(
        gic.private(Bits::SetActive) & 0xffff == mask,
        "this vCPU's own have changed"
    );
    (0..own).for_each(|number| interface::deactivate(number.into()));
    assert!(gic.private(Bits::SetActive) == 0, "own ones are left");
}

/// An interrupt that is active on vCPU 1, and pending, is routed to vCPU 0: there it comes when it
/// has ended.
fn reroutes(gic: Gic, own: u64) {
    gic.write_shared(Bits::SetPending, SHARED);
    give_turn(30);
    await_turn(31);
    gic.write_shared(Bits::SetPending, SHARED);
    gic.route(SHARED, own);
    assert!(interface::acknowledge() == NOTHING, "it is still active");
    give_turn(32);
    let found = await_interrupt(1);
    assert!(found == SHARED, "{found} came instead of {SHARED}");
    interface::end(found.into());
    await_turn(33);
}
