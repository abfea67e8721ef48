//! How interrupts end.
//!
//! In EOImode 0 a guest ends the most urgent one first. If that is in a list register the hardware
//! sees to it. It goes by the priority and the group in which the guest took it, whatever these are
//! by now, and so do we. If it is in none, the hardware counts no more than that one has ended: the
//! most urgent of those that the vCPU handles and that are not listed. An interrupt that software
//! makes inactive while the guest handles it has its end counted too, which must end no other: it
//! is *outlived* by its priority.
//!
//! In EOImode 1 the guest ends any by its number, another vCPU's shared ones among them, which is
//! trapped. Nothing counts then.

use super::block::Register;
use super::list::bit_of;
use super::{BLOCK, NOBODY, Private, VcpuSet, Vgic, bits};

impl Private {
    /// It runs at this priority, if any, for an interrupt that is not active any more.
    pub(super) fn outlive(&mut self, priority: Option<u8>) {
        self.outlived |= priority.map_or(0, |priority| 1 << level(priority));
    }
}

impl Vgic {
    /// vCPU `vcpu`, which ends interrupts by their numbers, ends `intid`: one of its own or a
    /// shared one, whichever vCPU has taken that. Returns the vCPUs that are concerned.
    pub fn deactivate(&mut self, vcpu: usize, intid: u32) -> VcpuSet {
        let bit = bit_of(intid);
        match intid / BLOCK {
            0 => self.write_private(vcpu, Register::ClearActive, bit),
            index => self.write_shared(index as usize, Register::ClearActive, bit),
        }
    }

    /// The CPU interface of `vcpu` runs at no interrupt's priority any more, since it was reset.
    /// What is active stays so.
    pub fn reset_interface(&mut self, vcpu: usize) {
        for shared in &mut self.shared {
            let holds = |bit: &usize| usize::from(shared.holder[*bit]) == vcpu;
            let held = bits(shared.block.taken).filter(holds);
            shared.block.taken &= !held.fold(0, |mask, bit| mask | 1 << bit);
        }
        if let Some(private) = self.private.get_mut(vcpu) {
            private.block.taken = 0;
            private.outlived = 0;
        }
    }

    /// The guest has ended the most urgent of the interrupts that it handles and that are not
    /// listed. Returns the vCPUs that are concerned.
    pub(super) fn end_most_urgent(&mut self, vcpu: usize) -> VcpuSet {
        let mut most_urgent = None;
        self.each_candidate(vcpu, |candidate| {
            let urgency = candidate.urgency();
            if candidate.taken && most_urgent.is_none_or(|other| urgency < other) {
                most_urgent = Some(urgency);
            }
        });
        let outlived = &mut self.private[vcpu].outlived;
        let first_outlived = outlived.trailing_zeros();
        match most_urgent {
            Some((priority, intid)) if level(priority) < first_outlived => {
                if let Some(block) = self.block_mut(vcpu, intid) {
                    block.active &= !bit_of(intid);
                    block.taken &= !bit_of(intid);
                }
                self.set_holder(intid, NOBODY);
                self.recipient(intid)
            }
            _ => {
                *outlived &= outlived.wrapping_sub(1);
                VcpuSet::EMPTY
            }
        }
    }
}

/// The number of a priority's level, of which there are 32.
const fn level(priority: u8) -> u32 {
    priority as u32 >> 3
}
