//! The interrupts that want a list register of a vCPU, and what they want there.

use super::block::Block;
use super::list_register::End;
use super::{BLOCK, HARDWARE, Vgic, bits};

/// An interrupt that wants a list register.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) intid: u32,
    pub(super) priority: u8,
    pub(super) group1: bool,
    pub(super) latched: bool,
    pub(super) pending: bool,
    pub(super) active: bool,
    pub(super) taken: bool,
    pub(super) end: End,
}

impl Candidate {
    /// The more urgent comes first; of equals the lower number (Arm IHI 0069, 4.8).
    pub(super) fn urgency(&self) -> (u8, u32) {
        (self.priority, self.intid)
    }

    /// Its group's bit.
    pub(super) fn group(&self) -> u32 {
        1 << u32::from(self.group1)
    }

    /// The same, active and not pending as well: that is looked at again when it ends.
    pub(super) fn ended_first(self) -> Self {
        Self {
            latched: false,
            pending: false,
            end: End::Told,
            ..self
        }
    }
}

impl Vgic {
    /// Whether [`Self::list`] would use a list register.
    pub fn has_candidates(&self, vcpu: usize) -> bool {
        let mut any = false;
        self.each_candidate(vcpu, |_| any = true);
        any
    }

    /// Calls `found` with each interrupt that wants a list register of `vcpu`.
    pub(super) fn each_candidate(&self, vcpu: usize, mut found: impl FnMut(Candidate)) {
        let Some(private) = self.private.get(vcpu) else {
            return;
        };
        let block = &private.block;
        // A hardware interrupt is given to the guest once the CPU has taken it, and not before, so
        // that ending it ends both.
        let unready = HARDWARE & !private.forwarded;
        let pending = block.pending_with(unready, 0);
        let forwarded = block.forwarded(pending, self.control);
        for bit in bits(block.wanting(forwarded)) {
            let is_hardware = private.forwarded >> bit & 1 == 1;
            let physical = is_hardware.then(|| self.wiring.to_physical(bit as u32));
            found(candidate(block, bit, bit as u32, forwarded, physical));
        }
        for (first, shared) in (BLOCK..).step_by(BLOCK as usize).zip(&self.shared) {
            let block = &shared.block;
            let forwarded = block.forwarded(block.pending(), self.control);
            for bit in bits(block.wanting(forwarded)) {
                let target = self.target(shared, bit);
                let owner = match block.active >> bit & 1 {
                    0 => target,
                    _ => Some(usize::from(shared.holder[bit])),
                };
                if owner == Some(vcpu) {
                    let comes_here = if target == owner { forwarded } else { 0 };
                    found(candidate(block, bit, first + bit as u32, comes_here, None));
                }
            }
        }
    }
}

/// What a list register needs to know of an interrupt that is not listed. `forwarded` are those of
/// its block that come to this vCPU as soon as they are not active; `physical` is its INTID in the
/// CPU's own interrupt controller if that has it active for the guest.
fn candidate(
    block: &Block,
    bit: usize,
    intid: u32,
    forwarded: u32,
    physical: Option<u32>,
) -> Candidate {
    let is = |mask: u32| mask >> bit & 1 == 1;
    let (active, level) = (is(block.active), !is(block.edge));
    let next = (block.priority[bit], is(block.group1));
    let (priority, group1) = match active {
        true => (block.active_priority[bit], is(block.active_group1)),
        false => next,
    };
    // An interrupt that is active is listed as pending as well only if an edge came, and if it is
    // taken next as it was taken before: what a register has it has for both. A level is looked at
    // again when it ends, and an entry that ends the hardware's interrupt too must not be in both
    // states.
    let again =
        is(block.latch & forwarded) && !level && physical.is_none() && next == (priority, group1);
    let pending = !active || again;
    // What is left to be taken when it ends.
    let left = !pending && is(block.latch) || level && is(block.line);
    Candidate {
        intid,
        priority,
        group1,
        latched: pending && is(block.latch),
        pending,
        active,
        taken: active && is(block.taken),
        end: match (physical, left) {
            // Of the hardware's the CPU tells by itself if its line is still high.
            (Some(physical), _) if pending || !is(block.latch) => End::Hardware(physical),
            (_, true) => End::Told,
            (_, false) => End::Silent,
        },
    }
}
