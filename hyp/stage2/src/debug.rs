//! What `{:?}` shows of values that hold memory, locks or counters of many CPUs: what they are of,
//! and nothing that would have to be waited for.

use crate::env::{Cpus, Environment, Table};
use crate::grace::{CpuSlot, Grace, Section};
use crate::lookup::{Locked, Reader, Slot, Unlocked, View};
use crate::meta::TableMeta;
use crate::stats::{Counter, Counters};
use crate::vmid::VmidAllocator;
use core::fmt::{Debug, Formatter, Result};

macro_rules! opaque {
    ($($name:ident $(<$life:lifetime>)?,)*) => {
        $(impl$(<$life>)? Debug for $name$(<$life>)? {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })*
    };
}

opaque!(Grace, Table, VmidAllocator,);

#[cfg(all(feature = "alloc", not(any(loom, shuttle))))]
mod checked {
    use super::{Debug, Environment, Formatter, Result};
    use crate::checked::{Checked, CheckedPin};

    impl<E: Debug> Debug for Checked<E> {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.debug_tuple("Checked").field(&self.env).finish()
        }
    }

    impl<E: Environment> Debug for CheckedPin<'_, E> {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            f.debug_struct("CheckedPin")
                .field("cpu", &self.cpu)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(feature = "fake")]
mod fake {
    use super::{Debug, Formatter, Result};
    use crate::fake::{
        Copier, FakeCpus, FakeData, FakeFrames, FakeMachine, FakePin, FakeTableRef, FakeTlb, Guest,
        OnCpu,
    };

    opaque!(
        Copier<'d>,
        FakeCpus,
        FakeData,
        FakeFrames,
        FakeMachine,
        FakePin,
        FakeTableRef<'f>,
        FakeTlb,
        Guest<'m>,
        OnCpu<'c>,
    );
}

impl<C: Cpus> Debug for Section<'_, C> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Section").finish_non_exhaustive()
    }
}

impl Debug for CpuSlot {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CpuSlot")
            .field("in_section", &self.in_section())
            .field("counters", self.counters())
            .finish_non_exhaustive()
    }
}

impl Debug for Counters {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let counted = Counter::ALL
            .iter()
            .map(|&counter| (counter, self.get(counter)));
        f.debug_map().entries(counted).finish()
    }
}

impl Debug for TableMeta {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("TableMeta")
            .field("is_table", &self.is_table())
            .finish_non_exhaustive()
    }
}

impl<E: Environment> Debug for Reader<'_, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl<E: Environment> Debug for Slot<'_, '_, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_tuple("Slot").field(&self.load()).finish()
    }
}

impl<E: Environment> Debug for View<'_, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("View")
            .field("pa", &self.pa())
            .field("level", &self.level())
            .field("ipa", &self.ipa(0))
            .finish_non_exhaustive()
    }
}

impl<E: Environment> Debug for Unlocked<'_, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_tuple("Unlocked").field(&**self).finish()
    }
}

impl<E: Environment> Debug for Locked<'_, E> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_tuple("Locked").field(&**self).finish()
    }
}
