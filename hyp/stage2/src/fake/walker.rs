//! The walker of a CPU: the hardware that reads tables, fills TLBs and marks entries.
//!
//! A walk can happen at any moment, for any address, in whatever tables VTTBR_EL2 has loaded, with
//! a translation cached or not. It begins at the root or at any table that the walk cache has, and
//! finds of each entry what [`Walks`] says. It has hardware management of access flag and dirty
//! state if the machine has: both are set by an exchange in the entry's memory, the access flag
//! also where nobody made an access.

use super::frames::FakeTableRef;
use super::guest::Fault;
#[cfg(any(loom, shuttle))]
use super::memory::View;
use super::tlb::{Cached, CpuTlb, Place, Use};
use super::{FakeMachine, Walks};
use crate::addr::{Ipa, IpaRange, Level, PAGE_SHIFT, Pa};
use crate::descriptor::{Descriptor, EntryKind};
use crate::env::{Loaded, TableFrame, TableWindow};
use crate::fault::Access;
use crate::sync::{Entry, LockGuard, Ordering, fence};

/// DBM: the hardware may mark the page as written.
const DBM: u64 = 1 << 51;

/// A CPU's walker at work. As long as it is, no invalidation reaches the CPU.
pub(super) struct Walker<'m> {
    machine: &'m FakeMachine,
    loaded: Loaded,
    cpu: usize,
    tlb: LockGuard<'m, CpuTlb>,
}

impl<'m> Walker<'m> {
    /// Has the CPU walk in these tables, which must be what it has loaded.
    pub(super) fn with(machine: &'m FakeMachine, cpu: usize, loaded: Loaded) -> Self {
        let tlb = machine.tlb.of(cpu);
        assert_eq!(
            machine.tlb.loaded(cpu),
            Some(loaded),
            "another VM was loaded onto CPU {cpu}"
        );
        Self {
            machine,
            loaded,
            cpu,
            tlb,
        }
    }

    /// Has the CPU walk in what it has loaded, or had before, if that is anything.
    pub(super) fn of(machine: &'m FakeMachine, cpu: usize) -> Option<Self> {
        let tlb = machine.tlb.of(cpu);
        machine.tlb.walked(cpu).map(|loaded| Self {
            machine,
            loaded,
            cpu,
            tlb,
        })
    }

    /// The translation of `ipa`: a cached one, or what a walk finds.
    pub(super) fn translate(&mut self, ipa: Ipa) -> Result<Cached, Fault> {
        match self.tlb.leaf(self.loaded.vmid, ipa) {
            Some(cached) => Ok(cached),
            None => self.walk(ipa, true),
        }
    }

    /// Walks for `ipa` and caches what is found, whatever is cached; from a table of the walk cache
    /// only if `partial`.
    pub(super) fn walk(&mut self, ipa: Ipa, partial: bool) -> Result<Cached, Fault> {
        let geometry = self.machine.geometry();
        let start = geometry.start();
        let root = geometry
            .root_index(ipa)
            .map(|index| self.loaded.root.offset(index << PAGE_SHIFT))
            .ok_or(Fault::Translation(start))?;
        let frames = &self.machine.frames;
        match self.beginning(ipa, partial) {
            Some((level, table, life)) => {
                self.walk_tables(ipa, frames.table_in(table, life), level)
            }
            None => self.walk_tables(ipa, frames.table(TableFrame::at(root)), start),
        }
    }

    /// The table of the walk cache, with its level and its life, at which a walk begins; none for
    /// the root.
    fn beginning(&self, ipa: Ipa, partial: bool) -> Option<(Level, Pa, u64)> {
        if !partial {
            return None;
        }
        let mut tables: Vec<_> = self.tlb.tables(self.loaded.vmid, ipa).collect();
        tables.sort_by_key(|cached| cached.level);
        let chosen = match self.machine.setup.walks {
            // The one that shortens the walk most.
            Walks::Newest | Walks::Oldest | Walks::OldestLeaves => tables.len(),
            Walks::Any => choose(tables.len() + 1),
        };
        let cached = tables.get(chosen.checked_sub(1)?)?;
        let Use::Table(life) = cached.usage else {
            return None;
        };
        Some((cached.level.next()?, cached.descriptor.output(), life))
    }

    fn walk_tables(
        &mut self,
        ipa: Ipa,
        mut table: FakeTableRef<'m>,
        mut level: Level,
    ) -> Result<Cached, Fault> {
        let mut reading = Reading::begin(self.machine, self.cpu);
        loop {
            let index = ipa.index(level);
            let descriptor = Descriptor::from_bits(reading.read(&table, index, level));
            let found = |descriptor, usage| Cached {
                vmid: self.loaded.vmid,
                range: IpaRange::entry(ipa, level),
                level,
                descriptor,
                usage,
            };
            match (descriptor.kind(level), level.next()) {
                (EntryKind::Leaf(_), _) => {
                    let place = Place {
                        table: table.pa(),
                        life: table.life(),
                        index,
                    };
                    let descriptor = self.accessed(place, descriptor, level)?;
                    let leaf = found(descriptor, Use::Leaf(place));
                    self.learn(leaf);
                    return Ok(leaf);
                }
                (EntryKind::Table(pa), Some(_)) if !self.machine.frames.contains(pa) => {
                    return Err(Fault::External(level));
                }
                (EntryKind::Table(pa), Some(next)) => {
                    let child = self.machine.frames.table(TableFrame::at(pa));
                    let cached = found(descriptor, Use::Table(child.life()));
                    self.learn(cached);
                    table = child;
                    level = next;
                }
                _ => return Err(Fault::Translation(level)),
            }
        }
    }

