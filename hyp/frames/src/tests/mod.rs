//! Tests of the allocator as a whole, on RAM that is borrowed from the host.

mod audit;
mod bulk;
mod calls;
mod isolation;
mod mobility;
mod model;
mod prezeroed;
mod setup;
mod threads;

use super::{FrameAllocator, InitError, Setup, Use, VmId};
use crate::testing::Arena;
use core::ops::Range;
use stage2::{Ipa, Pa};

const MIB: u64 = 1 << 20;

/// The range of `mib` MiB from the address of `start` MiB on.
pub(crate) fn range(start: u64, mib: u64) -> Range<Pa> {
    Pa::new(start * MIB)..Pa::new((start + mib) * MIB)
}

/// An allocator over these ranges, all of them free but for the metadata.
pub(crate) fn allocator(ram: &[Range<Pa>], cpus: usize) -> FrameAllocator<Arena> {
    let setup = Setup {
        ram,
        reserved: &[],
        cpus,
        limit: None,
    };
    with(&setup).expect("the ranges are long enough")
}

fn with(setup: &Setup<'_>) -> Result<FrameAllocator<Arena>, InitError> {
    // SAFETY: the arena was made of these very ranges, and nothing else knows of it.
    unsafe { FrameAllocator::new(Arena::new(setup.ram), setup) }
}

/// A guest's data at this page number.
fn data(vm: u16, page: u64) -> Use {
    Use::Data {
        vm: VmId(vm),
        ipa: Ipa::new(page << 12),
    }
}

/// Set aside for a guest at this page number.
fn reserved(vm: u16, page: u64) -> Use {
    Use::Reserved {
        vm: VmId(vm),
        ipa: Ipa::new(page << 12),
    }
}
