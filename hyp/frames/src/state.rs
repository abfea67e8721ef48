//! What a frame is used for, and how that is packed into one word.
//!
//! Owns the types [`Order`], [`VmId`], [`Use`] and [`State`], and the packing of a [`State`] into
//! the 64 bits that a frame's metadata keeps. One word, so that a reader without any lock sees a
//! state, a VM and an address that belong together.

use core::fmt;
use stage2::{Ipa, PAGE_SHIFT};

/// log2 of a number of frames: a block of order *n* is `1 << n` frames, aligned to its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order(u8);

impl Order {
    /// One frame, 4 KiB: a page, or a table.
    pub const PAGE: Order = Order(0);
    /// 2 MiB: what a level-2 block maps.
    pub const BLOCK_2M: Order = Order(9);
    /// 1 GiB: what a level-1 block maps, and the largest order there is.
    pub const BLOCK_1G: Order = Order(18);
    /// Number of orders.
    pub const COUNT: usize = Self::BLOCK_1G.0 as usize + 1;

    /// The order with this number; none above [`Order::BLOCK_1G`].
    pub const fn new(order: u8) -> Option<Self> {
        if order <= Self::BLOCK_1G.0 {
            Some(Self(order))
        } else {
            None
        }
    }

    /// The largest order of which a block is no longer than `frames`; none for 0 frames.
    pub const fn fitting(frames: u64) -> Option<Self> {
        match frames.checked_ilog2() {
            Some(log) if log < Self::BLOCK_1G.0 as u32 => Some(Self(log as u8)),
            Some(_) => Some(Self::BLOCK_1G),
            None => None,
        }
    }

    /// log2 of the number of frames.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Number of frames.
    #[inline]
    pub const fn frames(self) -> u32 {
        1 << self.0
    }

    /// Size in bytes.
    #[inline]
    pub const fn bytes(self) -> u64 {
        (self.frames() as u64) << PAGE_SHIFT
    }

    /// The next larger order, if there is one.
    #[inline]
    pub(super) const fn above(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// The orders from `low` on and below `high`, the smallest first.
    pub(super) fn range(low: Order, high: Order) -> impl DoubleEndedIterator<Item = Order> {
        (low.0..high.0).map(Order)
    }

    /// Every order, the smallest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Order> {
        (0..=Self::BLOCK_1G.0).map(Order)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a VM in the reverse map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(pub u16);

/// What an allocated frame is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The hypervisor's own data: stacks, VM structures, buffers.
    Hypervisor,
    /// A stage-2 translation table. Its level and owner are in the frame's `TableMeta`.
    Table,
    /// A guest's memory, mapped by `vm` at `ipa`.
    Data {
        /// Whose memory it is.
        vm: VmId,
        /// Where the first byte of the block appears to the guest; a multiple of 4 KiB below 2^52.
        ipa: Ipa,
    },
    /// Set aside for `vm` at `ipa`, and not mapped yet.
    Reserved {
        /// Whose memory it will be.
        vm: VmId,
        /// Where it will appear to the guest; a multiple of 4 KiB below 2^52.
        ipa: Ipa,
    },
}

impl Use {
    /// The use of the frame that lies `frames` behind the first one of a block used like this.
    #[inline]
    pub fn at(self, frames: u32) -> Self {
        let bytes = u64::from(frames) << PAGE_SHIFT;
        match self {
            Use::Data { vm, ipa } => Use::Data {
                vm,
                ipa: ipa.offset(bytes),
            },
            Use::Reserved { vm, ipa } => Use::Reserved {
                vm,
                ipa: ipa.offset(bytes),
            },
            Use::Hypervisor | Use::Table => self,
        }
    }
}

/// The state of one frame.
///
/// A block, free or allocated, has its state in its first frame; the others are [`State::Tail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No RAM: a hole between ranges of RAM.
    Absent,
    /// RAM that the allocator never hands out: the hypervisor's image, the device tree, the
    /// metadata itself, what lies beyond the limit.
    Permanent,
    /// Inside a block, not its first frame.
    Tail,
    /// First frame of a free block in the buddy's lists.
    Free {
        /// Size of the block.
        order: Order,
    },
    /// First frame of a free block that an isolation holds back.
    Isolated {
        /// Size of the block.
        order: Order,
    },
    /// First frame of a free block, or a frame, that a CPU has at hand.
    Cached {
        /// Size of the block.
        order: Order,
    },
    /// First frame of an allocated block.
    Allocated {
        /// What for.
        used: Use,
        /// Size of the block.
        order: Order,
    },
}

