//! Whatever one machine does, another on the same CPU gets its share of it.

use crate::scenario::Scenario;

/// A machine that works beside one that does something else as often as it can.
pub(super) fn shares() -> Vec<Scenario> {
    let beside = |name, storm| {
        Scenario::new(name, "guest=hello,append=mode=share least=48")
            .on(1, "max")
            .beside(storm)
            .counts_instructions()
            .wants(r"^vm0\| share: \d+ % of the CPU$")
            .wants(r"^vm1\| storm: \w+, [1-9]\d* times$")
            .within(180)
    };
    vec![
        beside(
            "share-work",
            "guest=hello,append=mode=storm kind=work ms=150",
        ),
        beside(
            "share-calls",
            "guest=hello,append=mode=storm kind=calls ms=150",
        ),
        beside(
            "share-registers",
            "guest=hello,append=mode=storm kind=registers ms=150",
        ),
        beside(
            "share-memory",
            "guest=hello,append=mode=storm kind=memory ms=150",
        ),
        beside(
            "share-console",
            "guest=hello,append=mode=storm kind=console ms=150",
        ),
        beside(
            "share-maintenance",
            "guest=hello,append=mode=storm kind=maintenance ms=150",
        ),
        beside(
            "share-interrupts",
            "guest=hello,append=mode=storm kind=interrupts ms=150",
        ),
        beside(
            "share-reset",
            "guest=hello,append=mode=storm kind=reset times=200",
        ),
        // At 115200 baud a line of the storm's takes 5 ms.
        beside(
            "share-console-slow",
            "guest=hello,append=mode=storm kind=console ms=150",
        )
        .args("console-baud=115200"),
        slow_console(),
        restarts(),
        limits(),
    ]
}

/// Beside a machine that is made anew as soon as it has switched itself off.
fn restarts() -> Scenario {
    Scenario::new("share-restarts", "guest=hello,append=mode=share least=47")
        .on(1, "max")
        .beside("guest=hello,vcpus=1,memory=16M,restarts=130,append=mode=poweroff")
        .counts_instructions()
        .wants(r"^vm0\| share: \d+ % of the CPU$")
        .wants(r"vm\d: 1[12]\d lines about it were not shown$")
        .within(180)
}

/// The machine that comes to the place of one that caused many lines is not left out for that.
fn limits() -> Scenario {
    Scenario::new(
        "limits-of-lines",
        "guest=hello,vcpus=1,append=mode=storm kind=reset times=40",
    )
    .on(1, "max")
    .beside("name=calm,guest=hello,vcpus=1,restarts=1,append=mode=say lines=2 every=150")
    .counts_instructions()
    .wants("vm: vm0 is calm: ")
    .wants(r"vm0: 3\d lines about it were not shown$")
    .within(120)
}

/// A line is said at once, though the line is slow and another machine has always something to
/// send: at 38400 baud each of its lines takes 15 ms.
fn slow_console() -> Scenario {
    Scenario::new(
        "console-slow",
        "guest=hello,append=mode=say lines=4 every=100 most=2000",
    )
    .on(1, "max")
    .beside("guest=hello,append=mode=storm kind=console ms=500")
    .args("console-baud=38400")
    .counts_instructions()
    .wants(r"^vm0\| say: line 3 of those that are said now and then$")
    .wants(r"^vm0\| say: a line takes \d+ us at most$")
    .wants(r"^vm1\| storm: console, [1-9]\d* times$")
    .wants("^tessera: vm0 off$")
    .wants("^tessera: vm1 off$")
    .within(180)
}
