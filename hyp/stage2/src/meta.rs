//! What is known of a frame that serves as a table.
//!
//! Owns [`TableMeta`]: the table's lock, its level and owner, the count of entries in use, and the
//! link to its deposit, or in a list of tables that wait to be freed. One lives in the metadata of
//! every frame that may become a table, outside the frame itself, because the hardware reads all of
//! the frame.
//!
//! Invariants:
//! - `kind` names a level and an owner from before the table can be seen until after the grace
//!   period that follows its removal. A reader that found the frame through an entry, inside a read
//!   section, may rely on lock and level.
//! - `live`, `claimed` and the entries of the table change only under `lock`; a fresh table that
//!   nobody can see yet is the exception.
//! - `next` names the page of the deposit of a table that is in the tree, and changes under `lock`
//!   then. In a table that waits to be freed it belongs to the list that the table is in.
//!   `detached` belongs to the deposit that keeps the table.

use crate::addr::{Level, Pa};
use crate::grace::Moment;
use crate::sync::{AtomicU16, Lock, LockGuard};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Names the tables of one VM among all table frames, so that a frame which became another VM's
/// table is never taken for this one's. Never zero, and below 2^28.
// As it stands in `TableMeta::kind`, with a level of 0: each step of a lookup compares the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

/// Tells tables from what is none. Below it is the level, above it the owner's number.
const IS_TABLE: u32 = 0b1000;
const NUMBER_SHIFT: u32 = 4;

impl Owner {
    /// The owner with this number; none for 0 or above 2^28 - 1.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number >= 1 << 28 {
            None
        } else {
            Some(Self(number << NUMBER_SHIFT | IS_TABLE))
        }
    }

    /// The owner's number.
    pub const fn number(self) -> u32 {
        self.0 >> NUMBER_SHIFT
    }
}

/// The metadata that this crate keeps of a table frame.
///
/// The frame allocator embeds one in the metadata of each frame, makes it with [`TableMeta::new`]
/// once and never touches it again, also when the frame is freed and used for something else: the
/// lock must not be made anew while a thread may wait for it.
///
/// `live` and `claimed` are the model checker's, because they are looked at without the lock. The
/// plain atomics are not: each is written only under the table's lock or by the only one who can
/// reach it, so that the lock, which is modelled, orders them.
pub struct TableMeta {
    lock: Lock,
    next: AtomicU64,
    detached: AtomicU64,
    kind: AtomicU32,
    live: AtomicU16,
    /// Not zero while a collapse has a claim.
    claimed: AtomicU16,
    // No byte is left between the fields, so that metadata is made by storing pairs of whole words:
    // there is a lot of it at boot.
}

const NO_TABLE: u32 = 0;

