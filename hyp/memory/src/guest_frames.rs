//! The machine's frames as memory that guests may have.
//!
//! Owns the promise that [`GuestFrame`] asks for, for memory from the allocator: what is used as
//! [`Use::Data`] holds nothing of the hypervisor's, and is accessed by copies only, which mind no
//! change by guests.

use super::env::{Machine, Parts};
use frames::{Fill, Order, OutOfFrames, Use, VmId};
use stage2::{GuestFrame, Ipa, Level, Pa};

impl<P: Parts> Machine<P> {
    /// Memory for a guest's leaf of `level`, to be mapped to `ipa`.
    // Always inline: the level is known, and the use is packed when this is compiled then.
    #[inline(always)]
    pub fn alloc_for(
        &self,
        vm: VmId,
        ipa: Ipa,
        level: Level,
        fill: Fill,
    ) -> Result<GuestFrame, OutOfFrames> {
        let (used, order) = (Use::Data { vm, ipa }, order_of(level));
        let pa = self.allocator().alloc(self.cpu(), order, fill, used)?;
        // SAFETY: just allocated as data.
        Ok(unsafe { of_data(pa, level) })
    }

    /// Frees memory of a guest's that is mapped nowhere, as one.
    #[inline]
    pub fn free_of_guest(&self, frame: GuestFrame) {
        let (allocator, cpu, level) = (self.allocator(), self.cpu(), frame.level());
        let pa = frame.into_pa();
        // A refusal is a mistake that the allocator has logged.
        let _ = match level {
            Level::L3 => allocator.free(cpu, pa, Order::PAGE),
            _ => allocator.free_whole(cpu, pa),
        };
    }
}

/// The memory at `pa` that a leaf of `level` maps.
///
/// # Safety
///
/// The caller has just made it, all of it and no more, a guest's data ([`Use::Data`]).
#[inline(always)]
pub(crate) unsafe fn of_data(pa: Pa, level: Level) -> GuestFrame {
    // SAFETY: the allocator hands out blocks of RAM aligned to their size, and RAM is below 2^48. A
    // block in use as data is nobody else's until it is freed, which takes the frame apart first;
    // the hypervisor accesses it by `PageCopier`, `peek` and `store`, as the first two do by copies
    // that they throw away if they were disturbed, and the last while the VM does not run.
    unsafe { GuestFrame::new(pa, level) }
}

/// The order of the block that a leaf of `level` maps.
#[inline(always)]
const fn order_of(level: Level) -> Order {
    match level {
        Level::L0 | Level::L1 => Order::BLOCK_1G,
        Level::L2 => Order::BLOCK_2M,
        Level::L3 => Order::PAGE,
    }
}
