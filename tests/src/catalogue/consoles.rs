//! What guests say comes as they said it, and what is typed comes to them.

use crate::scenario::{Ending, Scenario};

/// Lines, and typing.
pub(super) fn consoles() -> Vec<Scenario> {
    vec![
        split(),
        read_slowly(),
        commands_between(),
        typed_ahead(),
        typed_too_far_ahead(),
    ]
}

/// What a guest says as one line is one, though another speaks in between: here it says that it has
/// failed.
fn split() -> Scenario {
    Scenario::new(
        "split-lines",
        "guest=hello,vcpus=1,append=mode=split ms=500",
    )
    .beside("guest=hello,vcpus=1,append=mode=say lines=40 every=30")
    .on(2, "max")
    .ends(Ending::Stopped)
    .wants(r"^vm0\| split: -{3000} the end$")
    .wants(r"^vm0\| verdict: failed: in two parts$")
    .wants(r"^vm1\| say: line 39 of those that are said now and then$")
    .wants("^tessera: vm1 off$")
}

/// So many of the digits that the guest `hello` expects with `mode=read`.
fn digits(count: usize) -> &'static str {
    "0123456789".repeat(count / 10).leak()
}

/// All that is typed comes to a guest that reads more slowly.
fn read_slowly() -> Scenario {
    Scenario::new(
        "typed-to-slow",
        "guest=hello,vcpus=1,append=mode=read bytes=20000 every=5",
    )
    .types("read: ready", digits(20_000))
    .wants(r"^vm0\| read: 20000 bytes$")
}

/// What is typed behind a command is typed when that has been carried out.
fn commands_between() -> Scenario {
    let then_type: &'static str = format!("\u{1}s\u{1}n{}", digits(10)).leak();
    Scenario::new(
        "typed-commands",
        "guest=hello,vcpus=1,append=mode=say lines=10 every=100",
    )
    .beside("guest=hello,vcpus=1,append=mode=read bytes=10")
    .on(2, "max")
    .types("read: ready", then_type)
    .wants(r"^vm1\| read: 10 bytes$")
}

/// A guest that does not read keeps nobody from the commands, as long as there is room for what
/// comes before them.
fn typed_ahead() -> Scenario {
    let text: &'static str = format!("{}\u{1}q", digits(4000)).leak();
    Scenario::new(
        "typed-ahead",
        "guest=hello,vcpus=1,append=mode=say lines=1000 every=100",
    )
    .types("say: line 0", text)
    .ends(Ending::PoweredOff)
    .wants("^tessera: vm0 off$")
}

/// Behind more than that commands wait, too, and the user is told so.
fn typed_too_far_ahead() -> Scenario {
    Scenario::new(
        "typed-too-far-ahead",
        "guest=hello,vcpus=1,append=mode=say lines=40 every=100",
    )
    .types("say: line 0", digits(5000))
    .wants(r"vm0 does not read what is typed, and there is no room for more: the rest waits, Ctrl-A too$")
    .wants(r"^vm0\| say: line 39 of those that are said now and then$")
}
