//! The guest's accesses, as the hardware makes them.
//!
//! An access uses a cached translation if there is one, and walks the tables if not, from the deepest
//! cached table descriptor on. It has hardware management of access flag and dirty state if the
//! machine has. A walk can happen at any time, for any address, with a translation cached or not:
//! that is [`Guest::prefetch`].

use super::FakeMachine;
use super::frames::FakeTableRef;
use super::tlb::{Cached, CpuTlb, Place, Use};
use crate::addr::{Ipa, IpaRange, Level, PAGE_SHIFT, Pa};
use crate::descriptor::{Descriptor, Kind, Privilege};
use crate::env::{Environment, TableFrame, Window};
use crate::fault::Access;
use crate::geometry::Geometry;
use crate::stage2::Stage2;
use crate::sync::{Ordering, fence};
use crate::vmid::Vmid;

/// DBM: the hardware may mark the page as written.
const DBM: u64 = 1 << 51;

/// Why an access did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No valid descriptor at this level, or (for the root's level) the address is too large.
    Translation(Level),
    /// The access flag is clear, and the hardware does not set it.
    AccessFlag(Level),
    /// The leaf does not allow the access, or not yet.
    Permission(Level),
    /// The walk was sent to an address where no memory for tables is.
    External(Level),
}

/// A VM on a CPU: what VTTBR_EL2 and VTCR_EL2 hold while it runs.
pub struct Guest<'m> {
    machine: &'m FakeMachine,
    cpu: usize,
    vmid: Vmid,
    root: Pa,
    geometry: Geometry,
}

impl<'m> Guest<'m> {
    pub(super) fn new<E: Environment>(
        machine: &'m FakeMachine,
        cpu: usize,
        vmid: Vmid,
        stage2: &Stage2<E>,
    ) -> Self {
        Self {
            machine,
            cpu,
            vmid,
            root: stage2.root(),
            geometry: stage2.geometry(),
        }
    }

    /// The VMID under which the VM runs on this CPU.
    pub fn vmid(&self) -> Vmid {
        self.vmid
    }

    /// Loads from the page at `ipa`.
    pub fn read(&self, ipa: Ipa) -> Result<u64, Fault> {
        self.access(ipa, Access::Read, |pa| self.machine.data.read(pa))
    }

    /// Stores to the page at `ipa`.
    pub fn write(&self, ipa: Ipa, value: u64) -> Result<(), Fault> {
        self.access(ipa, Access::Write, |pa| self.machine.data.write(pa, value))
    }

    /// Fetches an instruction from the page at `ipa`, at EL1.
    pub fn fetch(&self, ipa: Ipa) -> Result<u64, Fault> {
        self.fetch_at(ipa, Privilege::Kernel)
    }

    /// Fetches an instruction from the page at `ipa`, at this exception level.
    pub fn fetch_at(&self, ipa: Ipa, level: Privilege) -> Result<u64, Fault> {
        self.access(ipa, Access::Execute(level), |pa| self.machine.data.read(pa))
    }

    /// Loads from the page at `ipa` and stores to it, as a walk of the guest's own tables does that sets a flag.
    pub fn update(&self, ipa: Ipa, value: u64) -> Result<(), Fault> {
        self.access(ipa, Access::Update, |pa| self.machine.data.write(pa, value))
    }

    /// Walks the tables from the root for `ipa`, as the hardware may at any time, and caches what is found.
    pub fn prefetch(&self, ipa: Ipa) {
        let mut tlb = self.machine.tlb.of(self.cpu);
        // What the walk ends in is of no consequence: nobody made an access.
        let _ = self.walk_from_root(&mut tlb, ipa);
    }

    fn access<T>(
        &self,
        ipa: Ipa,
        access: Access,
        effect: impl FnOnce(Pa) -> T,
    ) -> Result<T, Fault> {
        let ipa = ipa.align_down(Level::L3);
        let mut tlb = self.machine.tlb.of(self.cpu);
        let leaf = match tlb.leaf(self.vmid, ipa) {
            Some(cached) => cached,
            None => self.walk(&mut tlb, ipa)?,
        };
        if !self.allows(&mut tlb, leaf, access) {
            return Err(Fault::Permission(leaf.level));
        }
        Ok(effect(leaf.translate(ipa)))
    }