impl State {
    /// Frames of the block that begins with a frame in this state; 1 if none does.
    pub(super) const fn frames(self) -> u32 {
        match self {
            Self::Free { order }
            | Self::Isolated { order }
            | Self::Cached { order }
            | Self::Allocated { order, .. } => order.frames(),
            Self::Absent | Self::Permanent | Self::Tail => 1,
        }
    }
}

/// A [`State`] in 64 bits: kind in bits 0..3, order in 3..8, VM in 8..24, page number in 24..64.
///
/// Kinds with [`ALLOCATED`] set are the four uses; their other two bits are the index of the use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed(pub(super) u64);

const NO_BLOCK: u64 = 0;
const FREE: u64 = 1;
const ISOLATED: u64 = 2;
const CACHED: u64 = 3;
const ALLOCATED: u64 = 4;
const HYPERVISOR: u64 = ALLOCATED;
const TABLE: u64 = ALLOCATED | 1;
const DATA: u64 = ALLOCATED | 2;
const RESERVED: u64 = ALLOCATED | 3;

const KIND_MASK: u64 = 7;
const ORDER_SHIFT: u32 = 3;
const ORDER_MASK: u64 = 31;
const VM_SHIFT: u32 = 8;
const PAGE_NUMBER_SHIFT: u32 = 24;
const PAGE_NUMBER_MASK: u64 = (1 << 40) - 1;

/// What stands in the order's place where there is no block.
const ABSENT: u64 = NO_BLOCK;
const PERMANENT: u64 = NO_BLOCK | 1 << ORDER_SHIFT;
const TAIL: u64 = NO_BLOCK | 2 << ORDER_SHIFT;

impl Packed {
    pub(super) const ABSENT: Self = Self::new(State::Absent);
    pub(super) const TAIL: Self = Self::new(State::Tail);
    pub(super) const CACHED: Self = Self::new(State::Cached { order: Order::PAGE });

    #[inline(always)]
    pub(super) const fn new(state: State) -> Self {
        Self(match state {
            State::Absent => ABSENT,
            State::Permanent => PERMANENT,
            State::Tail => TAIL,
            State::Cached { order } => CACHED | (order.0 as u64) << ORDER_SHIFT,
            State::Free { order } => FREE | (order.0 as u64) << ORDER_SHIFT,
            State::Isolated { order } => ISOLATED | (order.0 as u64) << ORDER_SHIFT,
            State::Allocated { used, order } => pack_use(used) | (order.0 as u64) << ORDER_SHIFT,
        })
    }

    /// The state of the first frame of an allocated block.
    // Always inline, as what it calls: the kind of use is mostly known, and a few shifts are left
    // then.
    #[inline(always)]
    pub(super) const fn allocated(used: Use, order: Order) -> Self {
        Self::new(State::Allocated { used, order })
    }

    /// What is to be added for each frame that another lies behind one in this state, in memory
    /// that is used alike (see [`Use::at`]).
    #[inline]
    pub(super) const fn page_step(self) -> u64 {
        match self.0 & KIND_MASK {
            DATA | RESERVED => 1 << PAGE_NUMBER_SHIFT,
            _ => 0,
        }
    }

    /// The state of another frame: see [`page_step`](Self::page_step).
    #[inline]
    pub(super) const fn plus(self, steps: u64) -> Self {
        Self(self.0.wrapping_add(steps))
    }

    /// As [`plus`](Self::plus), for a frame that lies before.
    #[inline]
    pub(super) const fn minus(self, steps: u64) -> Self {
        Self(self.0.wrapping_sub(steps))
    }

    /// Which use this is the state of; means something in allocated blocks only.
    #[inline]
    pub(super) const fn use_index(self) -> UseIndex {
        UseIndex(self.0 as u8 & 3)
    }

