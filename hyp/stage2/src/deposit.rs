//! Tables kept for the day on which a block must be split.
//!
//! A collapse keeps the table that it emptied with the table that holds the new block, and marks the block;
//! splitting a marked block takes a table from there, so it never fails for want of memory.
//!
//! Invariants:
//! - A table has as many tables in its deposit as marked blocks in its entries. All of that changes under its lock. (Bits
//!   that fell over in memory may bring a mark that nothing was kept for, or leave a table that nobody asks for:
//!   the one is split like any block, the other is freed with the table.)
//! - A kept table is detached and flushed, and still a table: who found it before may look at it, and it is nobody
//!   else's until a grace period has passed since, and the collapse that emptied it has let go its claim.
//! - The list is linked through metadata: `next` of a table in the tree names the first that it keeps, `next` of that
//!   the second.

use crate::addr::Pa;
use crate::detached::Retired;
use crate::env::{Cpus, Environment, Frames};
use crate::flush::Flushed;
use crate::grace::Moment;
use crate::lookup::Locked;
use crate::meta::TableMeta;

/// Takes the first table out of the deposit of the one that has this metadata, whoever may still look at it.
fn pop<F: Frames>(frames: &F, holder: &TableMeta) -> Option<Pa> {
    let pa = holder.next()?;
    holder.set_next(frames.table_meta(pa).and_then(TableMeta::next));
    Some(pa)
}

/// Takes so many tables, or all that there are, out of the deposit of the one that has this metadata.
pub(crate) fn give_up<F: Frames>(
    frames: &F,
    holder: &TableMeta,
    most: usize,
    retired: &mut Retired,
) {
    for _ in 0..most {
        let Some(pa) = pop(frames, holder) else {
            break;
        };
        retired.push_kept(frames, pa);
    }
}

/// Why a table in the deposit cannot be had yet.
pub(crate) enum InUse {
    /// The collapse that emptied it has not done with it.
    Claimed,
    /// Who found it before it was detached, at this moment, may still look at it.
    Seen(Moment),
}

impl<E: Environment> Locked<'_, E> {
    /// Keeps the table at `child`, which a marked block of this one has replaced.
    pub(crate) fn keep(&mut self, child: Pa, _proof: &Flushed) {
        let env = self.stage2().env();
        let frames = env.frames();
        let Some(kept) = frames.table_meta(child) else {
            return;
        };
        kept.set_detached(env.cpus().grace().now());
        // Behind the first: that one is older, and most likely to be nobody's by now.
        let first = self.meta().next().and_then(|pa| frames.table_meta(pa));
        let before = first.unwrap_or(self.meta());
        kept.set_next(before.next());
        before.set_next(Some(child));
    }

    /// Takes a frame for splitting a marked block, if there is a table in the deposit.
    pub(crate) fn take_kept(&mut self) -> Option<Result<Pa, InUse>> {
        let stage2 = self.stage2();
        let (frames, grace) = (stage2.env().frames(), stage2.env().cpus().grace());
        let kept = frames.table_meta(self.meta().next()?)?;
        if kept.is_claimed() {
            return Some(Err(InUse::Claimed));
        }
        let detached = kept.detached();
        if !grace.is_known_to_have_passed(detached) {
            return Some(Err(InUse::Seen(detached)));
        }
        let frame = pop(frames, self.meta())?;
        stage2.end_table(frame);
        Some(Ok(frame))
    }

    /// Takes out what was kept for so many marked blocks, which are gone.
    pub(crate) fn give_up_kept(&mut self, blocks: usize, retired: &mut Retired) {
        give_up(self.stage2().env().frames(), self.meta(), blocks, retired);
    }
}
