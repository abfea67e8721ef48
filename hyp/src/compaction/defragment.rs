//! Making a free 2 MiB block by moving pages out of one.
//!
//! Owns the search for the block that is cheapest to empty, and its isolation while it is being
//! emptied: none of its free frames is handed out meanwhile. A page that cannot be moved (pinned, or
//! of another VM than the one at hand) ends the attempt, and the search goes on behind the block.

use crate::frames::{Contents, Cursor, Isolation, LinearMap, Order, Use};
use crate::memory::contents::PageCopier;
use crate::memory::{GuestMemory, Parts};
use stage2::{Ipa, MoveError, Pa};

/// Blocks that one step looks at.
const LOOK: u32 = 64;
/// A block with more frames in use than this is not worth emptying.
const MOST_TO_MOVE: u32 = 384;
/// Pages moved before other threads of the CPU get their turn.
const SLICE: usize = 8;

/// Empties one block after the other.
pub struct Defragmenter<'m, M: LinearMap> {
    cursor: Cursor,
    isolation: Option<Isolation<'m, M>>,
}

/// What became of an attempt to move a page.
enum Move {
    Done,
    /// The page is on its way out by itself, or somebody works on it.
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
                memory.machine().give_way();
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
        Some(Err(MoveError::Busy | MoveError::Changed)) => Move::Later,
        Some(Err(MoveError::Pinned | MoveError::OutOfRange)) | None => Move::Never,
    }
}

/// Moves the page at `ipa` to a new frame; none if there is no frame.
pub(super) fn replace_frame<P: Parts>(
    memory: &GuestMemory<'_, P>,
    ipa: Ipa,
    from: Pa,
) -> Option<Result<(), MoveError>> {
    replace_frame_by(memory, ipa, from, &mut PageCopier::new(memory.machine()))
}

/// As [`replace_frame`], with contents moved by `copier`.
pub(super) fn replace_frame_by<P: Parts>(
    memory: &GuestMemory<'_, P>,
    ipa: Ipa,
    from: Pa,
    copier: &mut impl stage2::Contents,
) -> Option<Result<(), MoveError>> {
    let machine = memory.machine();
    let used = Use::Data {
        vm: memory.vm(),
        ipa,
    };
    let to = machine
        .allocator()
        .alloc(machine.cpu(), Order::PAGE, Contents::Dirty, used)
        .ok()?;
    let moved = memory.stage2().move_page(ipa, from, to, copier);
    if moved.is_err() {
        memory.free_page(to);
    }
    Some(moved)
}
