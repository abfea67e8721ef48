//! Finding and locking tables: the calls that can fail.
//!
//! Owns the only way from an entry to the table that it names. Nothing here assumes that a table is
//! there: each step loads an entry once and answers with the table, or with the reason why there is
//! none. Three kinds of access follow from how a table was asked for, and the types keep them
//! apart:
//!
//! | type | how | may |
//! |---|---|---|
//! | [`View`] | [`Slot::map`] | read |
//! | [`Unlocked`] | [`Slot::map_nolock`] | read, and lock later, with a re-check |
//! | [`Locked`] | [`Slot::lock`], [`Unlocked::lock`] | read and change |
//!
//! Invariants:
//! - A table, and its lock, come from one load of the entry that names it, inside a read section.
//! - After locking, the entry is loaded again. Only if it has not changed is the table still in the
//!   tree, and only then is there a [`Locked`].
//! - A table that holds table descriptors is never detached. So when a table's own parent entry has
//!   not changed, the whole path above it has not been cut either.
//!
//! Lock order: a parent table before its child; the other way round only by [`Unlocked::try_lock`].

mod entries;

pub(crate) use entries::replace;

use crate::addr::{ENTRIES, Ipa, Level, Pa};
use crate::descriptor::{Descriptor, EntryKind, Marker};
use crate::env::{Environment, Frames, Table, TableFrame, TableWindow};
use crate::flush::Published;
use crate::grace::{CpuSlot, Section};
use crate::guard::TableGuard;
use crate::meta::TableMeta;
use crate::observer::{Observation, Topic};
use crate::stage2::Stage2;
use crate::stats::Counter;
use crate::sync::Ordering;
use core::ops::Deref;

/// How often a lookup begins again before it lets its caller wait instead: each time, another
/// thread has changed the entry, so more than a few in a row are a crowd.
pub(crate) const MAX_RETRIES: u32 = 64;

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// The entry is empty.
    #[error("the entry is empty")]
    Empty,
    /// Another operation works on what the entry covers. Wait, holding nothing, and try again.
    #[error("another operation works on what the entry covers: {0:?}")]
    Busy(Marker),
    /// The entry is a leaf: a block, or a page where the entry is of level 3.
    #[error("the entry is a leaf: {0:?}")]
    Block(Descriptor),
    /// The entry can't be. It is cleared by those who change the tables.
    #[error("the entry can't be: {0:?}")]
    Bad(Descriptor),
    /// The entry changed too often while its table was being locked. Wait and try again.
    #[error("the entry changes too often")]
    Contended,
}

/// The parent entry was changed since the table was found through it: the table is not, or no
/// longer surely, part of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parent entry has changed")]
pub struct Changed;

/// A walk that came to an end above the table that was asked for.
pub(crate) struct Stopped<'r, E: Environment> {
    /// The table whose entry for the address names no table.
    pub holder: Unlocked<'r, E>,
    /// Why it names none.
    pub absent: Absent,
}

/// A read section in one VM's tables, and the way into them.
pub struct Reader<'s, E: Environment> {
    inside: Inside<'s, E>,
    _section: Section<'s, E::Cpus>,
}

/// One VM's tables, and the slot of a CPU that is inside a read section.
struct Inside<'s, E: Environment> {
    stage2: &'s Stage2<E>,
    slot: &'s CpuSlot,
}

impl<'s, E: Environment> Reader<'s, E> {
    /// For looking: sections nest.
    #[inline]
    pub(crate) fn new(stage2: &'s Stage2<E>) -> Self {
        Self::inside(stage2, Section::enter(stage2.env().cpus()))
    }

    /// For changing what is found: the caller is in no section yet.
    #[inline(always)]
    pub(crate) fn first(stage2: &'s Stage2<E>) -> Self {
        Self::inside(stage2, Section::enter_first(stage2.env().cpus()))
    }

