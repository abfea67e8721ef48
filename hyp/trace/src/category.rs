//! Which events are wanted: the value of the boot argument `trace`.

use crate::byte_enum::byte_enum;

byte_enum! {
    /// A kind of events that is switched on and off as one.
    Category {
        /// Stage-2 faults with their outcome.
        Fault = 0 => "fault",
        /// Mappings made, refused and taken away.
        Map = 1 => "map",
        /// Splits, collapses and moves.
        Change = 2 => "change",
        /// Retries, waits for locks, and markers met.
        Race = 3 => "race",
        /// Tables detached, grace periods, frames freed.
        Free = 4 => "free",
        /// Invalidations of the TLB.
        Tlb = 5 => "tlb",
        /// vCPUs that enter and leave the guest.
        Vcpu = 6 => "vcpu",
        /// Switches from one thread to another.
        Sched = 7 => "sched",
        /// Lines of the log.
        Log = 8 => "log",
        /// All that a checker of the protocol needs, without loss; not part of `all`.
        Replay = 9 => "replay",
    }
}

byte_enum! {
    /// Events that share a ring, and so are overwritten by each other only.
    Stream {
        /// What happens many thousand times a second.
        Busy = 0 => "busy",
        /// What happens now and then: not to be lost because of the others.
        Rare = 1 => "rare",
        /// The category `replay`, of which nothing is overwritten.
        Replay = 2 => "replay",
    }
}

/// A set of categories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(u32);

impl Categories {
    /// None: tracing is off.
    pub const NONE: Self = Self(0);

    /// Every category but `replay`, which holds guests up: what `all` stands for.
    pub const ALL: Self = Self(Self::EVERY.0 & !(1 << Category::Replay as u32));

    /// Every category there is.
    pub const EVERY: Self = Self((1 << Category::ALL.len()) - 1);

    /// Whether events of `category` are wanted.
    #[inline(always)]
    pub const fn has(self, category: Category) -> bool {
        self.0 & (1 << category as u32) != 0
    }

    /// Whether no events are wanted at all.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This set and one more category.
    pub const fn with(self, category: Category) -> Self {
        Self(self.0 | 1 << category as u32)
    }

    /// The set as bits, the first category's the lowest.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of these bits; those of no category are ignored.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::EVERY.0)
    }

    /// Whether events of one of `others` are wanted.
    #[inline(always)]
    pub const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Reads `off`, or `all` and categories' names with commas between; `None` if one is unknown.
    ///
    /// ```
    /// use trace::{Categories, Category};
    /// let set = Categories::parse("fault,tlb").unwrap();
    /// assert!(set.has(Category::Tlb) && !set.has(Category::Map));
    /// assert!(Categories::parse("fault,wibble").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self::NONE);
        }
        text.split(',').try_fold(Self::NONE, |set, name| {
            if name == "all" {
                return Some(Self(set.0 | Self::ALL.0));
            }
            let category = Category::ALL.iter().find(|known| known.text() == name)?;
            Some(set.with(*category))
        })
    }
}