impl TableMeta {
    /// Metadata of a frame that is no table.
    #[cfg(not(loom))]
    // Made once a frame, in place; a default would invite remaking.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self {
            lock: Lock::new(()),
            next: AtomicU64::new(0),
            detached: AtomicU64::new(0),
            kind: AtomicU32::new(NO_TABLE),
            live: AtomicU16::new(0),
            claimed: AtomicU16::new(0),
        }
    }

    /// Metadata of a frame that is no table.
    #[cfg(loom)]
    #[allow(clippy::new_without_default)] // as above
    pub fn new() -> Self {
        Self {
            lock: Lock::new(()),
            next: AtomicU64::new(0),
            detached: AtomicU64::new(0),
            kind: AtomicU32::new(NO_TABLE),
            live: AtomicU16::new(0),
            claimed: AtomicU16::new(0),
        }
    }

    /// Whether the frame is a table at this moment, of whatever owner and level.
    pub fn is_table(&self) -> bool {
        self.kind.load(Ordering::Relaxed) != NO_TABLE
    }

    #[inline]
    pub(crate) fn is_table_of(&self, owner: Owner, level: Level) -> bool {
        self.kind.load(Ordering::Relaxed) == kind_of(owner, level)
    }

    /// Makes the frame a table with so many entries in use. Only the caller can reach it.
    #[inline]
    pub(crate) fn become_table(&self, owner: Owner, level: Level, live: u16) {
        self.set_live(live);
        self.claimed.store(0, Ordering::Relaxed);
        self.next.store(0, Ordering::Relaxed);
        self.kind.store(kind_of(owner, level), Ordering::Relaxed);
    }

    /// Makes the frame an ordinary one again. No reader can reach it any more.
    pub(crate) fn cease_to_be_table(&self) {
        self.kind.store(NO_TABLE, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_> {
        self.lock.lock()
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_>> {
        self.lock.try_lock()
    }

    /// Entries in use: valid ones and markers. Exact under the lock, a hint without it.
    #[inline]
    pub(crate) fn live(&self) -> u16 {
        self.live.load(Ordering::Relaxed)
    }

    /// Adds to the count of entries in use. The lock is held, or the table is not yet visible.
    #[inline]
    pub(crate) fn add_live(&self, change: i32) {
        let live = i32::from(self.live()) + change;
        debug_assert!((0..=crate::addr::ENTRIES as i32).contains(&live));
        self.set_live(live as u16);
    }

    /// Sets the count of entries in use. The lock is held, or the table is not yet visible.
    #[inline]
    pub(crate) fn set_live(&self, live: u16) {
        self.live.store(live, Ordering::Relaxed);
    }

    /// Claims the table, under its lock; says whether nobody had. A claimed table is neither
    /// detached nor claimed by another collapse, so that it can be found again after its lock was
    /// dropped. One that was detached by the claimant is used for nothing else as long as it has
    /// the claim.
    pub(crate) fn claim(&self) -> bool {
        let was_claimed = self.is_claimed();
        self.claimed.store(1, Ordering::Relaxed);
        !was_claimed
    }

    /// Lets a claim go, under the lock.
    pub(crate) fn release_claim(&self) {
        // Release: what the claimant has read of a table that it has detached is before its next
        // use.
        self.claimed.store(0, Ordering::Release);
    }

    /// Whether a collapse has a claim on the table. Exact under the lock, or if the table is
    /// detached.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire) != 0
    }

    /// Notes when the table was detached. By who did so, under the lock of the table that keeps
    /// this one.
    pub(crate) fn set_detached(&self, moment: Moment) {
        self.detached.store(moment.bits(), Ordering::Relaxed);
    }

    /// When the table was detached, if it is kept by another one, whose lock is held.
    pub(crate) fn detached(&self) -> Moment {
        Moment::from_bits(self.detached.load(Ordering::Relaxed))
    }

    pub(crate) fn set_next(&self, next: Option<Pa>) {
        self.next
            .store(next.map_or(0, |pa| pa.get() | 1), Ordering::Relaxed);
    }

    pub(crate) fn next(&self) -> Option<Pa> {
        let next = self.next.load(Ordering::Relaxed);
        (next != 0).then(|| Pa::new(next & !1))
    }
}

const fn kind_of(owner: Owner, level: Level) -> u32 {
    owner.0 | level as u32
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<TableMeta>() == 40);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_apart_by_their_numbers() {
        const LAST: u32 = (1 << 28) - 1;
        for number in [1, 2, 3, 4, 8, LAST] {
            assert_eq!(Owner::new(number).map(Owner::number), Some(number));
        }
        assert_eq!([0, LAST + 1].map(Owner::new), [None, None]);
    }

    /// Two VMs, or two levels: a frame that was freed and taken again is never what it was.
    #[test]
    fn a_table_is_of_one_owner_and_level() {
        let meta = TableMeta::new();
        let owners = [1, 2].map(|number| Owner::new(number).unwrap());
        let levels = [Level::L0, Level::L1, Level::L2, Level::L3];
        let all = owners.map(|owner| levels.map(|level| (owner, level)));
        let all = all.as_flattened();
        for &(owner, level) in all {
            assert!(!meta.is_table());
            meta.become_table(owner, level, 0);
            assert!(meta.is_table());
            for &other in all {
                let is_it = meta.is_table_of(other.0, other.1);
                assert_eq!(is_it, other == (owner, level));
            }
            meta.cease_to_be_table();
        }
    }
}