    fn learn(&mut self, new: Cached) {
        self.tlb.learn(new, self.machine.setup.direct_size_change);
    }

    /// The leaf with its access flag set; the hardware caches no other.
    fn accessed(&self, place: Place, leaf: Descriptor, level: Level) -> Result<Descriptor, Fault> {
        if leaf.is_accessed() {
            return Ok(leaf);
        }
        let same = |now: Descriptor| {
            matches!(now.kind(level), EntryKind::Leaf(_)) && now.output() == leaf.output()
        };
        self.mark(place, false, same)
            .ok_or(Fault::AccessFlag(level))
    }

    /// Whether the leaf allows the access, perhaps after the hardware has marked it as written.
    pub(super) fn allows(&mut self, leaf: Cached, access: Access) -> bool {
        let descriptor = leaf.descriptor;
        match access {
            Access::Read => descriptor.rights().read,
            Access::Execute(level) => descriptor.rights().execute.allows(level),
            Access::Update if !descriptor.rights().read => false,
            Access::Write | Access::Update => {
                descriptor.lets_stores_through() || self.mark_written(leaf)
            }
        }
    }

    fn mark_written(&mut self, leaf: Cached) -> bool {
        let Use::Leaf(place) = leaf.usage else {
            return false;
        };
        // The mark is made in memory, and only in what is still the same leaf there.
        let found = self.mark(place, true, |now| {
            now.bits() & DBM != 0
                && now.output() == leaf.descriptor.output()
                && matches!(now.kind(leaf.level), EntryKind::Leaf(_))
        });
        let Some(descriptor) = found else {
            return false;
        };
        self.learn(Cached { descriptor, ..leaf });
        true
    }

    /// Marks a leaf in memory as used, as long as it is `suitable`, and returns what it is then.
    fn mark(
        &self,
        place: Place,
        written: bool,
        suitable: impl Fn(Descriptor) -> bool,
    ) -> Option<Descriptor> {
        if !self.machine.setup.hardware_dirty {
            return None;
        }
        let table = self.machine.frames.table_in(place.table, place.life);
        let entry = &table.entries[place.index];
        let mut old = entry.load(Ordering::Acquire);
        loop {
            let now = Descriptor::from_bits(old);
            if !suitable(now) {
                return None;
            }
            let marked = now.used(written);
            match exchange(entry, old, marked.bits()) {
                Ok(_) => return Some(marked),
                Err(seen) => old = seen,
            }
        }
    }
}

#[cfg(any(loom, shuttle))]
fn exchange(entry: &Entry, old: u64, new: u64) -> Result<u64, u64> {
    entry.mark(old, new)
}

#[cfg(not(any(loom, shuttle)))]
fn exchange(entry: &Entry, old: u64, new: u64) -> Result<u64, u64> {
    entry.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
}

/// A number below `count`, at random where schedules are; else the last.
fn choose(count: usize) -> usize {
    #[cfg(shuttle)]
    {
        use shuttle::rand::Rng;
        shuttle::rand::thread_rng().gen_range(0..count)
    }
    #[cfg(not(shuttle))]
    {
        count - 1
    }
}

/// One walk's reading of entries.
struct Reading {
    /// What a walker that may be late knows, and what it finds of an entry.
    #[cfg(any(loom, shuttle))]
    late: Option<(View, Walks)>,
}

impl Reading {
    fn begin(_machine: &FakeMachine, _cpu: usize) -> Self {
        // Pairs with `Tlb::publish`: a walk that begins after it sees what was stored before it.
        fence(Ordering::SeqCst);
        Self {
            #[cfg(any(loom, shuttle))]
            late: _machine
                .tlb
                .view(_cpu)
                .map(|view| (view, _machine.setup.walks)),
        }
    }

    fn read(&mut self, table: &FakeTableRef<'_>, index: usize, _level: Level) -> u64 {
        #[cfg(any(loom, shuttle))]
        if let Some((view, walks)) = &mut self.late {
            return table.entry(index).walk(view, |count| match walks {
                Walks::Newest => count - 1,
                Walks::OldestLeaves if _level != Level::L3 => count - 1,
                Walks::Oldest | Walks::OldestLeaves => 0,
                Walks::Any => choose(count),
            });
        }
        // Acquire: the walk depends on the address of the next table.
        table.entries[index].load(Ordering::Acquire)
    }
}
