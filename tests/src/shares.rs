//! Whatever one machine does, another on the same CPU gets its share of it.

use crate::scenario::Scenario;

/// A machine that works beside one that does something else as often as it can.
pub fn shares() -> Vec<Scenario> {
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
    ]
}
