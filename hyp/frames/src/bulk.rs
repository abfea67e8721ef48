//! Freeing many single frames at once.
//!
//! Owns the way of a range of guest memory back to the free blocks. Frames that lie side by side go
//! there in blocks as large as they make, past the CPU's cache: joining them one by one, order by
//! order, would cost ten times as much. A frame that lies alone goes to the cache as ever.
//!
//! A frame on the way is `Tail`, which belongs to no list, and its owner's alone.

use super::Fill;
use super::FrameAllocator;
use super::alloc::Refused;
use super::frame::{Frame, Index};
use super::linear::LinearMap;
use super::state::{Order, Packed, Use, UseIndex};
use core::slice;
use stage2::{PAGE_SHIFT, Pa};

/// Pieces that are freed in one go: each takes about 350 instructions where frames lie apart.
const APART_AT_ONCE: u32 = 32;

/// Frames that lie side by side, on the way; perhaps none.
#[derive(Clone, Copy)]
struct Piece {
    /// The index of the first one.
    index: Index,
    /// Its page number.
    page: u64,
    /// The page number behind the last one.
    end: u64,
}

impl Piece {
    const NONE: Self = Self {
        index: Index(0),
        page: u64::MAX,
        end: u64::MAX,
    };

    /// The blocks that these frames make, each aligned to its size and of 2 MiB at most.
    fn blocks(self) -> impl Iterator<Item = (Index, Order)> {
        let (mut index, mut left) = (self.index, self.end - self.page);
        core::iter::from_fn(move || {
            let fitting = Order::fitting(left)?;
            // An index is aligned as the address is, up to 2 MiB.
            let aligned = Order::new(index.0.trailing_zeros() as u8).unwrap_or(Order::BLOCK_2M);
            let (order, first) = (fitting.min(aligned).min(Order::BLOCK_2M), index);
            index = index.plus(order.frames());
            left -= u64::from(order.frames());
            Some((first, order))
        })
    }
}

/// What is on the way, and the metadata of the frames behind it.
struct Way<'a> {
    piece: Piece,
    behind: slice::Iter<'a, Frame>,
}

/// Frames that are to be freed.
pub struct Run<I> {
    /// The state of the first one.
    expected: Packed,
    frames: I,
}

impl<I: Iterator<Item = Option<Pa>>> Run<I> {
    /// Single frames that are used alike, the first as `used` and each other as befits its place in
    /// `frames`.
    pub fn new(used: Use, frames: I) -> Self {
        Self {
            expected: Packed::allocated(used, Order::PAGE),
            frames,
        }
    }
}

impl<M: LinearMap> FrameAllocator<M> {
    /// Frees single frames that are used alike, the first as `used` and each other as befits its
    /// place in `frames` (see [`Use::at`]); where there is none, nothing is freed.
    ///
    /// As for [`FrameAllocator::free`], no translation may lead to any of them any more. What is
    /// not used so is logged and left alone.
    pub fn free_run(&self, cpu: usize, used: Use, frames: impl Iterator<Item = Option<Pa>>) {
        let mut rest = Some(Run::new(used, frames));
        while let Some(run) = rest {
            rest = self.free_some(cpu, run);
        }
    }

    /// As [`free_run`](Self::free_run), but goes only as far as takes a CPU a few thousand
    /// instructions. Returns the rest, if there is one: it may be freed on another CPU.
    // A function of its own, so that its few values stay in registers: the run comes and goes by
    // value.
    #[inline(never)]
    pub fn free_some<I: Iterator<Item = Option<Pa>>>(
        &self,
        cpu: usize,
        run: Run<I>,
    ) -> Option<Run<I>> {
        let Run {
            mut expected,
            mut frames,
        } = run;
        let step = expected.page_step();
        let mut apart = 0;
        // Apart, so that they stay in registers.
        let (mut piece, mut end, mut behind) = (Piece::NONE, Piece::NONE.end, [].iter());
        while let Some(frame) = frames.next() {
            if let Some(pa) = frame {
                let page = pa.get() >> PAGE_SHIFT;
                // Mostly it lies behind the one before, so that its metadata need not be looked
                // for.
                if page == end
                    && let Some(frame) = behind.next()
                    && Frame::change_state(frame, expected, Packed::TAIL).is_ok()
                {
                    end += 1;
                } else {
                    piece.end = end;
                    Way { piece, behind } = self.free_apart(cpu, pa, expected, piece);
                    end = piece.end;
                    apart += 1;
                    if apart == APART_AT_ONCE {
                        self.free_piece(cpu, piece, expected.use_index());
                        expected = expected.plus(step);
                        return Some(Run { expected, frames });
                    }
                }
            }
            expected = expected.plus(step);
        }
        piece.end = end;
        self.free_piece(cpu, piece, expected.use_index());
        None
    }

    /// Ends the use of a frame wherever it is, and frees `piece` unless the frame lies before it.
    #[inline(never)]
    fn free_apart(&self, cpu: usize, pa: Pa, expected: Packed, piece: Piece) -> Way<'_> {
        let page = pa.get() >> PAGE_SHIFT;
        let (index, frame, behind) = match self.inventory.locate_run(pa) {
            Some((index, [frame, behind @ ..])) => (index, frame, behind),
            _ => return self.not_freed(pa, Packed::ABSENT, piece),
        };
        let end_use = || frame.change_state(expected, Packed::TAIL);
        let ended = match end_use() {
            Err(_) if self.break_up(index) => end_use(),
            ended => ended,
        };
        if let Err(found) = ended {
            return self.not_freed(pa, found, piece);
        }
        if page + 1 == piece.page {
            // Frames from the end of memory to its beginning: the next one will not lie behind.
            let piece = Piece {
                index,
                page,
                ..piece
            };
            let behind = [].iter();
            return Way { piece, behind };
        }
        self.free_piece(cpu, piece, expected.use_index());
        let end = page + 1;
        Way {
            piece: Piece { index, page, end },
            behind: behind.iter(),
        }
    }

    /// Logs that a frame was not used as expected; there is nothing else to be done.
    #[cold]
    fn not_freed(&self, pa: Pa, found: Packed, piece: Piece) -> Way<'_> {
        let _ = Refused::log(pa, found, "free", Order::PAGE);
        let behind = [].iter();
        Way { piece, behind }
    }

    /// Makes frames free that are on the way.
    #[inline(never)]
    fn free_piece(&self, cpu: usize, piece: Piece, used: UseIndex) {
        match piece.end - piece.page {
            0 => {}
            1 => self.put_page(cpu, piece.index, Fill::Dirty, used),
            frames => {
                let mut buddy = self.buddy.lock();
                buddy.tally.subtract(used, frames as u32);
                for (index, order) in piece.blocks() {
                    buddy.give_back(&self.inventory, index, order);
                }
            }
        }
    }
}
