//! Tables kept for the day on which a block must be split.
//!
//! Owns the deposit of one VM. A collapse puts the table that it emptied here instead of freeing it,
//! and marks its block; splitting a marked block takes a table from here, so it never fails for
//! want of memory.
//!
//! Invariants: `promised` is the number of marked blocks in the tree, or more for as long as one is
//! being split, unmapped or made part of a larger one; the tables kept never outnumber it. A collapse marks its block before
//! the table arrives, since the table has a grace period to wait for.
//!
//! Lock order: the deposit's lock comes after every table lock; nothing is taken under it.

use crate::addr::Pa;
use crate::detached::TableList;
use crate::env::Frames;
use crate::sync::Lock;

struct Contents {
    tables: TableList,
    kept: u64,
    promised: u64,
}

/// The tables kept for one VM's blocks.
pub(crate) struct Deposit(Lock<Contents>);

impl Deposit {
    pub(crate) fn new() -> Self {
        Self(Lock::new(Contents {
            tables: TableList::new(),
            kept: 0,
            promised: 0,
        }))
    }

    /// A block was marked: a table will come for it.
    pub(crate) fn promise(&self) {
        self.0.lock().promised += 1;
    }

    /// Keeps a frame for a marked block; returns it when there are enough already.
    pub(crate) fn keep<F: Frames>(&self, frames: &F, pa: Pa) -> Option<Pa> {
        let mut contents = self.0.lock();
        if contents.kept >= contents.promised {
            return Some(pa);
        }
        contents.kept += 1;
        contents.tables.push(frames, pa);
        None
    }

    /// A marked block is gone; returns a frame that is not needed any more, to be freed.
    pub(crate) fn forget<F: Frames>(&self, frames: &F) -> Option<Pa> {
        let mut contents = self.0.lock();
        contents.promised = contents.promised.saturating_sub(1);
        if contents.kept <= contents.promised {
            return None;
        }
        contents.kept -= 1;
        contents.tables.pop(frames)
    }

    /// Takes a frame for a marked block that is being split. None when the one promised has not
    /// arrived: the collapse that promised it is waiting for a grace period.
    pub(crate) fn take<F: Frames>(&self, frames: &F) -> Option<Pa> {
        let mut contents = self.0.lock();
        let pa = contents.tables.pop(frames)?;
        contents.kept -= 1;
        Some(pa)
    }
}
