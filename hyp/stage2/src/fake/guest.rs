//! The guest's accesses, as the hardware makes them: by a cached translation if there is one, and
//! by a walk if not.

use super::FakeMachine;
use super::walker::Walker;
use crate::addr::{Ipa, Level, Pa};
use crate::descriptor::Privilege;
use crate::env::Loaded;
use crate::fault::Access;
use crate::vmid::Vmid;

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

/// A VM on a CPU, until another one is loaded there.
pub struct Guest<'m> {
    machine: &'m FakeMachine,
    cpu: usize,
    loaded: Loaded,
}

impl<'m> Guest<'m> {
    pub(super) fn new(machine: &'m FakeMachine, cpu: usize, loaded: Loaded) -> Self {
        Self {
            machine,
            cpu,
            loaded,
        }
    }

    /// The VMID under which the VM runs on this CPU.
    pub fn vmid(&self) -> Vmid {
        self.loaded.vmid
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

    /// Loads from the page at `ipa` and stores to it, as a walk of the guest's own tables does that
    /// sets a flag.
    pub fn update(&self, ipa: Ipa, value: u64) -> Result<(), Fault> {
        self.access(ipa, Access::Update, |pa| self.machine.data.write(pa, value))
    }

    /// Walks the tables from the root for `ipa`, as the hardware may at any time, and caches what
    /// is found.
    pub fn prefetch(&self, ipa: Ipa) {
        // What the walk ends in is of no consequence: nobody made an access.
        let _ = self.walker().walk(ipa, false);
    }

    fn walker(&self) -> Walker<'m> {
        Walker::with(self.machine, self.cpu, self.loaded)
    }

    fn access<T>(
        &self,
        ipa: Ipa,
        access: Access,
        effect: impl FnOnce(Pa) -> T,
    ) -> Result<T, Fault> {
        let ipa = ipa.align_down(Level::L3);
        let mut walker = self.walker();
        let leaf = walker.translate(ipa)?;
        if !walker.allows(leaf, access) {
            return Err(Fault::Permission(leaf.level));
        }
        Ok(effect(leaf.translate(ipa)))
    }
}