    #[inline(always)]
    fn inside(stage2: &'s Stage2<E>, section: Section<'s, E::Cpus>) -> Self {
        let slot = section.slot();
        Self {
            inside: Inside { stage2, slot },
            _section: section,
        }
    }

    /// The root table that has the entry for `ipa`; none if the address is too large.
    #[inline(always)]
    pub fn root(&self, ipa: Ipa) -> Option<Unlocked<'_, E>> {
        self.root_at(self.inside.stage2.geometry().start(), ipa)
    }

    /// As [`root`](Self::root), in tables that start at this level: the VM's do.
    #[inline(always)]
    fn root_at(&self, start: Level, ipa: Ipa) -> Option<Unlocked<'_, E>> {
        let geometry = self.inside.stage2.geometry();
        let index = geometry.root_index(ipa)?;
        let pa = self
            .inside
            .stage2
            .root()
            .offset(index << crate::addr::PAGE_SHIFT);
        let meta = self.inside.stage2.env().frames().table_meta(pa)?;
        Some(Unlocked {
            view: View::new(&self.inside, pa, start, ipa),
            meta,
            parent: None,
        })
    }

    /// Walks to the table of `level` that has the entry for `ipa`, locking nothing.
    ///
    /// None if the address is too large, or `level` above the root's.
    #[inline(always)]
    pub(crate) fn descend(
        &self,
        ipa: Ipa,
        level: Level,
    ) -> Option<Result<Unlocked<'_, E>, Stopped<'_, E>>> {
        // A copy for each start: in each, the levels on the way are constants.
        match self.inside.stage2.geometry().start() {
            Level::L0 => self.descend_from(Level::L0, ipa, level),
            Level::L1 => self.descend_from(Level::L1, ipa, level),
            Level::L2 => self.descend_from(Level::L2, ipa, level),
            Level::L3 => self.descend_from(Level::L3, ipa, level),
        }
    }

    /// The table of `level` that has the entry for `ipa`, locked and surely part of the tree, or
    /// why there is none: [`Slot::lock`] from the root on, in one call.
    ///
    /// None if the address is too large, or `level` above the root's.
    #[inline(always)]
    pub fn lock(&self, ipa: Ipa, level: Level) -> Option<Result<Locked<'_, E>, Absent>> {
        match self.lock_fast(ipa, level) {
            Some(table) => Some(Ok(table)),
            None => self.lock_slow(ipa, level),
        }
    }

    /// As [`lock`](Self::lock), whatever is in the way.
    #[cold]
    #[inline(never)]
    fn lock_slow(&self, ipa: Ipa, level: Level) -> Option<Result<Locked<'_, E>, Absent>> {
        for _ in 0..MAX_RETRIES {
            match self.descend(ipa, level)? {
                Ok(table) => match table.lock() {
                    Ok(table) => return Some(Ok(table)),
                    Err(Changed) => continue,
                },
                Err(stopped) => return Some(Err(stopped.absent)),
            }
        }
        Some(Err(Absent::Contended))
    }

    /// The table of `level` that has the entry for `ipa`, locked, if nothing is in the way.
    #[inline(always)]
    pub(crate) fn lock_fast(&self, ipa: Ipa, level: Level) -> Option<Locked<'_, E>> {
        match self.inside.stage2.geometry().start() {
            Level::L0 => self.descend_from(Level::L0, ipa, level)?.ok()?.lock().ok(),
            Level::L1 => self.descend_from(Level::L1, ipa, level)?.ok()?.lock().ok(),
            Level::L2 => self.descend_from(Level::L2, ipa, level)?.ok()?.lock().ok(),
            Level::L3 => self.descend_from(Level::L3, ipa, level)?.ok()?.lock().ok(),
        }
    }

    /// As [`descend`](Self::descend), in tables that start at this level.
    #[inline(always)]
    fn descend_from(
        &self,
        start: Level,
        ipa: Ipa,
        level: Level,
    ) -> Option<Result<Unlocked<'_, E>, Stopped<'_, E>>> {
        let root = self.root_at(start, ipa)?;
        if level < start {
            return None;
        }
        // From level 0 to level 3 takes three steps. No loop, so that each has its own constants.
        Some(
            root.down(ipa, level)
                .and_then(|table| table.down(ipa, level))
                .and_then(|table| table.down(ipa, level)),
        )
    }

    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.inside.count(counter);
    }
}

