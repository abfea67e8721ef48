//! The registers, by their places in tables.

use core::fmt::{self, Display, Formatter};

use arch::Encoding;
use arch::contract::{self, Guest, Home, Row};

/// How many encodings there are with Op0 2 and 3.
pub(crate) const COUNT: usize = 0x8000;
/// Op0 is 2.
const FIRST: u16 = 0x8000;

/// The encoding at this place.
pub(crate) fn encoding(place: usize) -> Encoding {
    Encoding::from_bits(FIRST | place as u16)
}

/// The place of this encoding.
pub(crate) fn place(encoding: Encoding) -> usize {
    usize::from(encoding.bits() & !FIRST)
}

/// A register with its name in the contract.
pub(crate) struct Named(pub(crate) Encoding);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = contract::find(self.0).map_or("in no row", |row| row.name);
        write!(f, "{} ({name})", self.0)
    }
}

/// What the contract has a guest expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is undefined.
    Undefined,
    /// It may be there. If it is, its value is the same always.
    MaybeConstant,
    /// Its value is the same always.
    Constant,
    /// It may be there, and be this vCPU's own.
    MaybeOwn,
    /// It is this vCPU's own.
    Own,
    /// It is not as it was left, and that tells nothing.
    Moving,
    /// An access does something, so there is none.
    Command,
}

impl Expected {
    /// What the contract says of a register, where `shown` says whether guests are shown that it is
    /// there.
    pub(crate) fn new(register: Encoding, shown: impl Fn(&Row) -> bool) -> Self {
        let Some(row) = contract::find(register) else {
            return Self::Undefined;
        };
        let shown = shown(row);
        // Of a block, CPUs have some.
        let certain = shown && row.at.single().is_some();
        match row.guest {
            Guest::Hidden(_) if is_implementation_defined(register) => Self::MaybeConstant,
            Guest::Hidden(_) => Self::Undefined,
            Guest::Own(Home::Pstate) | Guest::HiddenOrOwn(..) => Self::MaybeOwn,
            Guest::Own(_) | Guest::Modelled(_) | Guest::Constant | Guest::Emulated(_) if !shown => {
                Self::Undefined
            }
            Guest::Own(_) | Guest::Modelled(_) if certain => Self::Own,
            Guest::Own(_) | Guest::Modelled(_) => Self::MaybeOwn,
            Guest::Constant | Guest::Emulated(_) if certain => Self::Constant,
            Guest::Constant | Guest::Emulated(_) => Self::MaybeConstant,
            Guest::Moving => Self::Moving,
            Guest::Command => Self::Command,
        }
    }

    /// Whether a register that answered in this way is as expected.
    pub(crate) fn allows(self, answers: bool) -> bool {
        match self {
            Self::Undefined => !answers,
            Self::Constant | Self::Own => answers,
            _ => true,
        }
    }

    /// Whether its value is the same always.
    pub(crate) fn is_constant(self) -> bool {
        matches!(self, Self::Constant | Self::MaybeConstant)
    }

    /// Whether its value is as this vCPU left it.
    pub(crate) fn stays(self) -> bool {
        self.is_constant() || matches!(self, Self::Own | Self::MaybeOwn)
    }
}

/// Whether it is for CPUs to say what the register is. QEMU lets guests read and write those that
/// it has in spite of `HCR_EL2.TIDCP`; they hold nothing.
fn is_implementation_defined(register: Encoding) -> bool {
    matches!(register.crn(), 11 | 15)
}
