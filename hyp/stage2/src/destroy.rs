//! The end of a VM's tables.

use crate::addr::{ENTRIES, Ipa, Level, PAGE_SHIFT, Pa};
use crate::descriptor::{Descriptor, EntryKind};
use crate::detached::{Retired, memory};
use crate::env::{Cpus, Environment, Frames, Scope};
use crate::flush::Stale;
use crate::observer::Observation;
use crate::stage2::{Stage2, next_entry};
use crate::sync::Ordering;
use crate::unmap::Unmapped;
use core::fmt;

/// Tables that were not destroyed, since a CPU may walk them.
#[must_use = "the tables are lost unless they are destroyed later"]
#[derive(thiserror::Error)]
#[error("CPU {cpu} has the tables loaded")]
pub struct StillLoaded<E: Environment> {
    /// The tables, of which nothing has changed.
    pub stage2: Stage2<E>,
    /// A CPU that has them loaded: it has to [`unload`](crate::unload) them, or load other tables.
    pub cpu: usize,
}

impl<E: Environment> fmt::Debug for StillLoaded<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StillLoaded")
            .field("stage2", &self.stage2)
            .field("cpu", &self.cpu)
            .finish()
    }
}

impl<E: Environment> Stage2<E> {
    /// Takes the tables down: invalidates everything, hands each leaf to `sink`, and frees all
    /// tables.
    ///
    /// It takes the value, so no vCPU thread, walker or compaction step that borrows it can still
    /// arrive. As long as a CPU has the tables [loaded](Self::load), so that it may walk them at
    /// any moment, they are given back.
    ///
    /// # Panics
    ///
    /// Inside a read section.
    pub fn destroy(self, mut sink: impl FnMut(Unmapped)) -> Result<(), StillLoaded<E>> {
        self.may_wait();
        if let Some(cpu) = self.loaded_on() {
            return Err(StillLoaded { stage2: self, cpu });
        }
        let everything = Stale {
            range: self.geometry().range(),
            scope: Scope::Tables,
        };
        let _ = self.flush(everything);
        self.trace_protocol(|order| Observation::TreeEnded { order });
        let (start, order) = (self.geometry().start(), self.geometry().root_order());
        let (mut ipa, mut kept) = (Ipa::new(0), Retired::none());
        for index in 0..1u64 << order {
            let root = self.root().offset(index << PAGE_SHIFT);
            ipa = self.destroy_table(root, start, ipa, &mut kept, &mut sink);
        }
        self.reclaim(kept);
        self.free_root();
        Ok(())
    }

    /// Empties a table, frees those below it, adds those that are kept to `kept`, and returns the
    /// address behind what it covered.
    fn destroy_table(
        &self,
        table: Pa,
        level: Level,
        first: Ipa,
        kept: &mut Retired,
        sink: &mut impl FnMut(Unmapped),
    ) -> Ipa {
        let mut ipa = first;
        for index in 0..ENTRIES {
            let bits = memory(self, table).entries[index].load(Ordering::Relaxed);
            let descriptor = Descriptor::from_bits(bits);
            match (descriptor.kind(level), level.next()) {
                (EntryKind::Leaf(_), _) => sink(Unmapped::new(ipa, level, descriptor)),
                (EntryKind::Table(child), Some(next)) => {
                    self.destroy_child(child, next, ipa, kept, sink);
                }
                _ => {}
            }
            ipa = next_entry(ipa, level);
        }
        let frames = self.env().frames();
        if let Some(meta) = frames.table_meta(table) {
            self.give_up_deposit(meta, kept);
        }
        ipa
    }

    fn destroy_child(
        &self,
        pa: Pa,
        level: Level,
        ipa: Ipa,
        kept: &mut Retired,
        sink: &mut impl FnMut(Unmapped),
    ) {
        let Some(meta) = self.env().frames().table_meta(pa) else {
            return;
        };
        if !meta.is_table_of(self.owner(), level) {
            return;
        }
        self.destroy_table(pa, level, ipa, kept, sink);
        self.end_table(pa);
        self.free_table(pa);
        self.env().cpus().cond_resched();
    }
}
