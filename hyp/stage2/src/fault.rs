//! Faults on what is mapped: access flag and permission.
//!
//! Owns the answer to a fault whose address has a leaf: the mark that was missing is set, or
//! another thread has set it, or the access is not allowed.
//!
//! *An access that was answered with [`Resolution::Resolved`] is one that the hardware lets
//! through*, at once, if nobody changes the entry in between: else the guest would fault on it for
//! ever. So [`Access`] names each need that the hardware tells apart, and [`allows`] asks of the
//! entry all that the hardware asks.

use crate::addr::{Ipa, Level};
use crate::descriptor::{Descriptor, EntryKind, Privilege};
use crate::env::Environment;
use crate::lookup::{Absent, Locked, MAX_RETRIES};
use crate::stage2::Stage2;
use crate::stats::Counter;

/// What the guest was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load, or a walk of the guest's own tables that reads them.
    Read,
    /// A store, or cache maintenance that needs the right to store (DC IVAC).
    Write,
    /// A walk of the guest's own tables that also sets a flag in them.
    Update,
    /// An instruction fetch at this exception level.
    Execute(Privilege),
}

impl Access {
    /// Whether it stores.
    #[inline]
    pub const fn stores(self) -> bool {
        matches!(self, Self::Write | Self::Update)
    }
}

/// What one store to a leaf whose stores trap marks as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirtyGranule {
    /// The leaf, be it a page or a block.
    Leaf,
    /// A page: a block has to be split first. For dirty logging.
    Page,
}

/// What became of a fault.
#[must_use = "the guest is entered again only if that is the answer"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The access will succeed when the guest tries again on this CPU, unless the entry is changed
    /// before.
    Resolved,
    /// Nothing is mapped there, but something can be.
    Unmapped,
    /// The address is beyond the VM's: nothing can be mapped there.
    OutOfRange,
    /// The mapping does not allow the access.
    Denied,
    /// A block of this level is not to be marked as written as a whole: split it, then try again.
    MustSplit(Level),
    /// Another operation works on the region: wait, holding nothing, and let the guest try again.
    Busy,
}

impl<E: Environment> Stage2<E> {
    /// Resolves a fault on `ipa` for which a leaf may be there.
    ///
    /// `granule` tells what to do with a store to a block whose stores trap: under dirty
    /// logging it is split, so that one store marks one page.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    // Never inline: a caller that has more to do would save more registers (the bench's row of
    // dirty logging).
    #[inline(never)]
    pub fn resolve_fault(&self, ipa: Ipa, access: Access, granule: DirtyGranule) -> Resolution {
        self.resolve_fault_with(ipa, access, granule, |_| {})
    }

    /// As [`resolve_fault`](Self::resolve_fault), and calls `written` if this is the first store to
    /// a page, or to a block that is not to be split, since it was last
    /// [collected](Self::collect_dirty): for a ring of what is written. It is given the level of
    /// what is mapped.
    ///
    /// `written` runs with the table locked, so that what is collected later has been told before:
    /// it must be short, must not wait, and calls nothing of this crate. It is not called for what
    /// was mapped as written, nor for what the hardware marks by itself.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    // Always inline: a caller that asks for nothing pays nothing.
    #[inline(always)]
    pub fn resolve_fault_with(
        &self,
        ipa: Ipa,
        access: Access,
        granule: DirtyGranule,
        written: impl FnOnce(Level),
    ) -> Resolution {
        // Most often a page is there. That on its own stays in registers.
        let reader = self.change();
        if let Some(mut table) = reader.lock_fast(ipa, Level::L3) {
            let entry = table.get(ipa.index(Level::L3));
            if let EntryKind::Leaf(_) = entry.kind(Level::L3) {
                let asked = (ipa, access, granule);
                return self.resolve_leaf(&mut table, Level::L3, entry, asked, written);
            }
        }
        drop(reader);
        self.resolve_slow(ipa, access, granule, written)
    }

    /// As [`resolve_fault_with`](Self::resolve_fault_with), whatever is there.
    #[inline(never)]
    fn resolve_slow(
        &self,
        ipa: Ipa,
        access: Access,
        granule: DirtyGranule,
        written: impl FnOnce(Level),
    ) -> Resolution {
        for _ in 0..MAX_RETRIES {
            let reader = self.change();
            let table = match reader.descend(ipa, Level::L3) {
                None => return Resolution::OutOfRange,
                Some(Ok(table)) => table,
                Some(Err(stopped)) => match stopped.absent {
                    Absent::Empty => return Resolution::Unmapped,
                    Absent::Busy(_) | Absent::Contended => return Resolution::Busy,
                    Absent::Block(_) => stopped.holder,
                    Absent::Bad(bad) => {
                        self.clear_bad(stopped, ipa, bad);
                        continue;
                    }
                },
            };
            let Ok(mut table) = table.lock() else {
                continue;
            };
            let level = table.level();
            let entry = table.get(ipa.index(level));
            return match entry.kind(level) {
                EntryKind::Leaf(_) => {
                    let asked = (ipa, access, granule);
                    self.resolve_leaf(&mut table, level, entry, asked, written)
                }
                EntryKind::Busy(_) => Resolution::Busy,
                EntryKind::Empty | EntryKind::Bad => Resolution::Unmapped,
                // A block was split since it was seen: begin again, one level further down.
                EntryKind::Table(_) => continue,
            };
        }
        Resolution::Busy
    }

    /// As [`resolve_fault_with`](Self::resolve_fault_with), for the leaf `entry`, in a table of
    /// `level` as it is under the lock.
    #[inline(always)]
    fn resolve_leaf(
        &self,
        table: &mut Locked<'_, E>,
        level: Level,
        entry: Descriptor,
        (ipa, access, granule): (Ipa, Access, DirtyGranule),
        written: impl FnOnce(Level),
    ) -> Resolution {
        let index = ipa.index(level);
        if !allows(entry, access) {
            return Resolution::Denied;
        }
        let store = access.stores();
        let traps = store && !entry.lets_stores_through();
        if traps && granule == DirtyGranule::Page && level != Level::L3 {
            return Resolution::MustSplit(level);
        }
        table.count(if traps {
            Counter::WriteFaults
        } else if !entry.is_accessed() {
            Counter::AccessFaults
        } else {
            Counter::SpuriousFaults
        });
        // An entry that only gains rights leaves nothing behind that could be used wrongly.
        let _ = table.update(index, |entry| entry.used(store));
        if store && !entry.is_written() {
            written(level);
        }
        let published = table.publish();
        // Also when another CPU was faster: this CPU's TLB may hold the lesser entry, and would
        // fault on it again and again.
        self.flush_local(&published, ipa, level);
        Resolution::Resolved
    }
}

#[inline]
fn allows(entry: Descriptor, access: Access) -> bool {
    let rights = entry.rights();
    match access {
        Access::Read => rights.read,
        Access::Write => rights.write,
        Access::Update => rights.read && rights.write,
        Access::Execute(level) => rights.execute.allows(level),
    }
}
