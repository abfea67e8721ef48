//! The holders of all frames, in ranges: the state from which a tracer records changes.

use super::FrameAllocator;
use super::inventory::Region;
use super::linear::LinearMap;
use super::state::{State, Use};
use core::ops::Range;
use stage2::{PAGE_SHIFT, Pa};

/// The holder of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Guests: their memory, their tables, and the free memory for these.
    Guests,
    /// The hypervisor, for itself.
    Hypervisor,
    /// No holder: RAM that is never handed out.
    Kept,
}

impl Holding {
    fn of(state: State) -> Option<Self> {
        match state {
            State::Absent | State::Tail => None,
            State::Permanent => Some(Self::Kept),
            State::Allocated {
                used: Use::Hypervisor,
                ..
            } => Some(Self::Hypervisor),
            State::Allocated { .. }
            | State::Free { .. }
            | State::Isolated { .. }
            | State::Cached { .. } => Some(Self::Guests),
        }
    }
}

impl<M: LinearMap> FrameAllocator<M> {
    /// Calls `tell` with the holder of all RAM, in ranges that do not overlap. The answer holds
    /// until the next allocation or freeing.
    pub fn holdings(&self, mut tell: impl FnMut(Range<Pa>, Holding)) {
        for region in &self.inventory.regions {
            self.holdings_of(region, &mut tell);
        }
    }

    fn holdings_of(&self, region: &Region, tell: &mut impl FnMut(Range<Pa>, Holding)) {
        let pa = |offset: u32| Pa::new((region.first_page + u64::from(offset)) << PAGE_SHIFT);
        let (mut begin, mut last, mut offset) = (0, None, 0);
        while offset < region.frames {
            let state = self.inventory.frame(region.first.plus(offset)).state();
            let holding = Holding::of(state);
            if holding != last {
                if let Some(last) = last {
                    tell(pa(begin)..pa(offset), last);
                }
                (begin, last) = (offset, holding);
            }
            offset += state.frames();
        }
        if let Some(last) = last {
            tell(pa(begin)..pa(region.frames), last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fill, Order};
    use super::*;
    use crate::testing::Arena;
    use crate::tests::{allocator, range};

    /// All that `pa` is in, as far as it is told.
    fn holder(allocator: &FrameAllocator<Arena>, pa: Pa) -> Vec<Holding> {
        let mut found = Vec::new();
        allocator.holdings(|range, holding| {
            assert!(range.start < range.end);
            found.extend(range.contains(&pa).then_some(holding));
        });
        found
    }

    #[test]
    fn each_frame_is_in_one_range() {
        let allocator = &allocator(&[range(64, 16)], 1);
        let allocate = |order, used| {
            let block = allocator.alloc(0, order, Fill::Dirty, used);
            block.expect("free memory")
        };
        let order = Order::new(3).expect("an order");
        let (own, table) = (
            allocate(order, Use::Hypervisor),
            allocate(order, Use::Table),
        );
        for offset in (0..order.bytes()).step_by(4096) {
            assert_eq!(holder(allocator, own.offset(offset)), [Holding::Hypervisor]);
            assert_eq!(holder(allocator, table.offset(offset)), [Holding::Guests]);
        }
        let mut sums = [0; 2];
        allocator.holdings(|range, holding| match holding {
            Holding::Guests => sums[0] += range.end.get() - range.start.get(),
            Holding::Hypervisor => sums[1] += range.end.get() - range.start.get(),
            Holding::Kept => {}
        });
        let usage = allocator.usage();
        assert_eq!(sums[0] + sums[1], usage.total as u64 * 4096);
        assert_eq!(sums[1], usage.hypervisor as u64 * 4096);
        allocator.free(0, own, order).expect("an allocated block");
        assert_eq!(holder(allocator, own), [Holding::Guests]);
    }
}