impl<E: Environment> Inside<'_, E> {
    #[inline]
    fn count(&self, counter: Counter) {
        self.slot.counters.count(counter);
    }

    /// Counts that the entry of `level` for `ipa` names no table, and tells of a marker.
    ///
    /// Kept out of the way, and given nothing that has to be in memory for it: a lookup that meets
    /// only tables stays in registers.
    #[cold]
    fn without_table(&self, ipa: Ipa, level: Level, absent: Absent) -> Absent {
        self.count(match absent {
            Absent::Empty => Counter::AbsentEmpty,
            Absent::Busy(_) | Absent::Contended => Counter::AbsentBusy,
            Absent::Block(_) => Counter::AbsentBlock,
            Absent::Bad(_) => Counter::AbsentBad,
        });
        if let Absent::Busy(marker) = absent {
            self.stage2.trace_marker(ipa, level, marker);
        }
        absent
    }
}

/// A table, for reading. It may be detached at any time, and stays readable until the read section
/// ends.
pub struct View<'r, E: Environment> {
    inside: &'r Inside<'r, E>,
    table: <E::TableWindow as TableWindow>::Ref<'r>,
    pa: Pa,
    level: Level,
    base: Ipa,
}

impl<'r, E: Environment> View<'r, E> {
    #[inline(always)]
    fn new(inside: &'r Inside<'r, E>, pa: Pa, level: Level, ipa: Ipa) -> Self {
        let covered = level.size() * ENTRIES as u64;
        Self {
            inside,
            table: inside.stage2.env().window().table(TableFrame::at(pa)),
            pa,
            level,
            base: Ipa::new(ipa.get() & !(covered - 1)),
        }
    }

    /// The level of the table's entries.
    #[inline]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Where the table is.
    #[inline]
    pub fn pa(&self) -> Pa {
        self.pa
    }

    /// All entries, for those who look at many.
    #[inline(always)]
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// The first guest address that the entry of this index covers.
    #[inline]
    pub fn ipa(&self, index: usize) -> Ipa {
        self.base.offset(index as u64 * self.level.size())
    }

    /// The entry of this index, loaded once.
    #[inline]
    pub fn get(&self, index: usize) -> Descriptor {
        // Acquire: what a table descriptor names was complete before it was stored.
        Descriptor::from_bits(self.table.entries[index].load(Ordering::Acquire))
    }

    /// What the entry of this index is.
    #[inline]
    pub fn kind(&self, index: usize) -> EntryKind {
        self.get(index).kind(self.level)
    }

    /// The place of the entry for `ipa`.
    #[inline]
    pub fn slot(&self, ipa: Ipa) -> Slot<'_, 'r, E> {
        Slot { view: self, ipa }
    }
}

/// The place of one entry, in a table of any kind of access.
pub struct Slot<'v, 'r, E: Environment> {
    view: &'v View<'r, E>,
    ipa: Ipa,
}

