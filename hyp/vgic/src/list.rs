//! Putting interrupts into a vCPU's list registers, and taking them back.
//!
//! There are fewer list registers than interrupts, so the most urgent go first. If more are
//! pending than fit, the hardware tells when the registers have no pending one any more; by then
//! the guest has taken only such as are more urgent than those left out. Those of a group that the
//! vCPU does not let through come last, however urgent; the hardware tells when it lets a group
//! through of which some were left out, or one no longer that has taken others' places.
//!
//! The most urgent pending one always gets a register, even if active ones could fill them all,
//! since it may pre-empt these. So an active one can be left out: `end` says what becomes of it.

use arrayvec::ArrayVec;

use super::block::Block;
use super::candidate::Candidate;
use super::list_register::{End, ListRegister, is_active, is_pending};
use super::slot::Slot;
use super::{BLOCK, HARDWARE, INTERRUPTS, NOBODY, VcpuSet, Vgic};
use speculation::masked::Masked;

/// The most list registers that the architecture has room for.
pub const MAX_LIST_REGISTERS: usize = 16;

/// What was put into the list registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// How many were used, from the first.
    pub used: usize,
    /// Pending ones were left out that the vCPU lets through: a maintenance interrupt is wanted
    /// when no pending one is listed, and when the vCPU lets one of two groups no longer through.
    pub more_pending: bool,
    /// The groups (bit 0 for Group 0, bit 1 for Group 1) that the vCPU does not let through and of
    /// which pending ones were left out: a maintenance interrupt is wanted when it does.
    pub held_back: u32,
    /// Active ones were left out: a maintenance interrupt is wanted when the guest ends one.
    pub more_active: bool,
}

impl Listing {
    /// Nothing was listed.
    pub const EMPTY: Self = Self {
        used: 0,
        more_pending: false,
        held_back: 0,
        more_active: false,
    };
}

/// What taking interrupts back from the list registers led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// Other vCPUs that are concerned: an interrupt is theirs now.
    pub others: VcpuSet,
    /// The hardware interrupts, by INTID, that the CPU's own interrupt controller has to
    /// deactivate: nothing in the guest will.
    pub release: u32,
    /// There are hardware interrupts that stay active there.
    pub forwarded: bool,
}

type Candidates = ArrayVec<Candidate, { INTERRUPTS as usize }>;

impl Vgic {
    /// Takes back what is listed of `vcpu`. `registers` are the values of its list registers,
    /// `ended` says how often the guest ended an interrupt that was in none (`None` if it ends them
    /// by their numbers), and `lines` are the levels of the vCPU's hardware interrupts, by INTID.
    pub fn unlist(
        &mut self,
        vcpu: usize,
        registers: &[u64],
        ended: Option<u32>,
        lines: u32,
    ) -> Unlisted {
        let mut others = VcpuSet::EMPTY;
        let Some(private) = self.private.get_mut(vcpu) else {
            return Unlisted {
                others,
                release: 0,
                forwarded: false,
            };
        };
        let slots = core::mem::take(&mut private.slots);
        for _ in 0..ended.unwrap_or(0) {
            others = others.union(self.end_most_urgent(vcpu));
        }
        for (slot, &register) in slots.iter().zip(registers) {
            others = others.union(self.take_back(vcpu, slot, register));
        }
        if ended.is_none() {
            // No end of these will be counted.
            self.reset_interface(vcpu);
        }
        let private = &mut self.private[vcpu];
        let block = &mut private.block;
        block.set_lines(HARDWARE & !lines, false);
        block.set_lines(HARDWARE & lines, true);
        let release = private.forwarded & !block.line & !block.active;
        private.forwarded &= !release;
        Unlisted {
            others: others.without(vcpu),
            release,
            forwarded: private.forwarded != 0,
        }
    }

    /// The vCPU leaves its CPU. Returns the hardware interrupts, by INTID, that the CPU's own
    /// interrupt controller has to deactivate. Only while nothing of it is listed.
    pub fn leave_cpu(&mut self, vcpu: usize) -> u32 {
        let private = self.private.get_mut(vcpu);
        private.map_or(0, |private| core::mem::take(&mut private.forwarded))
    }

