//! What guests say comes as they said it, and what is typed comes to them.

use crate::scenario::{Ending, Scenario};

/// Lines, and typing.
pub fn consoles() -> Vec<Scenario> {
    vec![split()]
}

/// What a guest says as one line is one, though another speaks in between: here it says that it has failed.
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