    pub(super) fn state(self) -> State {
        let order = Order((self.0 >> ORDER_SHIFT & ORDER_MASK) as u8);
        let vm = VmId((self.0 >> VM_SHIFT) as u16);
        let ipa = Ipa::new(self.0 >> PAGE_NUMBER_SHIFT << PAGE_SHIFT);
        let used = match self.0 & KIND_MASK {
            FREE => return State::Free { order },
            ISOLATED => return State::Isolated { order },
            CACHED => return State::Cached { order },
            HYPERVISOR => Use::Hypervisor,
            TABLE => Use::Table,
            DATA => Use::Data { vm, ipa },
            RESERVED => Use::Reserved { vm, ipa },
            _ => {
                return match self.0 {
                    TAIL => State::Tail,
                    PERMANENT => State::Permanent,
                    _ => State::Absent,
                };
            }
        };
        State::Allocated { used, order }
    }

    /// Whether this is the state of an allocated block of just this order.
    #[inline]
    pub(super) fn is_allocated(self, order: Order) -> bool {
        let wanted = ALLOCATED | u64::from(order.0) << ORDER_SHIFT;
        let mask = ALLOCATED | ORDER_MASK << ORDER_SHIFT;
        self.0 & mask == wanted
    }
}

#[inline(always)]
const fn pack_use(used: Use) -> u64 {
    match used {
        Use::Hypervisor => HYPERVISOR,
        Use::Table => TABLE,
        Use::Data { vm, ipa } => DATA | pack_place(vm, ipa),
        Use::Reserved { vm, ipa } => RESERVED | pack_place(vm, ipa),
    }
}

#[inline(always)]
const fn pack_place(vm: VmId, ipa: Ipa) -> u64 {
    let page_number = ipa.get() >> PAGE_SHIFT & PAGE_NUMBER_MASK;
    (vm.0 as u64) << VM_SHIFT | page_number << PAGE_NUMBER_SHIFT
}

/// Whether memory can be moved away, or given up, to make a 2 MiB block free. (Linux: migrate
/// types.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mobility {
    /// It can: guests' memory.
    Movable,
    /// It stays where it is: tables, and what is the hypervisor's own.
    Fixed,
}

impl Mobility {
    pub(super) const COUNT: usize = 2;
    pub(super) const ALL: [Self; Self::COUNT] = [Self::Movable, Self::Fixed];

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Movable => Self::Fixed,
            Self::Fixed => Self::Movable,
        }
    }
}

/// Names a kind of [`Use`] without its VM and address: below [`UseIndex::COUNT`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct UseIndex(u8);

impl UseIndex {
    pub(super) const COUNT: usize = 4;
    pub(super) const HYPERVISOR: Self = Self(0);
    pub(super) const TABLE: Self = Self(1);
    pub(super) const DATA: Self = Self(2);
    pub(super) const RESERVED: Self = Self(3);

    #[inline]
    pub(super) const fn get(self) -> usize {
        self.0 as usize & (Self::COUNT - 1)
    }

    /// Whether memory that is used so can be moved.
    #[inline]
    pub(super) const fn mobility(self) -> Mobility {
        match self {
            Self::HYPERVISOR | Self::TABLE => Mobility::Fixed,
            _ => Mobility::Movable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_packing() {
        let place = |page: u64| (VmId(0xffff), Ipa::new(page << PAGE_SHIFT));
        let (vm, ipa) = place((1 << 40) - 1);
        let mut states = vec![State::Absent, State::Permanent, State::Tail];
        for order in Order::all() {
            states.push(State::Free { order });
            states.push(State::Isolated { order });
            states.push(State::Cached { order });
            for used in [
                Use::Hypervisor,
                Use::Table,
                Use::Data { vm, ipa },
                Use::Reserved { vm, ipa },
            ] {
                states.push(State::Allocated { used, order });
            }
        }
        for state in states {
            assert_eq!(Packed::new(state).state(), state);
            let allocated = Packed::new(state).is_allocated(Order::PAGE);
            assert_eq!(
                allocated,
                matches!(
                    state,
                    State::Allocated {
                        order: Order::PAGE,
                        ..
                    }
                ),
                "{state:?}"
            );
        }
    }

    #[test]
    fn orders_end_at_a_gigabyte() {
        assert_eq!(Order::BLOCK_2M.bytes(), 2 << 20);
        assert_eq!(Order::BLOCK_1G.bytes(), 1 << 30);
        assert_eq!(Order::new(19), None);
        assert_eq!(Order::fitting(0), None);
        assert_eq!(Order::fitting(1023), Some(Order::BLOCK_2M));
        assert_eq!(Order::fitting(1 << 40), Some(Order::BLOCK_1G));
    }
}
