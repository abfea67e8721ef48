//! A vCPU's own interrupts: more of them at once than the hardware has list registers.

use guest::gic::{Bits, Gic, NOTHING, interface};

/// All SGIs.
const ALL: u32 = 0xffff;

/// The priority of SGI `number`: the higher the number the more urgent. All differ.
fn priority(number: u32) -> u8 {
    0xf0 - 8 * number as u8
}

/// Tries everything.
pub(crate) fn run(gic: Gic) {
    for number in 0..16_u32 {
        gic.set_priority(number, priority(number));
    }
    in_order_of_urgency(gic);
    nested(gic);
    ended_by_number(gic);
    masked(gic);
    withdrawn(gic);
    in_group_0(gic);
    activated(gic);
    assert!(
        interface::acknowledge() == NOTHING,
        "an interrupt is left over"
    );
    for number in 0..16_u32 {
        gic.set_priority(number, 0xa0);
    }
}

pub(crate) fn expect(what: &str, found: u32, expected: u32) {
    assert!(
        found == expected,
        "{what}: {found:#x} instead of {expected:#x}"
    );
}

/// Sixteen at once are taken one after the other, the most urgent first.
fn in_order_of_urgency(gic: Gic) {
    gic.write_private(Bits::SetPending, ALL);
    expect("pending SGIs", gic.private(Bits::SetPending) & ALL, ALL);
    for number in (0..16_u32).rev() {
        expect("most urgent", interface::most_urgent(), number);
        expect("taken in order", interface::acknowledge(), number);
        let left = (1 << number) - 1;
        expect("still pending", gic.private(Bits::SetPending) & ALL, left);
        expect("active", gic.private(Bits::SetActive) & ALL, 1 << number);
        interface::end(number.into());
    }
    expect("nothing left", interface::acknowledge(), NOTHING);
    expect("nothing active", gic.private(Bits::SetActive), 0);
}

/// Each pre-empts the one before, and they end in the opposite order.
fn nested(gic: Gic) {
    for number in 0..16_u32 {
        gic.write_private(Bits::SetPending, 1 << number);
        expect("pre-empting", interface::acknowledge(), number);
        let running = interface::running_priority();
        expect("running priority", running, priority(number).into());
    }
    gic.write_private(Bits::SetPending, 1);
    expect("not urgent enough", interface::acknowledge(), NOTHING);
    // Ends are not split, so a number alone ends nothing.
    interface::deactivate(3);
    expect("not ended", gic.private(Bits::SetActive) & ALL, ALL);
    for number in (0..16_u32).rev() {
        let active = gic.private(Bits::SetActive) & ALL;
        expect("active and nested", active, (2 << number) - 1);
        interface::end(number.into());
    }
    expect("after all", interface::acknowledge(), 0);
    interface::end(0);
    expect("nothing active", gic.private(Bits::SetActive), 0);
    expect("idle priority", interface::running_priority(), 0xff);
}

/// With split ends, all are active at once though none is being handled, and each ends by its
/// number.
fn ended_by_number(gic: Gic) {
    interface::split_ends(true);
    let before = interface_registers();
    gic.write_private(Bits::SetPending, ALL);
    for number in (0..16_u32).rev() {
        expect("taken with split ends", interface::acknowledge(), number);
        interface::end(number.into());
    }
    expect("EOImode", before[0] ^ before[1], 1 << 1);
    expect("idle priority", before[2], 0xff);
    let same = interface_registers() == before;
    assert!(
        same,
        "the interface's registers have changed while all are active"
    );
    let mut active = ALL;
    for step in 0..16_u32 {
        expect("still active", gic.private(Bits::SetActive) & ALL, active);
        let number = step * 7 % 16;
        // While it is active it may become pending, and waits.
        gic.write_private(Bits::SetPending, 1 << number);
        expect("active, so not taken", interface::acknowledge(), NOTHING);
        interface::deactivate(number.into());
        expect("taken again", interface::acknowledge(), number);
        interface::end(number.into());
        interface::deactivate(number.into());
        active &= !(1 << number);
    }
    expect("all deactivated", gic.private(Bits::SetActive), 0);
    interface::split_ends(false);
}

/// What the interface's registers say: the control register with and without split ends, which it
/// has at the end, the running priority, and how the priority mask keeps some values, of which it
/// has the last one at the end.
fn interface_registers() -> [u32; 7] {
    let control = |split| {
        interface::split_ends(split);
        interface::control()
    };
    let mask = |value| {
        interface::set_mask(value);
        interface::mask()
    };
    [
        control(false),
        control(true),
        interface::running_priority(),
        mask(0),
        mask(0x5a),
        mask(0xa5),
        mask(0xff),
    ]
}

/// The priority mask holds back what is not urgent enough.
fn masked(gic: Gic) {
    gic.write_private(Bits::SetPending, 0b11 << 7);
    interface::set_mask(priority(7).into());
    expect("let through", interface::acknowledge(), 8);
    interface::end(8);
    expect("masked", interface::acknowledge(), NOTHING);
    interface::set_mask(0xff);
    expect("unmasked", interface::acknowledge(), 7);
    interface::end(7);
}

/// What is disabled, or no longer pending, is not taken.
fn withdrawn(gic: Gic) {
    gic.write_private(Bits::SetPending, ALL);
    gic.write_private(Bits::ClearPending, 0xf0f0);
    gic.write_private(Bits::ClearEnable, 0x0fff);
    gic.wait();
    expect("enabled", gic.private(Bits::SetEnable) & ALL, 0xf000);
    expect("pending", gic.private(Bits::SetPending) & ALL, 0x0f0f);
    expect("neither", interface::acknowledge(), NOTHING);
    gic.write_private(Bits::SetEnable, 0x0f00);
    for number in (8..12_u32).rev() {
        expect("enabled again", interface::acknowledge(), number);
        interface::end(number.into());
    }
    gic.write_private(Bits::ClearPending, ALL);
    gic.write_private(Bits::SetEnable, ALL);
    expect("cleared", interface::acknowledge(), NOTHING);
}

/// Group 0 has its own registers to take and end its interrupts.
fn in_group_0(gic: Gic) {
    gic.write_private(Bits::Group, !(1 << 3));
    gic.write_private(Bits::SetPending, 1 << 3 | 1 << 2);
    let special = interface::acknowledge();
    assert!(
        special == 2 || special >= 1020,
        "SGI 3 of Group 0 is taken as {special}"
    );
    expect("Group 0", interface::acknowledge0(), 3);
    interface::end0(3);
    if special >= 1020 {
        expect("Group 1 after Group 0", interface::acknowledge(), 2);
    }
    interface::end(2);
    gic.write_private(Bits::Group, u32::MAX);
}

/// Software sets and clears the active state.
fn activated(gic: Gic) {
    gic.write_private(Bits::SetActive, 1 << 5);
    gic.write_private(Bits::SetPending, 1 << 5);
    expect("active by hand", interface::acknowledge(), NOTHING);
    expect("active bit", gic.private(Bits::SetActive) & ALL, 1 << 5);
    gic.write_private(Bits::ClearActive, 1 << 5);
    expect("inactive by hand", interface::acknowledge(), 5);
    gic.write_private(Bits::ClearActive, 1 << 5);
    expect("no longer active", gic.private(Bits::SetActive), 0);
    // The priority is still to be dropped.
    interface::end(5);
}
