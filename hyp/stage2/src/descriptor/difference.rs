//! Comparing many entries with what they should be, at once.
//!
//! The entries of a table that becomes a block are looked at while a guest is held up. So they are
//! not taken apart one by one: what each differs in from what is expected of it is gathered in one
//! word, of which questions are asked at the end.

use super::{ACCESS_FLAG, ADDRESS, COPIED, DIRTY, Descriptor, MARKS, USE_BITS};
use crate::addr::Pa;
use core::ops::BitOr;

/// The bits in which entries differ from what is expected of them, those of all pairs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference(u64);

impl Descriptor {
    /// What this differs in from `expected`.
    #[inline(always)]
    pub(crate) const fn difference(self, expected: Self) -> Difference {
        Difference(self.0 ^ expected.0)
    }

    /// The same leaf at `pa`, with no mark of use.
    #[inline]
    pub(crate) const fn unused_at(self, pa: Pa) -> Self {
        Self(self.0 & !(ADDRESS | USE_BITS) | pa.get())
    }

    /// What the entries of pages like this one have in common when a collapse has copied them and
    /// nothing was stored to them since: [`Difference::is_of_copy`] holds for them.
    #[inline]
    pub(crate) const fn copy(self) -> Self {
        Self(self.unused_at(Pa::new(0)).0 | COPIED)
    }
}

impl Difference {
    /// Whether they are just what is expected.
    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether leaves differ at most in what use leaves behind, not in what is allowed.
    #[inline]
    pub(crate) const fn is_of_use(self) -> bool {
        self.0 & !USE_BITS == 0
    }

    /// Whether leaves differ at most in address and in what use leaves behind.
    #[inline]
    pub(crate) const fn is_of_use_and_address(self) -> bool {
        self.0 & !(USE_BITS | ADDRESS) == 0
    }

    /// Whether pages differ from [`Descriptor::copy`] at most in what they may without being copied
    /// again: their address, and marks from before the copy.
    #[inline]
    pub(crate) const fn is_of_copy(self) -> bool {
        self.0 & !(ADDRESS | ACCESS_FLAG | DIRTY) == 0
    }

    /// The marks of use (access flag, written) in which they differ: those of entries that were
    /// expected to have none.
    #[inline]
    pub(crate) const fn marks_of_use(self) -> Descriptor {
        Descriptor(self.0 & MARKS)
    }
}

impl BitOr for Difference {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
