//! The interrupt controller a guest sees: a GICv3 (Arm IHI 0069) without LPIs and with one Security
//! state, as a model of its registers and of their effects.
//!
//! Owns one VM's controller, [`Vgic`], which is plain data. The image keeps it behind a lock and
//! calls it from exits and from devices (`vcpu/interrupts`, `vm/mmio`). Read `list` first, then
//! `registers`.
//!
//! The guest reaches the distributor and the redistributors by loads and stores, which are
//! emulated here. Its CPU interface is the hardware's virtual one: EL2 writes *list registers*,
//! from which the hardware lets the guest acknowledge and end interrupts without an exit.
//!
//! - `block`: the state of 32 interrupts, and the registers that have bits for them;
//! - [`common`]: registers of the CPU interface, for when they are trapped;
//! - `registers`: the frames of distributor and redistributors;
//! - `list`: which interrupts are put into list registers, and how they come back from there;
//! - `candidate`: which of them want one, and how;
//! - `end`: how they end, also those that are in none;
//! - `list_register`: the format of a list register;
//! - `slot`: the interrupt that a list register holds;
//! - `wiring`: the numbers that hardware's interrupts have in the CPUs;
//! - `sgi`: the registers by which vCPUs interrupt each other.
//!
//! Active is what a guest has taken and not ended, by whichever vCPU it was taken: that vCPU
//! *holds* a shared one until it is inactive, whatever happens to its route, priority, group or
//! enable bit meanwhile. What is pending of it as well is a new interrupt, which goes by what these
//! are when it has ended.
//!
//! Invariants:
//! - While an interrupt is *listed*, its active state and the pending state that an edge left
//!   behind are in a list register of one vCPU, and not here. [`Vgic::unlist`] brings them back.
//!   What the guest sets meanwhile is kept here and added then; what it clears is noted and taken
//!   away then.
//! - Every change that may call for other list registers is answered with the set of vCPUs
//!   concerned. They must call `unlist` and [`Vgic::list`] before they run the guest again.

#![cfg_attr(not(test), no_std)]

mod block;
mod candidate;
pub mod common;
mod end;
mod list;
mod list_register;
mod registers;
mod set;
mod sgi;
mod slot;
#[cfg(test)]
mod tests;
mod wiring;

pub use list::{Listing, MAX_LIST_REGISTERS, Unlisted};
pub use list_register::pending_hardware;
pub use registers::{Frame, REDISTRIBUTOR_SIZE, constant};
pub use set::VcpuSet;
pub use sgi::SgiRegister;
pub use wiring::Wiring;

use arrayvec::ArrayVec;

use block::Block;
use bootargs::MAX_VCPUS;
use slot::Slot;

/// Interrupts in a block: as many as a register with one bit for each has.
const BLOCK: u32 = 32;
/// Blocks of shared interrupts (SPIs).
const SHARED_BLOCKS: usize = 2;
/// The number of interrupts, SGIs and PPIs included: INTIDs from here on are not there.
pub const INTERRUPTS: u32 = BLOCK * (1 + SHARED_BLOCKS as u32);
/// The first shared interrupt.
pub const FIRST_SHARED: u32 = BLOCK;
/// The EL1 virtual timer's INTID, as the Base System Architecture has it.
pub const VIRTUAL_TIMER: u32 = 27;
/// The EL1 physical timer's INTID, likewise.
pub const PHYSICAL_TIMER: u32 = 30;
/// The private interrupts that come from hardware of the CPU the vCPU is on.
const HARDWARE: u32 = 1 << VIRTUAL_TIMER | 1 << PHYSICAL_TIMER;
/// The number of no vCPU.
const NOBODY: u8 = u8::MAX;

/// Bits of `GICD_CTLR` that enable interrupts: Group 0, Group 1.
const ENABLE_GROUPS: u32 = 0b11;

/// The interrupt controller of one virtual machine.
#[derive(Clone, Debug)]
pub struct Vgic {
    vcpus: usize,
    wiring: Wiring,
    /// `GICD_CTLR`, of which only [`ENABLE_GROUPS`] change.
    control: u32,
    private: [Private; MAX_VCPUS],
    shared: [Shared; SHARED_BLOCKS],
}

/// What one vCPU has for itself: its redistributor and its list registers.
#[derive(Clone, Debug)]
struct Private {
    /// SGIs and PPIs.
    block: Block,
    /// `GICR_WAKER.ProcessorSleep`, which has no effect besides being read.
    asleep: bool,
    /// Hardware interrupts ([`HARDWARE`]) that are active in the CPU's own interrupt controller on
    /// behalf of this vCPU, so that they do not come again before it has dealt with them.
    forwarded: u32,
    /// The priorities, by `end::level`, at which it still runs for an interrupt that software has
    /// made inactive.
    outlived: u32,
    /// What its list registers hold.
    slots: ArrayVec<Slot, MAX_LIST_REGISTERS>,
}

/// Thirty-two shared interrupts.
#[derive(Clone, Debug)]
struct Shared {
    block: Block,
    /// `GICD_IROUTER`.
    route: [u64; BLOCK as usize],
    /// The vCPU that has the interrupt listed or active, else [`NOBODY`].
    holder: [u8; BLOCK as usize],
}

impl Private {
    const RESET: Self = Self {
        block: Block::PRIVATE,
        asleep: true,
        forwarded: 0,
        outlived: 0,
        slots: ArrayVec::new_const(),
    };
}

impl Shared {
    const RESET: Self = Self {
        block: Block::SHARED,
        route: [0; BLOCK as usize],
        holder: [NOBODY; BLOCK as usize],
    };
}

