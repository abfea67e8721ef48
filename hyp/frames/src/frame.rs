//! The metadata of one 4 KiB frame.
//!
//! Owns [`Frame`], and what may be done to its fields. Invariants:
//! - `table` is stage 2's: made once, never touched by the allocator again, whatever the frame
//!   becomes, since a table reader may still look at it.
//! - `state` of an allocated block is its owner's: only who allocated it changes it, and every
//!   change starts from the state that is expected, so that a second free is seen and refused. Such
//!   a change is all it takes to hand a frame, and what is stored in it, to another owner.
//! - `state` of free frames, the links, `small_free`, `fixed` and `held` change only under the
//!   buddy's lock (a cached frame's state: under the lock of the cache that holds it). They are
//!   atomics because others may look at them without a lock; the locks order them, so `Relaxed` is
//!   enough.

use super::state::{Mobility, Order, Packed, State, UseIndex};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use stage2::TableMeta;

/// Names a frame by its place in the array of metadata.
///
/// The array begins every region at a multiple of 512, and so do the regions in physical memory:
/// below 2 MiB an index is aligned as the frame's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Index(pub(super) u32);

/// Frames of a 2 MiB block.
pub(super) const BLOCK_FRAMES: u32 = Order::BLOCK_2M.frames();

impl Index {
    /// The first frame of the 2 MiB block that this frame is in.
    #[inline]
    pub(super) const fn block(self) -> Index {
        Index(self.0 & !(BLOCK_FRAMES - 1))
    }

    #[inline]
    pub(super) const fn plus(self, frames: u32) -> Index {
        Index(self.0 + frames)
    }
}

/// Stands for the end of a list. No frame has this index: see `inventory::MAX_FRAMES`.
const NIL: u32 = u32::MAX;
/// `held` of a block that nobody isolates.
const NOT_ISOLATED: u16 = u16::MAX;

/// The metadata of one 4 KiB frame: one cache line.
#[repr(C, align(64))]
pub struct Frame {
    table: TableMeta,
    state: AtomicU64,
    /// Neighbours in the free list of the block that this frame is the first of.
    next: AtomicU32,
    prev: AtomicU32,
    /// In the first frame of a 2 MiB block: its frames that are in free blocks below 2 MiB.
    small_free: AtomicU16,
    /// In the first frame of a 2 MiB block: its frames that an isolation holds, or `NOT_ISOLATED`.
    held: AtomicU16,
    /// In the first frame of a 2 MiB block: its [`Mobility`].
    fixed: AtomicBool,
}

const _: () = assert!(size_of::<Frame>() == 64);

impl Frame {
    pub(super) const fn new() -> Self {
        Self {
            table: TableMeta::new(),
            state: AtomicU64::new(Packed::new(State::Tail).0),
            next: AtomicU32::new(NIL),
            prev: AtomicU32::new(NIL),
            small_free: AtomicU16::new(0),
            held: AtomicU16::new(NOT_ISOLATED),
            fixed: AtomicBool::new(false),
        }
    }

    /// What stage 2 keeps of the frame: lock, level and owner, if it is a table.
    #[inline]
    pub fn table(&self) -> &TableMeta {
        &self.table
    }

    /// The frame's state at this moment. Unless the caller owns the frame or holds the lock that
    /// keeps it, the answer may be out of date when it arrives.
    pub fn state(&self) -> State {
        self.packed().state()
    }

    #[inline]
    pub(super) fn packed(&self) -> Packed {
        Packed(self.state.load(Ordering::Relaxed))
    }

    pub(super) fn set_state(&self, state: State) {
        self.set_packed(Packed::new(state));
    }

    #[inline]
    pub(super) fn set_packed(&self, state: Packed) {
        self.state.store(state.0, Ordering::Relaxed);
    }

    /// Ends the use of an allocated block of `order`, of which this is the first frame.
    ///
    /// Fails with the state that was found, if that was another one: of two calls for one block
    /// only one succeeds. So also while the frame is a table: no guest is ever given one.
    #[inline]
    pub(super) fn end_use(&self, order: Order, becomes: Packed) -> Result<UseIndex, Packed> {
        let seen = self.packed();
        if !seen.is_allocated(order) || self.table.is_table() {
            return Err(seen);
        }
        self.change_state(seen, becomes)?;
        Ok(seen.use_index())
    }

    /// Puts `to` in the place of `from`, or fails with the state that was found instead.
    #[inline]
    pub(super) fn change_state(&self, from: Packed, to: Packed) -> Result<(), Packed> {
        // What one owner stored to the frame comes before what the next one does.
        self.state
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed)
            .map(drop)
            .map_err(Packed)
    }

    pub(super) fn next(&self) -> Option<Index> {
        link(&self.next)
    }

    pub(super) fn set_next(&self, index: Option<Index>) {
        set_link(&self.next, index);
    }

    pub(super) fn prev(&self) -> Option<Index> {
        link(&self.prev)
    }

    pub(super) fn set_prev(&self, index: Option<Index>) {
        set_link(&self.prev, index);
    }

    /// Frames of this 2 MiB block that are in free blocks below 2 MiB.
    #[inline]
    pub(super) fn small_free(&self) -> u16 {
        self.small_free.load(Ordering::Relaxed)
    }

    pub(super) fn set_small_free(&self, frames: u16) {
        self.small_free.store(frames, Ordering::Relaxed);
    }

    /// What this 2 MiB block is broken up for. Without the buddy's lock a hint.
    #[inline]
    pub(super) fn mobility(&self) -> Mobility {
        if self.fixed.load(Ordering::Relaxed) {
            Mobility::Fixed
        } else {
            Mobility::Movable
        }
    }

    pub(super) fn set_mobility(&self, mobility: Mobility) {
        self.fixed
            .store(mobility == Mobility::Fixed, Ordering::Relaxed);
    }

    /// How many frames of this 2 MiB block an isolation holds; none if nobody isolates it.
    #[inline]
    pub(super) fn held(&self) -> Option<u16> {
        let held = self.held.load(Ordering::Relaxed);
        (held != NOT_ISOLATED).then_some(held)
    }

    pub(super) fn set_held(&self, frames: Option<u16>) {
        self.held
            .store(frames.unwrap_or(NOT_ISOLATED), Ordering::Relaxed);
    }
}

fn link(field: &AtomicU32) -> Option<Index> {
    let index = field.load(Ordering::Relaxed);
    (index != NIL).then_some(Index(index))
}

fn set_link(field: &AtomicU32, index: Option<Index>) {
    field.store(index.map_or(NIL, |index| index.0), Ordering::Relaxed);
}
