//! Putting interrupts into a vCPU's list registers, and taking them back.
//!
//! There are fewer list registers than interrupts, so the most urgent go first. If more are
//! pending than fit, the hardware tells when the registers have no pending one any more; by then the guest
//! has taken only such as are more urgent than those left out. The most urgent pending one always gets a
//! register, even if active ones could fill them all, since it may pre-empt these. So an active one can be
//! left out. When the guest ends it no register has it, and the hardware counts no more than that this
//! happened; which one it was is known since the guest ends the most urgent first. Where the guest ends
//! interrupts by number (EOImode 1) it may end any, and the write of the number has to be trapped.

use arrayvec::ArrayVec;

use super::list_register::{End, ListRegister, is_active, is_pending};
use super::{BLOCK, HARDWARE, INTERRUPTS, NOBODY, VcpuSet, Vgic, bits};
use crate::masked::Masked;
use crate::vgic::block::Block;

/// The most list registers that the architecture has room for.
pub const MAX_LIST_REGISTERS: usize = 16;

/// What a list register holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    intid: u32,
    /// It is pending because of its latch.
    latched: bool,
    /// The CPU's own interrupt ends with it.
    hardware: bool,
}

impl Slot {
    /// If it holds hardware interrupt `intid`: the CPU's own no longer ends with it.
    pub(super) fn is_over(&mut self, intid: u32) {
        self.hardware &= self.intid != intid;
    }
}

/// What was put into the list registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// How many were used, from the first.
    pub used: usize,
    /// Pending ones were left out: a maintenance interrupt is wanted when no pending one is listed.
    pub more_pending: bool,
    /// Active ones were left out: a maintenance interrupt is wanted when the guest ends one.
    pub more_active: bool,
}

impl Listing {
    /// Nothing was listed.
    pub const EMPTY: Self = Self {
        used: 0,
        more_pending: false,
        more_active: false,
    };
}

/// What taking interrupts back from the list registers led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// Other vCPUs that are concerned: an interrupt is theirs now.
    pub others: VcpuSet,
    /// The hardware interrupts, by INTID, that the CPU's own interrupt controller has to deactivate:
    /// nothing in the guest will.
    pub release: u32,
    /// There are hardware interrupts that stay active there.
    pub forwarded: bool,
}

/// An interrupt that wants a list register.
#[derive(Clone, Copy)]
struct Candidate {
    intid: u32,
    priority: u8,
    group1: bool,
    latched: bool,
    pending: bool,
    active: bool,
    taken: bool,
    end: End,
}

impl Candidate {
    /// The more urgent comes first; of equals the lower number (Arm IHI 0069, 4.8). Of active ones those
    /// come last that the guest did not take: it is not about to end them.
    fn urgency(&self) -> (bool, u8, u32) {
        (self.active && !self.taken, self.priority, self.intid)
    }

    /// The same, active and not pending as well: that is looked at again when it ends.
    fn ended_first(self) -> Self {
        Self {
            latched: false,
            pending: false,
            end: End::Told,
            ..self
        }
    }
}

type Candidates = ArrayVec<Candidate, { INTERRUPTS as usize }>;

