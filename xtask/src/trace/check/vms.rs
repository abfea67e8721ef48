//! VMs, their VMIDs, and which CPUs can translate with their tables.

use std::collections::{BTreeMap, HashMap};

use super::cpus::{Cpu, Cpus};
use super::tables::Leaf;

/// One VM.
#[derive(Debug, Default)]
pub(super) struct Vm {
    /// The VMID under which it ran last.
    pub(super) vmid: Option<u16>,
    /// When a CPU last had its root, in the order.
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
    pub(super) vms: BTreeMap<u8, Vm>,
    pub(super) cpus: Cpus,
    /// What was fetched by instruction caches has to be forgotten as well.
    pub(super) fetches: bool,
    emptying: Vec<Emptying>,
    owners: HashMap<u16, u8>,
    /// The VM that maps each frame, and how often.
    live: HashMap<u64, (u8, u32)>,
}

impl Vms {
    /// Whether no TLB can hold a translation of the VM, nor a CPU make one.
    pub(super) fn is_out(&self, vm: u8) -> bool {
        let known = self.vms.get(&vm);
        self.cpus.running(vm, |_| true).is_none()
            && known.is_none_or(|vm| vm.vmid.is_none() || vm.emptied > vm.last_used)
    }

    /// A CPU takes a value for its VTTBR_EL2, with this VMID; `vm` is the one whose root that is.
    pub(super) fn load(
        &mut self,
        cpu: u8,
        vmid: u16,
        vm: Option<u8>,
        order: u64,
    ) -> Result<(), String> {
        for used in [self.cpus.get(cpu).vm, vm].into_iter().flatten() {
            self.vms.entry(used).or_default().last_used = order;
        }
        vm.map_or(Ok(()), |vm| self.take_vmid(cpu, vm, vmid))
    }

    fn take_vmid(&mut self, cpu: u8, vm: u8, vmid: u16) -> Result<(), String> {
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
        let owner = self.owners.insert(vmid, vm);
        if let Some(other) = owner.filter(|&other| other != vm && !self.is_out(other)) {
            return Err(format!(
                "vm{vm} is loaded with VMID {vmid}, under which translations of vm{other} may be cached"
            ));
        }
        self.vms.entry(vm).or_default().vmid = Some(vmid);
        Ok(())
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
        let (fetches, vms) = (self.fetches, &mut self.vms);
        self.emptying.retain_mut(|emptying| {
            match emptying.stage {
                _ if emptying.cpu != cpu => return true,
                Stage::Tlbs if fetches => emptying.stage = Stage::Between,
                Stage::Between => {}
                Stage::Tlbs | Stage::Fetches => {
                    let mine = |vm: &Vm| emptying.vmid.is_none() || emptying.vmid == vm.vmid;
                    for vm in vms.values_mut().filter(|vm| mine(vm)) {
                        vm.emptied = vm.emptied.max(emptying.order);
                    }
                    return false;
                }
            }
            true
        });
    }

    /// The VM is gone; its number may be another's from now on.
    pub(super) fn forget(&mut self, vm: u8) {
        self.owners.retain(|_, owner| *owner != vm);
        self.live.retain(|_, (owner, _)| *owner != vm);
        self.vms.remove(&vm);
    }

    /// The VM, other than those that are out, that maps this frame.
    pub(super) fn maps(&self, frame: u64) -> Option<u8> {
        let (vm, _) = self.live.get(&frame)?;
        (!self.is_out(*vm)).then_some(*vm)
    }

    /// A leaf translates from now on.
    pub(super) fn map(&mut self, vm: u8, leaf: &Leaf) {
        for frame in leaf.frames() {
            let live = self.live.entry(frame).or_insert((vm, 0));
            if live.0 != vm {
                *live = (vm, 0);
            }
            live.1 += 1;
        }
    }

    /// A leaf translates no more.
    pub(super) fn unmap(&mut self, vm: u8, leaf: &Leaf) {
        for frame in leaf.frames() {
            if let Some(live) = self.live.get_mut(&frame)
                && live.0 == vm
            {
                live.1 -= 1;
                if live.1 == 0 {
                    self.live.remove(&frame);
                }
            }
        }
    }
}
