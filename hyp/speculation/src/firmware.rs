//! The firmware's workarounds, which are calls, and whether this CPU needs them.

/// `SMCCC_ARCH_WORKAROUND_1`: makes the CPU forget what its branch predictors have learnt.
pub const ARCH_WORKAROUND_1: u32 = 0x8000_8000;
/// `SMCCC_ARCH_WORKAROUND_2`: keeps loads from bypassing older stores (x1 = 1), or lets them again
/// (0).
pub const ARCH_WORKAROUND_2: u32 = 0x8000_7fff;
/// `SMCCC_ARCH_WORKAROUND_3`: as the first, and the history of branches is forgotten, too.
pub const ARCH_WORKAROUND_3: u32 = 0x8000_3fff;

/// Says whether the firmware has a call; that of PSCI knows of [`SMCCC_VERSION`], too.
const PSCI_FEATURES: u32 = 0x8400_000a;
/// The version of the calls' convention, and the first that has [`SMCCC_ARCH_FEATURES`].
const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_1_1: i32 = 0x1_0001;
/// Says whether there is a call of the architecture's.
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

/// What `SMCCC_ARCH_FEATURES` answers if there is no such call, or it cannot help.
pub(crate) const NOT_SUPPORTED: i32 = -1;
/// What it answers for `ARCH_WORKAROUND_2` if no CPU needs the call.
pub(crate) const NOT_REQUIRED: i32 = -2;
/// What it answers for a call that this CPU needs.
pub(crate) const NEEDED: i32 = 0;
/// What it answers for a call that is there for other CPUs than this.
pub(crate) const UNAFFECTED: i32 = 1;

/// What the firmware says of one of its calls, on the CPU that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// There is no such call.
    #[default]
    Missing,
    /// This CPU needs it.
    Needed,
    /// This CPU does not.
    NotNeeded,
}

impl Offer {
    const fn new(answer: i32) -> Self {
        match answer {
            NEEDED => Self::Needed,
            UNAFFECTED => Self::NotNeeded,
            _ => Self::Missing,
        }
    }
}

/// What the firmware says of its workarounds, on the CPU that asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    pub(crate) workaround_1: Offer,
    pub(crate) workaround_2: Offer,
    pub(crate) workaround_3: Offer,
}

impl Firmware {
    /// Asks; `call` makes the call of 32 bits that its first argument names, with the second as
    /// that call's own.
    ///
    /// That there is a call to ask by has to be asked for, too, since firmware of old may do
    /// anything with functions that it does not know (DEN 0028, appendix B).
    pub fn ask(call: impl Fn(u32, u32) -> i32) -> Self {
        let can_ask =
            call(PSCI_FEATURES, SMCCC_VERSION) >= 0 && call(SMCCC_VERSION, 0) >= SMCCC_1_1;
        if !can_ask {
            return Self::default();
        }
        let features = |function| call(SMCCC_ARCH_FEATURES, function);
        let offer = |function| Offer::new(features(function));
        Self {
            workaround_1: offer(ARCH_WORKAROUND_1),
            workaround_2: match features(ARCH_WORKAROUND_2) {
                NOT_REQUIRED => Offer::NotNeeded,
                answer => Offer::new(answer),
            },
            workaround_3: offer(ARCH_WORKAROUND_3),
        }
    }

    /// A firmware that offers all.
    pub(crate) const HELPFUL: Self = Self {
        workaround_1: Offer::Needed,
        workaround_2: Offer::Needed,
        workaround_3: Offer::Needed,
    };
}
