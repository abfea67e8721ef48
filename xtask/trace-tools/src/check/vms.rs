//! VMs, their VMIDs, and which CPUs can translate with their tables.

use std::collections::{BTreeMap, BTreeSet};

use super::cpus::{Cpu, Cpus};

/// What TLBs may hold of a VM under one of the VMIDs that it has had.
#[derive(Clone, Copy, Debug, Default)]
struct Tag {
    /// When a CPU last had the VM's root under it, in the order.
    last_used: u64,
    /// When an invalidation of all of it began, which is complete.
    emptied: u64,
}

/// An invalidation of a VMID, or of all, that is not complete.
#[derive(Clone, Copy, Debug)]
struct Emptying {
    cpu: u8,
    vmid: Option<u16>,
    /// When it began, in the order.
    order: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No DSB has followed the TLBI.
    Tlbs,
    /// The instruction caches have to be emptied.
    Between,
    /// No DSB has followed that.
    Fetches,
}

#[derive(Debug, Default)]
pub(super) struct Vms {
    /// By VM and VMID.
    tags: BTreeMap<(u8, u16), Tag>,
    /// The VMID under which each VM ran last.
    current: BTreeMap<u8, u16>,
    /// VMs whose trees have ended.
    over: BTreeSet<u8>,
    pub(super) cpus: Cpus,
    /// What was fetched by instruction caches has to be forgotten as well.
    pub(super) fetches: bool,
    emptying: Vec<Emptying>,
    /// Which VM found what another had left under which VMID: once is enough.
    told: BTreeSet<(u8, u8, u16)>,
}

impl Vms {
    /// The VMID under which the VM ran last: that by which it is invalidated.
    pub(super) fn current(&self, vm: u8) -> Option<u16> {
        self.current.get(&vm).copied()
    }

    /// The VMIDs under which TLBs may hold translations of the VM, or a CPU may make some.
    pub(super) fn cached(&self, vm: u8) -> impl Iterator<Item = u16> {
        let tags = self.tags.range((vm, 0)..=(vm, u16::MAX));
        let tags = tags.filter(|&(&key, tag)| self.may_be_cached(key, tag));
        tags.map(|(&(_, vmid), _)| vmid)
    }

    fn may_be_cached(&self, (vm, vmid): (u8, u16), tag: &Tag) -> bool {
        let loaded = |cpu: &Cpu| cpu.vmid() == vmid;
        tag.emptied <= tag.last_used || self.cpus.running(vm, loaded).is_some()
    }

    /// A CPU takes a value for its VTTBR_EL2, with this VMID; `vm` is the one whose root that is.
    pub(super) fn load(
        &mut self,
        cpu: u8,
        vmid: u16,
        vm: Option<u8>,
        order: u64,
    ) -> Result<(), String> {
        let before = self.cpus.get(cpu);
        let left = before.vm.map(|vm| (vm, before.vmid()));
        let taken = vm.map(|vm| (vm, vmid));
        // What was cached under a number that was another's is looked for before it is this one's.
        let result = vm.map_or(Ok(()), |vm| self.take_vmid(cpu, vm, vmid));
        for used in [left, taken].into_iter().flatten() {
            self.tags.entry(used).or_default().last_used = order;
        }
        result
    }

    fn take_vmid(&mut self, cpu: u8, vm: u8, vmid: u16) -> Result<(), String> {
        if self.over.contains(&vm) {
            return Err(format!("vm{vm} is loaded, and its tables were taken down"));
        }
        if vmid == 0 {
            return Err(format!("vm{vm} is loaded with VMID 0"));
        }
        // What is invalidated for one of two would not be for the other.
        let apart = |other: &Cpu| other.vmid() != vmid;
        if let Some(other) = self.cpus.running(vm, apart).filter(|&other| other != cpu) {
            return Err(format!(
                "vm{vm} is loaded with VMID {vmid}, and cpu{other} has it with another"
            ));
        }
        self.current.insert(vm, vmid);
        let others = |&(&key, tag): &(&(u8, u16), &Tag)| {
            key.1 == vmid && key.0 != vm && self.may_be_cached(key, tag)
        };
        let other = self.tags.iter().find(others).map(|(&(other, _), _)| other);
        match other {
            Some(other) if self.told.insert((vm, other, vmid)) => Err(format!(
                "vm{vm} is loaded with VMID {vmid}, under which translations of vm{other} may be cached"
            )),
            _ => Ok(()),
        }
    }

    /// A CPU begins to empty the TLBs of a VMID, or of all.
    pub(super) fn empty(&mut self, cpu: u8, vmid: Option<u16>, order: u64) {
        let stage = Stage::Tlbs;
        self.emptying.push(Emptying {
            cpu,
            vmid,
            order,
            stage,
        });
    }

    /// A CPU begins to empty the instruction caches.
    pub(super) fn forget_fetches(&mut self, cpu: u8) {
        for emptying in &mut self.emptying {
            if emptying.cpu == cpu && emptying.stage == Stage::Between {
                emptying.stage = Stage::Fetches;
            }
        }
    }

    /// A CPU has executed `dsb ish`.
    pub(super) fn complete(&mut self, cpu: u8) {
        let (fetches, tags) = (self.fetches, &mut self.tags);
        self.emptying.retain_mut(|emptying| {
            match emptying.stage {
                _ if emptying.cpu != cpu => return true,
                Stage::Tlbs if fetches => emptying.stage = Stage::Between,
                Stage::Between => {}
                Stage::Tlbs | Stage::Fetches => {
                    for (&(_, vmid), tag) in tags.iter_mut() {
                        if emptying.vmid.is_none_or(|emptied| emptied == vmid) {
                            tag.emptied = tag.emptied.max(emptying.order);
                        }
                    }
                    return false;
                }
            }
            true
        });
    }

    /// The VM's tables are about to be taken down. Says how a translation by them is still
    /// possible, if one is.
    pub(super) fn end(&mut self, vm: u8) -> Option<String> {
        let running = self.cpus.running(vm, |_| true);
        let how = running.map(|cpu| format!("cpu{cpu} can walk to them"));
        let how = how.or_else(|| {
            let vmid = self.cached(vm).next()?;
            Some(format!("TLBs may hold some of it under VMID {vmid}"))
        });
        self.tags.retain(|&(other, _), _| other != vm);
        self.current.remove(&vm);
        self.over.insert(vm);
        how
    }

    /// Whether the VM's tables are being taken down.
    pub(super) fn is_over(&self, vm: u8) -> bool {
        self.over.contains(&vm)
    }

    /// The VM has tables.
    pub(super) fn begin(&mut self, vm: u8) {
        self.over.remove(&vm);
    }
}