    /// Fills the list registers of `vcpu`, nothing of which may be listed. Those that are not used
    /// are left alone. `groups` are those that the vCPU lets through (bit 0 for Group 0, bit 1 for
    /// Group 1).
    pub fn list(&mut self, vcpu: usize, registers: &mut [u64], groups: u32) -> Listing {
        let (mut pending, mut active) = (Candidates::new(), Candidates::new());
        self.each_candidate(vcpu, |candidate| {
            let list = if candidate.active {
                &mut active
            } else {
                &mut pending
            };
            // There is room for all interrupts.
            let _ = list.try_push(candidate);
        });
        let is_held_back = |candidate: &Candidate| candidate.group() & groups == 0;
        pending.sort_unstable_by_key(|candidate| (is_held_back(candidate), candidate.urgency()));
        // What the guest did not take it is not about to end.
        active.sort_unstable_by_key(|candidate| (!candidate.taken, candidate.urgency()));

        let room = registers.len().min(MAX_LIST_REGISTERS);
        let first = pending.len().min(1).min(room);
        let actives = active.len().min(room - first);
        let (listed, left_out) = pending.split_at(pending.len().min(room - actives));
        let more_pending = left_out.first().is_some_and(|first| !is_held_back(first));
        let held_back = left_out.iter().filter(|candidate| is_held_back(candidate));
        let held_back = held_back.fold(0, |groups, candidate| groups | candidate.group());
        let mut used = 0;
        for (register, candidate) in registers
            .iter_mut()
            .zip(listed.iter().chain(&active[..actives]))
        {
            // When an active one ends, its pending half must not get ahead of those that are left
            // out.
            let wait = more_pending && candidate.active && candidate.pending;
            *register = self.put(
                vcpu,
                if wait {
                    candidate.ended_first()
                } else {
                    *candidate
                },
            );
            used += 1;
        }
        Listing {
            used,
            more_pending,
            held_back,
            more_active: actives < active.len(),
        }
    }

    /// Takes one interrupt back. Returns the vCPU that is to be told of it.
    fn take_back(&mut self, vcpu: usize, slot: &Slot, register: u64) -> VcpuSet {
        let Some(block) = self.block_mut(vcpu, slot.intid) else {
            return VcpuSet::EMPTY;
        };
        let bit = bit_of(slot.intid);
        let outlived = block.take_back(slot, register);
        let still_active = block.active & bit != 0;
        let private = &mut self.private[vcpu];
        private.outlive(outlived);
        if slot.hardware && !is_active(register) && !is_pending(register) {
            // The guest has ended it, and the hardware the CPU's own with it.
            private.forwarded &= !bit;
        }
        if !still_active {
            self.set_holder(slot.intid, NOBODY);
        }
        self.recipient(slot.intid)
    }

    /// The vCPU that a shared interrupt is routed to, if it is to be told of it: while another one
    /// has it active it is not, or two such vCPUs would have each other look again for ever.
    pub(super) fn recipient(&self, intid: u32) -> VcpuSet {
        let index = (intid / BLOCK) as usize;
        let shared = index
            .checked_sub(1)
            .and_then(|index| self.shared.get_masked(index));
        let Some(block) = shared.map(|shared| &shared.block) else {
            return VcpuSet::EMPTY;
        };
        let deliverable = block.deliverable(block.pending(), self.control);
        self.concerned(index, deliverable & bit_of(intid))
    }

    /// Marks an interrupt as listed and returns the list register's value.
    fn put(&mut self, vcpu: usize, candidate: Candidate) -> u64 {
        let intid = candidate.intid;
        if let Some(block) = self.block_mut(vcpu, intid) {
            block.give(bit_of(intid), candidate.latched, candidate.pending);
        }
        self.set_holder(intid, vcpu as u8);
        // `list` hands out no more slots than there are.
        let _ = self.private[vcpu].slots.try_push(Slot {
            intid,
            latched: candidate.latched,
            active: candidate.active,
            hardware: matches!(candidate.end, End::Hardware(_)),
        });
        ListRegister {
            intid,
            priority: candidate.priority,
            group1: candidate.group1,
            pending: candidate.pending,
            active: candidate.active,
            end: candidate.end,
        }
        .encode()
    }

    pub(super) fn block_mut(&mut self, vcpu: usize, intid: u32) -> Option<&mut Block> {
        match (intid / BLOCK).checked_sub(1) {
            None => self.private.get_mut(vcpu).map(|own| &mut own.block),
            Some(index) => {
                let shared = self.shared.get_masked_mut(index as usize);
                shared.map(|shared| &mut shared.block)
            }
        }
    }

    pub(super) fn set_holder(&mut self, intid: u32, holder: u8) {
        let index = (intid / BLOCK).checked_sub(1);
        if let Some(shared) = index.and_then(|index| self.shared.get_masked_mut(index as usize)) {
            shared.holder[(intid % BLOCK) as usize] = holder;
        }
    }
}

/// The bit of an interrupt in its block.
pub(super) const fn bit_of(intid: u32) -> u32 {
    1 << (intid % BLOCK)
}