impl<'r, E: Environment> Slot<'_, 'r, E> {
    fn index(&self) -> usize {
        self.ipa.index(self.view.level)
    }

    /// The entry, loaded once.
    #[inline]
    pub fn load(&self) -> Descriptor {
        self.view.get(self.index())
    }

    /// The table that the entry names, for reading.
    #[inline]
    pub fn map(&self) -> Result<View<'r, E>, Absent> {
        self.map_nolock().map(|unlocked| unlocked.view)
    }

    /// The table that the entry names, with what it takes to lock it later.
    #[inline(always)]
    pub fn map_nolock(&self) -> Result<Unlocked<'r, E>, Absent> {
        match self.resolve(self.load()) {
            Ok(table) => Ok(table),
            Err(absent) => {
                let View { inside, level, .. } = *self.view;
                Err(inside.without_table(self.ipa, level, absent))
            }
        }
    }

    /// The table that the entry names, locked and surely part of the tree.
    ///
    /// Begins again when the entry changed before the lock was had.
    pub fn lock(&self) -> Result<Locked<'r, E>, Absent> {
        for _ in 0..MAX_RETRIES {
            if let Ok(locked) = self.map_nolock()?.lock() {
                return Ok(locked);
            }
        }
        Err(Absent::Contended)
    }

    /// Table and lock from the one value that was loaded; nothing else is consulted.
    #[inline(always)]
    pub(crate) fn resolve(&self, value: Descriptor) -> Result<Unlocked<'r, E>, Absent> {
        let View {
            inside,
            pa: parent,
            level,
            ..
        } = *self.view;
        let pa = match value.kind(level) {
            EntryKind::Table(pa) => pa,
            EntryKind::Empty => return Err(Absent::Empty),
            EntryKind::Busy(marker) => return Err(Absent::Busy(marker)),
            EntryKind::Leaf(_) => return Err(Absent::Block(value)),
            EntryKind::Bad => return Err(Absent::Bad(value)),
        };
        let stage2 = inside.stage2;
        let level = level.next().ok_or(Absent::Bad(value))?;
        let meta = stage2
            .env()
            .frames()
            .table_meta(pa)
            .filter(|meta| meta.is_table_of(stage2.owner(), level))
            .ok_or(Absent::Bad(value))?;
        Ok(Unlocked {
            view: View::new(inside, pa, level, self.ipa),
            meta,
            parent: Some(ParentEntry {
                table: parent,
                index: self.index(),
                value,
            }),
        })
    }
}

/// Where a table was found, and the value that named it.
#[derive(Clone, Copy)]
struct ParentEntry {
    table: Pa,
    index: usize,
    value: Descriptor,
}

/// A table for reading, with the right lock, not taken.
///
/// It cannot be written through; that takes [`lock`](Self::lock), which checks that the table is
/// still part of the tree:
///
/// ```compile_fail,E0599
/// # use stage2::{Environment, lookup::Unlocked, Descriptor};
/// fn write<E: Environment>(table: &mut Unlocked<'_, E>) {
///     table.fill(0, Descriptor::EMPTY);
/// }
/// ```
///
/// And it cannot outlive its read section:
///
/// ```compile_fail,E0515
/// # use stage2::{Environment, lookup::View, Ipa, Stage2};
/// fn keep<E: Environment>(stage2: &Stage2<E>) -> View<'_, E> {
///     let reader = stage2.read();
///     reader.root(Ipa::new(0)).unwrap().slot(Ipa::new(0)).map().unwrap()
/// }
/// ```
pub struct Unlocked<'r, E: Environment> {
    view: View<'r, E>,
    meta: &'r TableMeta,
    parent: Option<ParentEntry>,
}

