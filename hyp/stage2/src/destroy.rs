//! The end of a VM's tables.

use crate::addr::{ENTRIES, Ipa, Level, PAGE_SHIFT, Pa};
use crate::descriptor::{Descriptor, Kind};
use crate::detached::memory;
use crate::env::{Cpus, Environment, Frames, Scope};
use crate::flush::Stale;
use crate::observe::Observation;
use crate::stage2::{Stage2, next_entry};
use crate::sync::Ordering;
use crate::unmap::Unmapped;

impl<E: Environment> Stage2<E> {
    /// Takes the tables down: invalidates everything, hands each leaf to `sink`, and frees all tables.
    ///
    /// It takes the value, so no vCPU thread, walker or compaction step that borrows it can still
    /// arrive. The caller sees to the hardware: no CPU has [`root`](Self::root) in VTTBR_EL2 any
    /// more, so that no speculative walk starts there.
    pub fn destroy(self, mut sink: impl FnMut(Unmapped)) {
        let everything = Stale {
            range: self.geometry().range(),
            scope: Scope::Tables,
        };
        let _ = self.flush(everything);
        let (start, order) = (self.geometry().start(), self.geometry().root_order());
        let mut ipa = Ipa::new(0);
        for index in 0..1u64 << order {
            let root = self.root().offset(index << PAGE_SHIFT);
            ipa = self.destroy_table(root, start, ipa, &mut sink);
        }
        self.free_root();
        // Marked blocks are gone, so nothing is promised any more: whatever is kept comes out.
        while let Some(pa) = self.deposit.take(self.env().frames()) {
            self.free_table(pa);
        }
    }

    /// Empties a table, frees those below it, and returns the address behind what it covered.
    fn destroy_table(
        &self,
        table: Pa,
        level: Level,
        first: Ipa,
        sink: &mut impl FnMut(Unmapped),
    ) -> Ipa {
        let mut ipa = first;
        for index in 0..ENTRIES {
            let bits = memory(self, table).entries[index].load(Ordering::Relaxed);
            let descriptor = Descriptor::from_bits(bits);
            match (descriptor.kind(level), level.next()) {
                (Kind::Leaf(_), _) => sink(Unmapped {
                    ipa,
                    level,
                    descriptor,
                }),
                (Kind::Table(child), Some(next)) => self.destroy_child(child, next, ipa, sink),
                _ => {}
            }
            ipa = next_entry(ipa, level);
        }
        ipa
    }

    fn destroy_child(&self, pa: Pa, level: Level, ipa: Ipa, sink: &mut impl FnMut(Unmapped)) {
        let Some(meta) = self.env().frames().table_meta(pa) else {
            return;
        };
        if !meta.is_table_of(self.owner(), level) {
            return;
        }
        self.destroy_table(pa, level, ipa, sink);
        meta.cease_to_be_table();
        self.tell_checker(|order| Observation::TableEnded { order, table: pa });
        self.free_table(pa);
        self.env().cpus().give_way();
    }
}