impl Vgic {
    /// Takes back what is listed of `vcpu`. `registers` are the values of its list registers, `ended`
    /// says how often the guest ended an interrupt that was in none, and `lines` are the levels of the
    /// vCPU's hardware interrupts, by INTID.
    pub fn unlist(&mut self, vcpu: usize, registers: &[u64], ended: u32, lines: u32) -> Unlisted {
        let mut others = VcpuSet::EMPTY;
        let Some(private) = self.private.get_mut(vcpu) else {
            return Unlisted {
                others,
                release: 0,
                forwarded: false,
            };
        };
        let slots = core::mem::take(&mut private.slots);
        for _ in 0..ended {
            self.end_most_urgent(vcpu);
        }
        for (slot, &register) in slots.iter().zip(registers) {
            others = others.union(self.take_back(vcpu, slot, register));
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

    /// The vCPU leaves its CPU. Returns the hardware interrupts, by INTID, that the CPU's own interrupt
    /// controller has to deactivate. Only while nothing of it is listed.
    pub fn leave_cpu(&mut self, vcpu: usize) -> u32 {
        let private = self.private.get_mut(vcpu);
        private.map_or(0, |private| core::mem::take(&mut private.forwarded))
    }

    /// Whether [`Self::list`] would use a list register.
    pub fn has_candidates(&self, vcpu: usize) -> bool {
        let mut any = false;
        self.each_candidate(vcpu, |_| any = true);
        any
    }

    /// Fills the list registers of `vcpu`, nothing of which may be listed. Those that are not used are
    /// left alone.
    pub fn list(&mut self, vcpu: usize, registers: &mut [u64]) -> Listing {
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
        pending.sort_unstable_by_key(Candidate::urgency);
        active.sort_unstable_by_key(Candidate::urgency);

        let room = registers.len().min(MAX_LIST_REGISTERS);
        let first = pending.len().min(1).min(room);
        let actives = active.len().min(room - first);
        let rest = pending.len().min(room - actives);
        let more_pending = rest < pending.len();
        let chosen = pending[..rest].iter().chain(&active[..actives]);
        let mut used = 0;
        for (register, candidate) in registers.iter_mut().zip(chosen) {
            // When an active one ends, its pending half must not get ahead of those that are left out.
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
            more_active: actives < active.len(),
        }
    }

    /// The guest ends interrupt `intid`, which is not listed, by its number.
    pub fn deactivate(&mut self, vcpu: usize, intid: u32) {
        if let Some(block) = self.block_mut(vcpu, intid) {
            block.active &= !bit_of(intid);
            block.taken &= !bit_of(intid);
            if block.listed & bit_of(intid) == 0 {
                self.set_holder(intid, NOBODY);
            }
        }
    }

    /// Ends the most urgent of the active interrupts that are not listed.
    fn end_most_urgent(&mut self, vcpu: usize) {
        let mut most_urgent = None;
        self.each_candidate(vcpu, |candidate| {
            let urgency = candidate.urgency();
            if candidate.taken && most_urgent.is_none_or(|other| urgency < other) {
                most_urgent = Some(urgency);
            }
        });
        if let Some((_, _, intid)) = most_urgent {
            self.deactivate(vcpu, intid);
        }
    }

    /// Takes one interrupt back. Returns the vCPU it is routed to.
    fn take_back(&mut self, vcpu: usize, slot: &Slot, register: u64) -> VcpuSet {
        let Some(block) = self.block_mut(vcpu, slot.intid) else {
            return VcpuSet::EMPTY;
        };
        let bit = bit_of(slot.intid);
        block.listed &= !bit;
        if slot.latched && is_pending(register) {
            block.latch |= bit & !block.drop_latch;
        }
        if is_active(register) {
            block.active |= bit & !block.drop_active;
            block.taken |= block.active & bit & !block.listed_active;
        }
        block.taken &= !bit | block.active;
        block.listed_latch &= !bit;
        block.listed_active &= !bit;
        block.drop_latch &= !bit;
        block.drop_active &= !bit;
        let still_active = block.active & bit != 0;
        if slot.hardware && !is_active(register) && !is_pending(register) {
            // The guest has ended it, and the hardware the CPU's own with it.
            self.private[vcpu].forwarded &= !bit;
        }
        if !still_active {
            self.set_holder(slot.intid, NOBODY);
        }
        self.concerned((slot.intid / BLOCK) as usize, bit)
    }

    /// Marks an interrupt as listed and returns the list register's value.
    fn put(&mut self, vcpu: usize, candidate: Candidate) -> u64 {
        let intid = candidate.intid;
        let bit = bit_of(intid);
        if let Some(block) = self.block_mut(vcpu, intid) {
            block.listed |= bit;
            block.listed_active |= block.active & bit;
            block.active &= !bit;
            if candidate.latched {
                block.listed_latch |= bit;
                block.latch &= !bit;
            }
        }
        self.set_holder(intid, vcpu as u8);
        // `list` hands out no more slots than there are.
        let _ = self.private[vcpu].slots.try_push(Slot {
            intid,
            latched: candidate.latched,
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

    /// Calls `found` with each interrupt that wants a list register of `vcpu`.
    fn each_candidate(&self, vcpu: usize, mut found: impl FnMut(Candidate)) {
        let Some(private) = self.private.get(vcpu) else {
            return;
        };
        let block = &private.block;
        // A hardware interrupt is given to the guest once the CPU has taken it, and not before, so that
        // ending it ends both.
        let unready = HARDWARE & !private.forwarded;
        let pending = block.pending_with(unready, 0);
        for bit in bits(self.wanted(block, pending)) {
            let forwarded = private.forwarded >> bit & 1 == 1;
            let physical = forwarded.then(|| self.wiring.of_cpus(bit as u32));
            found(candidate(block, bit, bit as u32, physical));
        }
        for (first, shared) in (BLOCK..).step_by(BLOCK as usize).zip(&self.shared) {
            let block = &shared.block;
            for bit in bits(self.wanted(block, block.pending())) {
                let owner = match block.active >> bit & 1 {
                    0 => self.target(shared, bit),
                    _ => Some(usize::from(shared.holder[bit])),
                };
                if owner == Some(vcpu) {
                    found(candidate(block, bit, first + bit as u32, None));
                }
            }
        }
    }

    /// Which of a block's interrupts want a list register, if these are pending.
    fn wanted(&self, block: &Block, pending: u32) -> u32 {
        block.deliverable(pending, self.control) | block.active & !block.listed
    }

    fn block_mut(&mut self, vcpu: usize, intid: u32) -> Option<&mut Block> {
        match (intid / BLOCK).checked_sub(1) {
            None => self.private.get_mut(vcpu).map(|own| &mut own.block),
            Some(index) => {
                let shared = self.shared.get_masked_mut(index as usize);
                shared.map(|shared| &mut shared.block)
            }
        }
    }

    fn set_holder(&mut self, intid: u32, holder: u8) {
        let index = (intid / BLOCK).checked_sub(1);
        if let Some(shared) = index.and_then(|index| self.shared.get_masked_mut(index as usize)) {
            shared.holder[(intid % BLOCK) as usize] = holder;
        }
    }
}

/// What a list register needs to know of an interrupt that is not listed; `physical` is its INTID in the
/// CPU's own interrupt controller if that has it active for the guest.
fn candidate(block: &Block, bit: usize, intid: u32, physical: Option<u32>) -> Candidate {
    let is = |mask: u32| mask >> bit & 1 == 1;
    let (active, level) = (is(block.active), !is(block.edge));
    // An interrupt that is active is listed as pending as well only if an edge came: a level is looked at again
    // when it ends, and an entry that ends the hardware's interrupt too must not be in both states.
    let again = is(block.latch) && is(block.enabled) && !level && physical.is_none();
    let pending = !active || again;
    // What is left to be taken when it ends.
    let left = !pending && is(block.latch) || level && is(block.line);
    Candidate {
        intid,
        priority: block.priority[bit],
        group1: is(block.group1),
        latched: pending && is(block.latch),
        pending,
        active,
        taken: is(block.taken),
        end: match (physical, left) {
            // Of the hardware's the CPU tells by itself if its line is still high.
            (Some(physical), _) if pending || !is(block.latch) => End::Hardware(physical),
            (_, true) => End::Told,
            (_, false) => End::Silent,
        },
    }
}

/// The bit of an interrupt in its block.
const fn bit_of(intid: u32) -> u32 {
    1 << (intid % BLOCK)
}