impl<'r, E: Environment> Unlocked<'r, E> {
    /// The next table on the way to that of `level`, or this one if it is that already.
    #[inline(always)]
    fn down(self, ipa: Ipa, level: Level) -> Result<Self, Stopped<'r, E>> {
        if self.level() >= level {
            return Ok(self);
        }
        match self.slot(ipa).map_nolock() {
            Ok(child) => Ok(child),
            Err(absent) => Err(Stopped {
                holder: self,
                absent,
            }),
        }
    }

    /// Locks the table and checks that its parent entry is what it was.
    #[inline(always)]
    pub fn lock(self) -> Result<Locked<'r, E>, Changed> {
        let View {
            inside,
            pa,
            level,
            base,
            ..
        } = self.view;
        let guard = TableGuard::lock(inside.stage2, self.meta, pa, base, level);
        self.recheck(guard)
    }

    /// As [`lock`](Self::lock), but gives up when another thread holds the lock: for a caller that
    /// holds a lock that comes later in the lock order.
    pub fn try_lock(self) -> Option<Result<Locked<'r, E>, Changed>> {
        let View {
            inside, pa, level, ..
        } = self.view;
        let guard = TableGuard::try_lock(inside.stage2, self.meta, pa, level)?;
        Some(self.recheck(guard))
    }

    #[inline(always)]
    fn recheck(self, guard: TableGuard<'r, E>) -> Result<Locked<'r, E>, Changed> {
        if let Some(parent) = self.parent {
            let inside = self.view.inside;
            let table = TableFrame::at(parent.table);
            let table = inside.stage2.env().window().table(table);
            if table.entries[parent.index].load(Ordering::Acquire) != parent.value.bits() {
                inside.count(Counter::LockRetries);
                let (ipa, level) = (self.view.ipa(0), self.view.level());
                let retried = move || Observation::Retried { ipa, level };
                inside.stage2.trace(Topic::Races, retried);
                return Err(Changed);
            }
        }
        Ok(Locked {
            view: self.view,
            meta: self.meta,
            parent: self.parent,
            guard,
        })
    }

    /// Whether the table has a deposit. It keeps that for as long as it has entries in use.
    pub(crate) fn has_deposit(&self) -> bool {
        self.meta.next().is_some()
    }

    /// Whether the table has no entry in use. A hint: only under the lock does it last.
    pub fn seems_empty(&self) -> bool {
        self.meta.live() == 0
    }

    /// How many entries were in use a moment ago: a hint.
    pub(crate) fn entries_in_use(&self) -> usize {
        self.meta.live().into()
    }
}

impl<'r, E: Environment> Deref for Unlocked<'r, E> {
    type Target = View<'r, E>;

    fn deref(&self) -> &View<'r, E> {
        &self.view
    }
}

/// A table whose lock is held and which is part of the tree, and stays so while the lock is held.
///
/// Dropping it unlocks. The methods that change entries are this crate's own: from outside, tables
/// change through the operations of [`Stage2`].
pub struct Locked<'r, E: Environment> {
    view: View<'r, E>,
    meta: &'r TableMeta,
    parent: Option<ParentEntry>,
    guard: TableGuard<'r, E>,
}

impl<'r, E: Environment> Locked<'r, E> {
    /// Unlocks, and keeps the way back to the lock.
    pub fn unlock(self) -> Unlocked<'r, E> {
        drop(self.guard);
        Unlocked {
            view: self.view,
            meta: self.meta,
            parent: self.parent,
        }
    }

    /// Whether no entry is in use.
    pub fn is_empty(&self) -> bool {
        self.meta.live() == 0
    }

    /// How many entries are in use.
    pub fn live(&self) -> usize {
        usize::from(self.meta.live())
    }

    /// Whether an observer may want to know what happens to the table.
    #[inline(always)]
    pub(crate) fn is_traced(&self) -> bool {
        self.guard.is_traced()
    }

    /// Makes entries of the table visible to table walks.
    #[inline(always)]
    pub(crate) fn publish(&self) -> Published {
        let stage2 = self.inside.stage2;
        let published = Published::by(stage2.env().tlb());
        if self.is_traced() {
            stage2.trace_publishing();
        }
        published
    }

    /// Counts an event, on the CPU that holds the lock.
    #[inline]
    pub(crate) fn count(&self, counter: Counter) {
        self.inside.count(counter);
    }

    pub(crate) fn meta(&self) -> &'r TableMeta {
        self.meta
    }

    pub(crate) fn stage2(&self) -> &'r Stage2<E> {
        self.inside.stage2
    }
}

impl<'r, E: Environment> Deref for Locked<'r, E> {
    type Target = View<'r, E>;

    fn deref(&self) -> &View<'r, E> {
        &self.view
    }
}