impl Vgic {
    /// The interrupt controller of a machine with `vcpus` vCPUs (at most [`MAX_VCPUS`]), after
    /// reset.
    pub const fn new(vcpus: usize) -> Self {
        Self {
            vcpus: if vcpus < MAX_VCPUS { vcpus } else { MAX_VCPUS },
            wiring: Wiring::USUAL,
            control: 0,
            private: [Private::RESET; MAX_VCPUS],
            shared: [Shared::RESET; SHARED_BLOCKS],
        }
    }

    /// The same on CPUs of this wiring.
    pub fn wired(mut self, wiring: Wiring) -> Self {
        self.wiring = wiring;
        self
    }

    /// The same machine's interrupt controller after reset. Only while nothing of it is listed.
    ///
    /// A hardware interrupt that a CPU took for a vCPU and left active stays recorded: the reset is
    /// the guest's and does not reach the CPU, which takes that interrupt again only once it is
    /// deactivated. [`Self::unlist`] or [`Self::leave_cpu`] has the vCPU do so.
    pub fn after_reset(&self) -> Self {
        let mut reset = Self::new(self.vcpus).wired(self.wiring);
        for (new, old) in reset.private.iter_mut().zip(&self.private) {
            new.forwarded = old.forwarded;
        }
        reset
    }

    /// The level of a device's line to shared interrupt `intid` is now `high`. Other INTIDs have no
    /// line and are ignored.
    ///
    /// Returns the vCPUs that are concerned.
    pub fn set_line(&mut self, intid: u32, high: bool) -> VcpuSet {
        let Some(index) = (intid / BLOCK).checked_sub(1) else {
            return VcpuSet::EMPTY;
        };
        let Some(shared) = self.shared.get_mut(index as usize) else {
            return VcpuSet::EMPTY;
        };
        let concerned = shared.block.set_lines(1 << (intid % BLOCK), high);
        self.concerned(1 + index as usize, concerned)
    }

    /// The CPU took hardware interrupt `intid`, one of the timers', while the vCPU was on it, and
    /// left it active.
    pub fn forward(&mut self, vcpu: usize, intid: u32) {
        let bit = 1 << (intid % BLOCK) & HARDWARE;
        if let Some(private) = self.private.get_mut(vcpu) {
            private.forwarded |= bit;
            // It could come because the guest has ended the one before, of which a list register
            // may still tell.
            private
                .slots
                .iter_mut()
                .for_each(|slot| slot.is_over(intid));
            private.block.set_lines(bit, false);
            private.block.set_lines(bit, true);
        }
    }

    /// Whether the guest lets a private interrupt through to its CPU interface.
    pub fn is_enabled(&self, vcpu: usize, intid: u32) -> bool {
        let private = self.private.get(vcpu);
        private.is_some_and(|private| private.block.enabled >> (intid % BLOCK) & 1 == 1)
    }

    /// Whether some interrupt would wake the vCPU from WFI: one that is pending and enabled, in one
    /// of the groups that the vCPU lets through (bit 0 for Group 0, bit 1 for Group 1), and more
    /// urgent than its priority mask. Only while none of its interrupts is listed.
    ///
    /// `lines` are the levels of the vCPU's hardware interrupts, by INTID.
    pub fn wakes(&self, vcpu: usize, groups: u32, priority_mask: u8, lines: u32) -> bool {
        let urgent = |block: &Block, mask: u32| {
            bits(mask).any(|bit| {
                let group = 1 << (block.group1 >> bit & 1);
                groups & group != 0 && block.priority[bit] < priority_mask
            })
        };
        let Some(private) = self.private.get(vcpu) else {
            return false;
        };
        let groups_enabled = self.control & ENABLE_GROUPS;
        let pending = private.block.pending_with(HARDWARE, lines);
        let mask = private.block.deliverable(pending, groups_enabled);
        urgent(&private.block, mask)
            || self.shared.iter().any(|shared| {
                let block = &shared.block;
                let mask = block.deliverable(block.pending(), groups_enabled);
                let routed = |bit: &usize| self.target(shared, *bit) == Some(vcpu);
                let mask = bits(mask)
                    .filter(routed)
                    .fold(0, |mask, bit| mask | 1 << bit);
                urgent(block, mask)
            })
    }

    /// The vCPU that a shared interrupt is routed to, if it is there.
    fn target(&self, shared: &Shared, bit: usize) -> Option<usize> {
        let affinity = *shared.route.get(bit)?;
        usize::try_from(affinity)
            .ok()
            .filter(|&vcpu| vcpu < self.vcpus)
    }

    /// The vCPUs that are concerned by changes of the interrupts `mask` of a block: block 0 has no
    /// answer here, since it has one owner.
    fn concerned(&self, block: usize, mask: u32) -> VcpuSet {
        let Some(shared) = block
            .checked_sub(1)
            .and_then(|index| self.shared.get(index))
        else {
            return VcpuSet::EMPTY;
        };
        bits(mask).fold(VcpuSet::EMPTY, |set, bit| {
            let holder = usize::from(shared.holder[bit]);
            set.with(self.target(shared, bit)).with(Some(holder))
        })
    }

    /// All vCPUs.
    fn everybody(&self) -> VcpuSet {
        (0..self.vcpus).fold(VcpuSet::EMPTY, |set, vcpu| set.with(Some(vcpu)))
    }
}

/// The numbers of the bits that are set, from the lowest.
fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < BLOCK).then_some(bit as usize)
    })
}
