//! What two vCPUs do to each other.
//!
//! vCPU 1 answers; vCPU 0 asks and judges. vCPU 1's own failures end the guest as well.

use guest::{boot, machine::Machine};
use spin::Once;

use guest::gic::{Bits, Gic, NOTHING, interface, sgi_to, sgi_to_others};

use crate::elsewhere;
use crate::turns::{await_interrupt, await_turn, give_turn, take};

/// A shared interrupt without a device.
const SHARED: u32 = 40;
/// How often an SGI goes there and back.
const ROUNDS: u32 = 200;

static PLACE: Once<&'static Machine<'static>> = Once::new();

/// Tries everything, if there is a vCPU 1.
pub(crate) fn run(machine: &'static Machine<'static>, gic: Gic) {
    let &[own, other, ..] = machine.mpidrs() else {
        return;
    };
    PLACE.call_once(|| machine);
    boot::start_vcpu(machine, 1, answer);
    await_turn(2);
    back_and_forth(own, other);
    shared(gic, own, other);
    let others = Gic::of(machine, 1);
    // A register of the other's, written and read from here.
    others.write_private(Bits::SetPending, 1 << 9);
    give_turn(5);
    await_turn(6);
    assert!(
        others.private(Bits::SetActive) & 0xffff == 1 << 9,
        "the other's SGI is not seen to be active"
    );
    others.write_private(Bits::ClearActive, 1 << 9);
    give_turn(7);
    await_turn(8);
    elsewhere::run(gic, others, own, other);
}

/// What vCPU 1 does.
fn answer(_: usize) {
    let Some(machine) = PLACE.get() else { return };
    let &[asker, ..] = machine.mpidrs() else {
        return;
    };
    let gic = Gic::of(machine, 1);
    gic.init_vcpu();
    give_turn(2);
    for round in 0..ROUNDS {
        take(1 + round % 8);
        interface::send(sgi_to(asker, 1 + round % 8));
    }
    take(15);
    give_turn(3);
    take_shared();
    take_sgi_of_the_other(gic);
    elsewhere::answer(gic);
}

/// SGIs go there and back without one getting lost. Every other wait is a WFI.
fn back_and_forth(own: u64, other: u64) {
    for round in 0..ROUNDS {
        interface::send(sgi_to(other, 1 + round % 8));
        take(1 + round % 8);
    }
    interface::send(sgi_to_others(15));
    interface::send(sgi_to(own, 14));
    take(14);
    await_turn(3);
}

/// A shared interrupt is taken where it is routed, and is seen from everywhere.
fn shared(gic: Gic, own: u64, other: u64) {
    gic.write_shared(Bits::ClearActive, SHARED);
    gic.write_shared(Bits::Group, SHARED);
    gic.set_priority(SHARED, 0x80);
    gic.route(SHARED, own);
    gic.write_shared(Bits::SetEnable, SHARED);
    gic.write_shared(Bits::SetPending, SHARED);
    take(SHARED);
    gic.route(SHARED, other);
    gic.write_shared(Bits::SetPending, SHARED);
    await_turn(4);
    assert!(
        gic.shared(Bits::SetActive, SHARED),
        "an interrupt that another vCPU has taken is not seen to be active"
    );
    assert!(
        !gic.shared(Bits::SetPending, SHARED),
        "an interrupt that another vCPU has taken is seen to be pending"
    );
    assert!(
        interface::acknowledge() == NOTHING,
        "an interrupt that is routed elsewhere was taken here"
    );
}

/// vCPU 1 takes the shared interrupt, and leaves it active while vCPU 0 looks.
fn take_shared() {
    let found = await_interrupt(0);
    assert!(found == SHARED, "{found} came instead of {SHARED}");
    give_turn(4);
    await_turn(5);
    interface::end(SHARED.into());
}

/// vCPU 1 takes an SGI that vCPU 0 made pending, and vCPU 0 ends it.
fn take_sgi_of_the_other(gic: Gic) {
    let found = await_interrupt(1);
    assert!(found == 9, "{found} came instead of 9");
    give_turn(6);
    await_turn(7);
    let active = gic.private(Bits::SetActive);
    assert!(
        active == 0,
        "active: {active:#x} after the other cleared it"
    );
    interface::end(9);
    give_turn(8);
}
