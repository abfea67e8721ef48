//! VMs, their VMIDs, and which CPUs can translate with their tables.

use std::collections::{BTreeMap, HashMap};

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

/// What a CPU has in its registers, and has done.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    pub(super) vttbr: u64,
    /// No ISB has followed the last write of VTTBR_EL2.
    pub(super) unsettled: bool,
    /// The VM whose root is in VTTBR_EL2.
    vm: Option<u8>,
    /// Tables whose locks it has, with their levels.
    pub(super) held: Vec<(u64, u8)>,
    /// Entries that it has made and no DSB has followed.
    pub(super) unpublished: Vec<u64>,
    /// Invalidations of a VMID, or of all, that no DSB has followed.
    emptying: Vec<(Option<u16>, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Vms {
    pub(super) vms: BTreeMap<u8, Vm>,
    pub(super) cpus: BTreeMap<u8, Cpu>,
    owners: HashMap<u16, u8>,
    /// The VM that maps each frame, and how often.
    live: HashMap<u64, (u8, u32)>,
}

impl Vms {
    pub(super) fn cpu(&mut self, cpu: u8) -> &mut Cpu {
        self.cpus.entry(cpu).or_default()
    }

    fn runs(&self, vm: u8) -> bool {
        self.cpus.values().any(|cpu| cpu.vm == Some(vm))
    }

    /// Whether no TLB can hold a translation of the VM, nor a CPU make one.
    pub(super) fn is_out(&self, vm: u8) -> bool {
        let known = self.vms.get(&vm);
        !self.runs(vm) && known.is_none_or(|vm| vm.vmid.is_none() || vm.emptied > vm.last_used)
    }

    /// A CPU takes this value for its VTTBR_EL2; `vm` is the one whose root that is.
    pub(super) fn load(
        &mut self,
        cpu: u8,
        vttbr: u64,
        vm: Option<u8>,
        order: u64,
    ) -> Result<(), String> {
        let before = self.cpu(cpu).vm;
        if let Some(before) = before {
            self.vms.entry(before).or_default().last_used = order;
        }
        let loaded = vm.map_or(Ok(()), |vm| self.take_vmid(vm, (vttbr >> 48) as u16));
        let state = self.cpu(cpu);
        (state.vttbr, state.vm, state.unsettled) = (vttbr, vm, true);
        if let Some(vm) = vm {
            self.vms.entry(vm).or_default().last_used = order;
        }
        loaded
    }

    fn take_vmid(&mut self, vm: u8, vmid: u16) -> Result<(), String> {
        if vmid == 0 {
            return Err(format!("vm{vm} is loaded with VMID 0"));
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
        self.cpu(cpu).emptying.push((vmid, order));
    }

    /// A CPU has executed `dsb ish`.
    pub(super) fn complete(&mut self, cpu: u8) {
        let done = std::mem::take(&mut self.cpu(cpu).emptying);
        for vm in self.vms.values_mut() {
            let mine = |vmid: Option<u16>| vmid.is_none() || vmid == vm.vmid;
            if let Some((_, order)) = done.iter().rev().find(|(vmid, _)| mine(*vmid)) {
                vm.emptied = vm.emptied.max(*order);
            }
        }
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
