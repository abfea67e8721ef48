//! Which 2 MiB block is the cheapest to make free.
//!
//! Owns the search that compaction does: counts in the metadata of each 2 MiB block's first frame
//! say how much of it is free, so that only the most promising blocks are looked at frame by frame.
//! Nothing is locked: an answer is a hint, which isolating the block turns into a fact.

use super::FrameAllocator;
use super::frame::{BLOCK_FRAMES, Index};
use super::linear::LinearMap;
use super::state::{Order, State, Use};
use stage2::Pa;

/// Where a search goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(u32);

impl Cursor {
    /// At the first block.
    pub const START: Cursor = Cursor(0);
}

/// What is in a 2 MiB block, in frames; they add up to 512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where the block begins.
    pub pa: Pa,
    /// Free, in whatever list.
    pub free: u32,
    /// Single frames of guests' memory: they can be moved.
    pub movable: u32,
    /// Single frames set aside for guests and not mapped: they can be given up.
    pub reserved: u32,
    /// All others: tables, the hypervisor's own, larger blocks, holes.
    pub fixed: u32,
}

impl<M: LinearMap> FrameAllocator<M> {
    /// Looks at the next `blocks` 2 MiB blocks and returns the one with the fewest frames to move,
    /// not more than `most`, that can be made free by moving: nothing in it is fixed, and something
    /// is free. `cursor` is moved on, and begins again behind the last block.
    pub fn find_candidate(&self, cursor: &mut Cursor, blocks: u32, most: u32) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for _ in 0..blocks.min(self.inventory.blocks()) {
            let block = Index(cursor.0 * BLOCK_FRAMES);
            cursor.0 = (cursor.0 + 1) % self.inventory.blocks();
            // Frames in CPUs' caches are not counted here, so this may reject a little too much.
            let to_move =
                BLOCK_FRAMES.saturating_sub(self.inventory.frame(block).small_free().into());
            let bound = best.map_or(most, |best| {
                (best.movable + best.reserved).saturating_sub(1)
            });
            if to_move > bound || to_move == BLOCK_FRAMES {
                continue;
            }
            let candidate = self.look_at(block);
            if candidate.fixed == 0 && candidate.movable + candidate.reserved <= bound {
                best = Some(candidate);
            }
        }
        best
    }

    /// What is in the 2 MiB block that contains `pa`.
    pub fn survey(&self, pa: Pa) -> Option<Candidate> {
        self.inventory
            .index(pa)
            .map(|index| self.look_at(index.block()))
    }

    fn look_at(&self, block: Index) -> Candidate {
        let (mut free, mut movable, mut reserved) = (0, 0, 0);
        for (_, state) in self.inventory.heads(block) {
            match state {
                State::Free { order } | State::Isolated { order } | State::Cached { order } => {
                    free += order.frames().min(BLOCK_FRAMES);
                }
                State::Allocated {
                    used: Use::Data { .. },
                    order: Order::PAGE,
                } => movable += 1,
                State::Allocated {
                    used: Use::Reserved { .. },
                    order: Order::PAGE,
                } => {
                    reserved += 1;
                }
                State::Allocated { .. } | State::Absent | State::Permanent | State::Tail => {}
            }
        }
        let fixed = BLOCK_FRAMES.saturating_sub(free + movable + reserved);
        Candidate {
            pa: self.inventory.pa(block),
            free,
            movable,
            reserved,
            fixed,
        }
    }
}
