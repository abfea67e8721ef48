//! Making a free 2 MiB block by moving pages out of one.
//!
//! Owns the search for the block that is cheapest to empty, and its isolation while it is being
//! emptied: none of its free frames is handed out meanwhile. A page that cannot be moved (pinned,
//! or of another VM than the one at hand) ends the attempt, and the search goes on behind the
//! block.

use crate::page_copier::PageCopier;
use crate::{GuestMemory, Parts};
use frames::{Candidate, Cursor, Fill, FrameAllocator, Isolation, LinearMap, Order, Use};
use stage2::{Ipa, Level, MigrateError, Pa};

/// Blocks that one step looks at.
const LOOK: u32 = 64;
/// A block with more frames in use than this is not worth emptying.
const MOST_TO_MOVE: u32 = 384;
/// Pages moved before other threads of the CPU get their turn.
const SLICE: usize = 8;
/// Frames that must be free beside those of a block that is being emptied and those that its pages
/// are moved to, since a fault that finds none ends its machine.
const LEFT_FREE: usize = 128;

/// Empties one block after the other.
pub struct Defragmenter<'m, M: LinearMap> {
    cursor: Cursor,
    isolation: Option<Isolation<'m, M>>,
}

/// What became of an attempt to move a page.
enum Move {
    Done,
    /// The page is being freed already, or a vCPU works on it.
    Later,
    /// The block cannot be emptied.
    Never,
}

impl<'m, M: LinearMap> Defragmenter<'m, M> {
    /// Has not looked at any block.
    pub const fn new() -> Self {
        Self {
            cursor: Cursor::START,
            isolation: None,
        }
    }

    /// Moves at most `budget` pages of the block that is being emptied, or of a new one. When it is
    /// empty, returns it as a block of 2 MiB, to be used as `used`; its contents are dirty.
    pub fn step<P: Parts<Map = M>>(
        &mut self,
        memory: &GuestMemory<'m, P>,
        used: Use,
        budget: usize,
    ) -> Option<Pa> {
        let allocator = memory.machine().allocator();
        let isolation = match self.isolation.take() {
            Some(isolation) => isolation,
            None => {
                let found = allocator.find_candidate(&mut self.cursor, LOOK, MOST_TO_MOVE)?;
                if !can_spare(allocator, found) {
                    return None;
                }
                allocator.isolate(found.pa).ok()?
            }
        };
        for (moved, (pa, of, order)) in isolation.in_use().take(budget).enumerate() {
            match move_away(memory, pa, of, order) {
                Move::Done | Move::Later => {}
                // Dropped, the isolation gives its frames back.
                Move::Never => return None,
            }
            if moved % SLICE == SLICE - 1 {
                memory.machine().cond_resched();
            }
        }
        match isolation.finish(used) {
            Ok(block) => Some(block),
            Err(unfinished) => {
                self.isolation = Some(unfinished);
                None
            }
        }
    }
}

impl<M: LinearMap> Defragmenter<'_, M> {
    /// Gives the frames back of the block that is being emptied, if there is one.
    pub fn give_up(&mut self) {
        self.isolation = None;
    }
}

/// Whether enough frames are free without those of this block.
fn can_spare<M: LinearMap>(allocator: &FrameAllocator<M>, block: Candidate) -> bool {
    let usage = allocator.usage();
    let needed = (block.free + block.movable) as usize + LEFT_FREE;
    usage.free + usage.cached >= needed
}

impl<M: LinearMap> Default for Defragmenter<'_, M> {
    fn default() -> Self {
        Self::new()
    }
}

/// Frees one frame in use, of which the allocator's word is a hint.
fn move_away<P: Parts>(memory: &GuestMemory<'_, P>, pa: Pa, used: Use, order: Order) -> Move {
    match used {
        Use::Data { vm, ipa } if vm == memory.vm() && order == Order::PAGE => {
            move_page(memory, ipa, pa)
        }
        Use::Reserved { vm, ipa } if vm == memory.vm() => {
            memory.give_up_reservation(ipa);
            Move::Done
        }
        _ => Move::Never,
    }
}

fn move_page<P: Parts>(memory: &GuestMemory<'_, P>, ipa: Ipa, from: Pa) -> Move {
    match replace_frame(memory, ipa, from) {
        Some(Ok(())) => Move::Done,
        Some(Err(MigrateError::Busy | MigrateError::Changed)) => Move::Later,
        Some(Err(_)) | None => Move::Never,
    }
}

/// Moves the page at `ipa` to a new frame; none if there is no frame.
pub(super) fn replace_frame<P: Parts>(
    memory: &GuestMemory<'_, P>,
    ipa: Ipa,
    from: Pa,
) -> Option<Result<(), MigrateError>> {
    replace_frame_by(memory, ipa, from, &mut PageCopier::new(memory.machine()))
}

/// As [`replace_frame`], with contents moved by `copier`.
pub(super) fn replace_frame_by<P: Parts>(
    memory: &GuestMemory<'_, P>,
    ipa: Ipa,
    from: Pa,
    copier: &mut impl stage2::CopyPages,
) -> Option<Result<(), MigrateError>> {
    let to = memory
        .machine()
        .alloc_for(memory.vm(), ipa, Level::L3, Fill::Dirty)
        .ok()?;
    let moved = memory.stage2().migrate_page(ipa, from, to, copier);
    Some(memory.given_back(moved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{guest, machine, store};
    use bootargs::HugePolicy;

    /// What a block that is to be emptied will be used for.
    const BLOCK: Use = Use::Hypervisor;

    #[test]
    fn the_last_free_frames_are_not_set_aside() {
        let machine = machine();
        let memory = guest(&machine, HugePolicy::Never);
        store(&memory, 0, 1);
        let allocator = machine.allocator();
        let mut taken = Vec::new();
        while let Ok(frame) = allocator.alloc(0, Order::PAGE, Fill::Dirty, Use::Hypervisor) {
            taken.push(frame);
        }
        // What is free from here on is one block, of which the guest then takes some pages.
        let block_of = |pa: &Pa| pa.get() / stage2::Level::L2.size();
        let whole =
            |block| taken.iter().filter(|pa| block_of(pa) == block).count() == stage2::ENTRIES;
        let block = taken
            .iter()
            .map(block_of)
            .find(|&block| whole(block))
            .expect("a block");
        let (freed, mut kept): (Vec<_>, Vec<_>) =
            taken.iter().partition(|pa| block_of(pa) == block);
        for frame in freed {
            allocator.free(0, frame, Order::PAGE).expect("in use");
        }
        (1..9).for_each(|number| store(&memory, number, number));
        // Room to move a few of them to.
        for frame in kept.drain(..4) {
            allocator.free(0, frame, Order::PAGE).expect("in use");
        }
        let free = || allocator.usage().free + allocator.usage().cached;
        let before = free();
        let mut defragmenter = Defragmenter::new();
        for _ in 0..8 {
            assert_eq!(defragmenter.step(&memory, BLOCK, 1), None);
            assert_eq!(free(), before, "frames are set aside that a fault may need");
        }
        defragmenter.give_up();
        for frame in kept {
            allocator.free(0, frame, Order::PAGE).expect("in use");
        }
        memory.destroy();
    }
}