    /// Whether the leaf allows the access, perhaps after the hardware has marked it as written.
    fn allows(&self, tlb: &mut CpuTlb, leaf: Cached, access: Access) -> bool {
        let descriptor = leaf.descriptor;
        match access {
            Access::Read => descriptor.rights().read,
            Access::Execute(level) => descriptor.rights().execute.allows(level),
            Access::Update if !descriptor.rights().read => false,
            Access::Write | Access::Update => {
                descriptor.lets_stores_through() || self.mark_written(tlb, leaf)
            }
        }
    }

    fn mark_written(&self, tlb: &mut CpuTlb, leaf: Cached) -> bool {
        let Use::Leaf(place) = leaf.usage else {
            return false;
        };
        // The mark is made in memory, and only in what is still the same leaf there.
        let found = self.mark(place, true, |now| {
            now.bits() & DBM != 0
                && now.output() == leaf.descriptor.output()
                && matches!(now.kind(leaf.level), Kind::Leaf(_))
        });
        let Some(descriptor) = found else {
            return false;
        };
        self.learn(tlb, Cached { descriptor, ..leaf });
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
            let exchange =
                entry.compare_exchange(old, marked.bits(), Ordering::AcqRel, Ordering::Acquire);
            match exchange {
                Ok(_) => return Some(marked),
                Err(seen) => old = seen,
            }
        }
    }

    fn learn(&self, tlb: &mut CpuTlb, new: Cached) {
        tlb.learn(new, self.machine.setup.direct_size_change);
    }

    /// Walks from the deepest table that the walk cache has for `ipa`.
    fn walk(&self, tlb: &mut CpuTlb, ipa: Ipa) -> Result<Cached, Fault> {
        let Some(cached) = tlb.deepest_table(self.vmid, ipa) else {
            return self.walk_from_root(tlb, ipa);
        };
        let (Use::Table(life), Some(level)) = (cached.usage, cached.level.next()) else {
            return Err(Fault::Translation(cached.level));
        };
        let table = self
            .machine
            .frames
            .table_in(cached.descriptor.output(), life);
        self.walk_tables(tlb, ipa, table, level)
    }

    fn walk_from_root(&self, tlb: &mut CpuTlb, ipa: Ipa) -> Result<Cached, Fault> {
        let start = self.geometry.start();
        let index = self
            .geometry
            .root_index(ipa)
            .ok_or(Fault::Translation(start))?;
        let root = self.root.offset(index << PAGE_SHIFT);
        self.walk_tables(
            tlb,
            ipa,
            self.machine.frames.table(TableFrame::at(root)),
            start,
        )
    }

    fn walk_tables(
        &self,
        tlb: &mut CpuTlb,
        ipa: Ipa,
        mut table: FakeTableRef<'m>,
        mut level: Level,
    ) -> Result<Cached, Fault> {
        // Pairs with `Tlb::publish`: a walk that begins after it sees what was stored before it.
        fence(Ordering::SeqCst);
        loop {
            let index = ipa.index(level);
            // Acquire: the walk depends on the address of the next table.
            let bits = table.entries[index].load(Ordering::Acquire);
            let found = |descriptor, usage| Cached {
                vmid: self.vmid,
                range: IpaRange::entry(ipa, level),
                level,
                descriptor,
                usage,
            };
            let descriptor = Descriptor::from_bits(bits);
            match (descriptor.kind(level), level.next()) {
                (Kind::Leaf(_), _) => {
                    let place = Place {
                        table: table.pa(),
                        life: table.life(),
                        index,
                    };
                    let descriptor = self.accessed(place, descriptor, level)?;
                    let leaf = found(descriptor, Use::Leaf(place));
                    self.learn(tlb, leaf);
                    return Ok(leaf);
                }
                (Kind::Table(pa), Some(_)) if !self.machine.frames.contains(pa) => {
                    return Err(Fault::External(level));
                }
                (Kind::Table(pa), Some(next)) => {
                    let child = self.machine.frames.table(TableFrame::at(pa));
                    self.learn(tlb, found(descriptor, Use::Table(child.life())));
                    table = child;
                    level = next;
                }
                _ => return Err(Fault::Translation(level)),
            }
        }
    }

    /// The leaf with its access flag set; the hardware caches no other.
    fn accessed(&self, place: Place, leaf: Descriptor, level: Level) -> Result<Descriptor, Fault> {
        if leaf.is_accessed() {
            return Ok(leaf);
        }
        let same = |now: Descriptor| {
            matches!(now.kind(level), Kind::Leaf(_)) && now.output() == leaf.output()
        };
        self.mark(place, false, same)
            .ok_or(Fault::AccessFlag(level))
    }
}
