//! Sets of a machine's vCPUs.

use bootargs::MAX_VCPUS;

const _: () = assert!(MAX_VCPUS <= u8::BITS as usize);

/// A set of vCPUs, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct VcpuSet(u8);

impl VcpuSet {
    /// No vCPU.
    pub const EMPTY: Self = Self(0);

    /// The set with `vcpu` as well, if that is the number of a vCPU.
    pub const fn with(self, vcpu: Option<usize>) -> Self {
        match vcpu {
            Some(vcpu) if vcpu < MAX_VCPUS => Self(self.0 | 1 << vcpu),
            _ => self,
        }
    }

    /// The set without `vcpu`.
    pub const fn without(self, vcpu: usize) -> Self {
        match vcpu {
            0..MAX_VCPUS => Self(self.0 & !(1 << vcpu)),
            _ => self,
        }
    }

    /// What is in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nobody is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers in it, from the lowest.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_VCPUS).filter(move |vcpu| self.0 >> vcpu & 1 == 1)
    }
}
