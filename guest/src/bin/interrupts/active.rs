//! What is done to an interrupt while a vCPU handles it, and what is done to those that others are
//! in the way of.

use guest::gic::{Bits, Gic, NOTHING, interface};
use guest::{println, time};

use crate::private::expect;
use crate::timers::fire_after;

/// A shared interrupt without a device.
const SHARED: u32 = 41;
/// An SGI.
const SGI: u32 = 3;
/// How long a register write may take, as a part of a second.
const EFFECT: u64 = 2;

/// Tries everything on this vCPU, which has the affinity `own`.
pub(crate) fn run(gic: Gic, own: u64) {
    gic.write_shared(Bits::Group, SHARED);
    gic.set_edge(SHARED);
    gic.set_priority(SHARED, 0x80);
    gic.route(SHARED, own);
    gic.write_shared(Bits::SetEnable, SHARED);
    disabled(gic);
    for intid in [SHARED, SGI] {
        for priority in [0x40, 0x80, 0xf0] {
            changed(gic, intid, |gic| gic.set_priority(intid, priority));
        }
    }
    changed(gic, SGI, |gic| gic.write_private(Bits::Group, !(1 << SGI)));
    gic.write_private(Bits::Group, u32::MAX);
    pending_again(gic);
    held_back(gic);
    gic.write_shared(Bits::ClearEnable, SHARED);
    expect("nothing left", interface::acknowledge(), NOTHING);
}

/// The interrupt's bit of a register, also if it is one of the vCPU's own.
fn is_set(gic: Gic, register: Bits, intid: u32) -> bool {
    match intid {
        0..32 => gic.private(register) >> intid & 1 == 1,
        _ => gic.shared(register, intid),
    }
}

fn set(gic: Gic, register: Bits, intid: u32) {
    match intid {
        0..32 => gic.write_private(register, 1 << intid),
        _ => gic.write_shared(register, intid),
    }
}

/// An interrupt that is disabled while it is active is disabled for good, also before it ends.
fn disabled(gic: Gic) {
    for intid in [SHARED, SGI, 27, 30] {
        let quiet = match intid {
            27 | 30 => fire_after(intid, 0),
            _ => {
                set(gic, Bits::SetPending, intid);
                (|| {}) as fn()
            }
        };
        let deadline = time::now() + time::frequency() / EFFECT;
        let mut found = NOTHING;
        while found == NOTHING && time::now() < deadline {
            found = interface::acknowledge();
        }
        expect("taken", found, intid);
        set(gic, Bits::ClearEnable, intid);
        let deadline = time::now() + time::frequency() / EFFECT;
        while !gic.is_settled() {
            assert!(
                time::now() < deadline,
                "RWP stays set while {intid} is active"
            );
        }
        assert!(is_set(gic, Bits::SetActive, intid), "{intid} is not active");
        quiet();
        interface::end(intid.into());
        assert!(gic.is_settled(), "RWP is set after the end of {intid}");
        set(gic, Bits::SetEnable, intid);
    }
}

/// An interrupt of Group 1 to which `change` is done while it is active ends all the same, and
/// comes again.
fn changed(gic: Gic, intid: u32, change: impl Fn(Gic)) {
    set(gic, Bits::SetPending, intid);
    expect("taken before the change", interface::acknowledge(), intid);
    change(gic);
    interface::end(intid.into());
    assert!(
        !is_set(gic, Bits::SetActive, intid),
        "{intid} is still active after its end, since it was changed before"
    );
    expect("idle priority", interface::running_priority(), 0xff);
    set(gic, Bits::SetPending, intid);
    if interface::acknowledge() == intid {
        interface::end(intid.into());
    } else {
        expect("taken after the change", interface::acknowledge0(), intid);
        interface::end0(intid.into());
    }
    assert!(!is_set(gic, Bits::SetActive, intid), "{intid} does not end");
    gic.set_priority(intid, 0x80);
}

/// An interrupt that becomes pending while it is active comes with the priority that it has when it
/// ends.
fn pending_again(gic: Gic) {
    gic.set_priority(SGI, 0x60);
    set(gic, Bits::SetPending, SHARED);
    expect("taken", interface::acknowledge(), SHARED);
    set(gic, Bits::SetPending, SHARED);
    set(gic, Bits::SetPending, SGI);
    gic.set_priority(SHARED, 0x40);
    expect("pre-empting", interface::acknowledge(), SGI);
    interface::end(SGI.into());
    expect("still active", interface::acknowledge(), NOTHING);
    set(gic, Bits::SetPending, SGI);
    interface::end(SHARED.into());
    expect("more urgent now", interface::acknowledge(), SHARED);
    expect("running priority", interface::running_priority(), 0x40);
    interface::end(SHARED.into());
    expect("less urgent now", interface::acknowledge(), SGI);
    interface::end(SGI.into());
    gic.set_priority(SHARED, 0x80);
}

/// Urgent interrupts of a group that is not let through hold back none of the other. On QEMU
/// without a hypervisor they do: its interrupt controller looks at the most urgent one only.
fn held_back(gic: Gic) {
    const URGENT: u32 = 0xff << 4;
    interface::set_group0(0);
    gic.write_private(Bits::Group, !URGENT);
    for number in 4..12 {
        gic.set_priority(number, 0x10);
    }
    gic.set_priority(SGI, 0xa0);
    gic.write_private(Bits::SetPending, URGENT | 1 << SGI);
    match interface::acknowledge() {
        SGI => {
            interface::end(SGI.into());
            let_through_in_turns(gic);
        }
        NOTHING => println!("interrupts: a group that is not let through holds back the other"),
        found => expect("though others are held back", found, SGI),
    }
    gic.write_private(Bits::ClearPending, u32::MAX);
    interface::set_group0(1);
    gic.write_private(Bits::Group, u32::MAX);
    for number in 3..12 {
        gic.set_priority(number, 0xa0);
    }
}

/// Group 0, of which eight are pending, is let through, held back, and let through again.
fn let_through_in_turns(gic: Gic) {
    interface::set_group0(1);
    expect("let through", interface::acknowledge0(), 4);
    interface::end0(4);
    gic.write_private(Bits::SetPending, 1 << SGI);
    interface::set_group0(0);
    // QEMU does not tell a hypervisor that Group 0 is let through no longer, so it has to be made
    // look.
    expect("pending", gic.private(Bits::SetPending) >> SGI & 1, 1);
    expect("held back again", interface::acknowledge(), SGI);
    interface::end(SGI.into());
    interface::set_group0(1);
    for number in 5..12 {
        expect("let through again", interface::acknowledge0(), number);
        interface::end0(number.into());
    }
}
