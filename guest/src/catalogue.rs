//! The guests and the boot arguments that each takes: for the guests themselves, and for who boots
//! one and would rather hear of a slip before than after it.

/// A guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Guest {
    /// The name of its binary.
    pub name: &'static str,
    /// Its boot arguments.
    pub arguments: &'static [Argument],
    /// With less RAM than so many MiB it does nothing of use.
    pub least_mib: u64,
}

/// A boot argument `key=value`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Argument {
    /// The key.
    pub key: &'static str,
    /// The values that it takes.
    pub takes: Takes,
}

/// What an argument takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Takes {
    /// A decimal number.
    Number,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

const fn number(key: &'static str) -> Argument {
    Argument {
        key,
        takes: Takes::Number,
    }
}

const fn word(key: &'static str, words: &'static [&'static str]) -> Argument {
    Argument {
        key,
        takes: Takes::OneOf(words),
    }
}

/// All guests.
pub const GUESTS: [Guest; 8] = [
    CHAOS, DIRTY, HELLO, INTERRUPTS, PLACED, STRESS, SWEEP, TOUCH,
];

/// The guest that does all that it should not.
pub const CHAOS: Guest = Guest {
    name: "chaos",
    arguments: &[number("seed"), number("lives"), number("seconds")],
    least_mib: 4,
};

/// The guest that copies itself while it is written to.
pub const DIRTY: Guest = Guest {
    name: "dirty",
    arguments: &[number("seconds"), number("seed")],
    least_mib: 32,
};

/// The guest that says hello, and behaves badly on request.
pub const HELLO: Guest = Guest {
    name: "hello",
    arguments: &[
        word(
            "mode",
            &[
                "hello", "accesses", "clock", "debug", "devices", "error", "halt", "hold",
                "origins", "outside", "poweroff", "read", "reset", "say", "share", "split",
                "storm",
            ],
        ),
        number("step"),
        number("wait"),
        number("least"),
        word(
            "kind",
            &[
                "all",
                "early",
                "el2",
                "loop",
                "while",
                "zeros",
                "work",
                "calls",
                "registers",
                "memory",
                "console",
                "maintenance",
                "interrupts",
                "reset",
            ],
        ),
        number("ms"),
        number("times"),
        number("syndrome"),
        number("comes"),
        number("waits"),
        number("seed"),
        number("lines"),
        number("every"),
        number("most"),
        number("bytes"),
    ],
    least_mib: 4,
};

/// The guest that checks interrupts.
pub const INTERRUPTS: Guest = Guest {
    name: "interrupts",
    arguments: &[],
    least_mib: 4,
};

/// The guest that says where it was put.
pub const PLACED: Guest = Guest {
    name: "placed",
    arguments: &[],
    least_mib: 4,
};

/// The guest whose vCPUs race for memory.
pub const STRESS: Guest = Guest {
    name: "stress",
    arguments: &[number("seconds"), number("seed")],
    least_mib: 32,
};

/// The guest that tries every system register there could be.
pub const SWEEP: Guest = Guest {
    name: "sweep",
    arguments: &[number("seed"), number("rounds")],
    least_mib: 4,
};

/// The guest that measures.
pub const TOUCH: Guest = Guest {
    name: "touch",
    arguments: &[],
    least_mib: 64,
};

/// The guest called `name`.
pub fn find(name: &str) -> Option<&'static Guest> {
    GUESTS.iter().find(|guest| guest.name == name)
}
