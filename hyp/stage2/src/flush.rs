//! What must still be invalidated, and the proof that it was.
//!
//! Owns three values that carry break-before-make through the types: the operation that takes an
//! entry away gets a [`Stale`], which must be flushed; the one that makes the next entry, or frees
//! what the old one named, needs the [`Flushed`] that only a flush gives; and a flush, or the
//! conclusion that there is nothing to flush, needs the [`Published`] that only a DSB gives.

use crate::addr::{IpaRange, Level};
use crate::descriptor::{Descriptor, EntryKind};
use crate::env::{Scope, Tlb};

/// Translations that may still be cached.
#[must_use = "stale translations live on until this is flushed"]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stale {
    pub(crate) range: IpaRange,
    pub(crate) scope: Scope,
}

impl Stale {
    /// What an entry of `level` that held `old` may have left behind.
    #[inline]
    pub(crate) fn of(range: IpaRange, level: Level, old: Descriptor) -> Self {
        let scope = match old.kind(level) {
            EntryKind::Leaf(_) => Scope::Leaf(level),
            // A bad entry may have been walked as whatever the hardware took it for.
            _ => Scope::Tables,
        };
        Self { range, scope }
    }

    /// Both, as one.
    #[inline]
    pub(crate) fn and(self, other: Stale) -> Self {
        let scope = match (self.scope, other.scope) {
            (a, b) if a == b => a,
            (Scope::Tables, _) | (_, Scope::Tables) => Scope::Tables,
            _ => Scope::Leaves,
        };
        Self {
            range: self.range.hull(other.range),
            scope,
        }
    }

    /// `first`, if any, and this.
    #[inline]
    pub(crate) fn after(self, first: Option<Stale>) -> Self {
        match first {
            Some(first) => first.and(self),
            None => self,
        }
    }
}

/// Proof that a DSB was executed ([`Tlb::publish`]): what its CPU stored before it is what walks
/// find.
#[derive(Debug)]
pub struct Published(());

impl Published {
    /// Executes the DSB.
    #[inline(always)]
    pub(crate) fn by<T: Tlb>(tlb: &T) -> Self {
        tlb.publish();
        Self(())
    }
}

/// Proof that translations were invalidated on all CPUs.
#[derive(Debug)]
pub(crate) struct Flushed(());

impl Flushed {
    /// Made by the CPU that has just invalidated.
    pub(crate) fn new() -> Self {
        Self(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::addr::Ipa;

    /// What is flushed for two entries reaches all that either has left behind.
    #[test]
    fn the_scope_of_two_is_that_of_each_or_more() {
        let [block, page] = [Level::L2, Level::L3].map(Scope::Leaf);
        for (one, other, both) in [
            (page, page, page),
            (page, block, Scope::Leaves),
            (Scope::Leaves, page, Scope::Leaves),
            (Scope::Tables, page, Scope::Tables),
            (Scope::Tables, Scope::Leaves, Scope::Tables),
            (Scope::Tables, Scope::Tables, Scope::Tables),
        ] {
            let [low, high] = [0, 0x40_0000].map(|ipa| IpaRange::entry(Ipa::new(ipa), Level::L2));
            let stale = |range, scope| Stale { range, scope };
            for (first, second) in [(one, other), (other, one)] {
                let Stale { range, scope } = stale(high, first).and(stale(low, second));
                assert_eq!(scope, both, "{first:?} and {second:?}");
                assert_eq!((range.start(), range.end()), (low.start(), high.end()));
            }
        }
    }
}
