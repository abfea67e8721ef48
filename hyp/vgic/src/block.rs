//! The state of 32 interrupts, and the registers that have a field for each of them.

use super::list_register::{group1_of, is_active, is_pending, priority_of};
use super::slot::Slot;
use super::{BLOCK, HARDWARE, bits};

/// The SGIs of a private block: always edge-triggered.
const SGIS: u32 = 0xffff;
/// The bits of a priority that are kept: 32 levels.
const PRIORITY_BITS: u8 = 0xf8;

/// Thirty-two interrupts, a bit each.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// In Group 1, not 0.
    pub(super) group1: u32,
    /// Forwarded to the CPU interface when pending.
    pub(super) enabled: u32,
    /// Pending because of an edge, or because software said so.
    pub(super) latch: u32,
    /// The level of the interrupt's line.
    pub(super) line: u32,
    /// Edge-triggered: pending once after each rise of the line, not as long as it is high.
    pub(super) edge: u32,
    /// Acknowledged and not yet ended.
    pub(super) active: u32,
    /// Of those active: the guest took it, and did not just set its state.
    pub(super) taken: u32,
    /// Of those active: taken, or made active, in Group 1. The guest ends them in that group.
    pub(super) active_group1: u32,
    /// Of those active: the priority at which they were taken or made active. That is what the
    /// guest runs at until it ends them, and by which the CPU interface knows them then.
    pub(super) active_priority: [u8; BLOCK as usize],
    /// In a list register, with its active state and its latch.
    pub(super) listed: u32,
    /// Of those listed: pending there when they were listed, so that the guest may take them.
    pub(super) listed_pending: u32,
    /// Of those listed: whose latch was set then and has not been cleared by software since.
    pub(super) listed_latch: u32,
    /// Of those listed: which were active then and have not been made inactive by software since.
    pub(super) listed_active: u32,
    /// Of those listed: the latch was cleared meanwhile.
    pub(super) drop_latch: u32,
    /// Of those listed: the active state was cleared meanwhile.
    pub(super) drop_active: u32,
    /// The lower the more urgent.
    pub(super) priority: [u8; BLOCK as usize],
    fixed_edge: u32,
    /// Lines of which only the vCPU that has them knows the level.
    hardware: u32,
}

/// A register with a field for each of 32 interrupts, or for some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
    /// `count` bytes of priorities from interrupt `first` of the block.
    Priority {
        first: usize,
        count: usize,
    },
    /// Two bits for each of 16 interrupts, `shift` bits up in the block.
    Configuration {
        shift: u32,
    },
}

impl Register {
    /// Whether its value depends on what list registers hold.
    pub(super) const fn shows_listed(self) -> bool {
        matches!(
            self,
            Self::SetPending | Self::ClearPending | Self::SetActive | Self::ClearActive
        )
    }
}

impl Block {
    /// SGIs and PPIs after reset.
    pub(super) const PRIVATE: Self = Self {
        group1: 0,
        enabled: 0,
        latch: 0,
        line: 0,
        edge: SGIS,
        active: 0,
        taken: 0,
        active_group1: 0,
        active_priority: [0; BLOCK as usize],
        listed: 0,
        listed_pending: 0,
        listed_latch: 0,
        listed_active: 0,
        drop_latch: 0,
        drop_active: 0,
        priority: [0; BLOCK as usize],
        fixed_edge: SGIS,
        hardware: HARDWARE,
    };

    /// Shared interrupts after reset.
    pub(super) const SHARED: Self = Self {
        edge: 0,
        fixed_edge: 0,
        hardware: 0,
        ..Self::PRIVATE
    };

    /// Which are pending, as far as that is not in list registers.
    pub(super) const fn pending(&self) -> u32 {
        self.latch | self.line & !self.edge
    }

    /// The same if the lines `of` were at these `levels`.
    pub(super) const fn pending_with(&self, of: u32, levels: u32) -> u32 {
        let line = self.line & !of | levels & of;
        self.latch | line & !self.edge
    }

    /// Which of `pending` are forwarded to a CPU interface once they are not active, if these
    /// groups are enabled (bit 0 for Group 0, bit 1 for Group 1).
    pub(super) const fn forwarded(&self, pending: u32, groups: u32) -> u32 {
        pending & self.enabled & self.in_groups(groups)
    }

    /// Which of `pending` a CPU interface is to be told of, if these groups are enabled.
    pub(super) const fn deliverable(&self, pending: u32, groups: u32) -> u32 {
        self.forwarded(pending, groups) & !self.active & !self.listed
    }

    /// Which want a list register, if these are forwarded.
    pub(super) const fn wanting(&self, forwarded: u32) -> u32 {
        (forwarded | self.active) & !self.listed
    }

    /// Which active ones the guest has taken, of those that are not listed.
    pub(super) const fn handled(&self) -> u32 {
        self.active & self.taken & !self.listed
    }

    /// Which interrupts are in these groups.
    const fn in_groups(&self, groups: u32) -> u32 {
        let group0 = if groups & 1 == 0 { 0 } else { !self.group1 };
        let group1 = if groups & 2 == 0 { 0 } else { self.group1 };
        group0 | group1
    }

    /// Whether the guest may still take an interrupt that it has disabled: it is listed as pending.
    /// One that is active has been taken, and does not count.
    pub(super) const fn is_busy(&self) -> bool {
        self.listed_pending & !self.enabled != 0
    }

    /// Whether the guest may still take an interrupt of a group that it has disabled, if these are
    /// enabled.
    pub(super) const fn is_busy_in(&self, groups: u32) -> bool {
        self.listed_pending & !self.in_groups(groups) != 0
    }

    /// Marks the interrupt of `bit` as listed, with its latch if `latched`, and pending if
    /// `pending`.
    pub(super) const fn give(&mut self, bit: u32, latched: bool, pending: bool) {
        self.listed |= bit;
        self.listed_active |= self.active & bit;
        self.active &= !bit;
        if pending {
            self.listed_pending |= bit;
        }
        if latched {
            self.listed_latch |= bit;
            self.latch &= !bit;
        }
    }

    /// Takes back what `slot` has, whose list register has this value now. Returns the priority at
    /// which the guest still runs though software has made the interrupt inactive, if that is so.
    pub(super) fn take_back(&mut self, slot: &Slot, register: u64) -> Option<u8> {
        let index = (slot.intid % BLOCK) as usize;
        let bit = 1 << index;
        let dropped = self.drop_active & bit != 0;
        if slot.latched && is_pending(register) {
            self.latch |= bit & !self.drop_latch;
        }
        // Else it was active when it was listed, and software had made it so.
        let taken = is_active(register) && (!slot.active || self.taken & bit != 0);
        self.taken &= !bit;
        if is_active(register) && !dropped {
            self.make_active(index, priority_of(register), group1_of(register));
            self.taken |= if taken { bit } else { 0 };
        }
        for mask in [
            &mut self.listed,
            &mut self.listed_pending,
            &mut self.listed_latch,
            &mut self.listed_active,
            &mut self.drop_latch,
            &mut self.drop_active,
        ] {
            *mask &= !bit;
        }
        (taken && dropped).then(|| priority_of(register))
    }

    fn make_active(&mut self, index: usize, priority: u8, group1: bool) {
        let bit = 1 << index;
        self.active |= bit;
        self.active_priority[index] = priority;
        self.active_group1 = self.active_group1 & !bit | if group1 { bit } else { 0 };
    }

    /// Sets the lines in `mask`. Returns the interrupts whose listing may have to change.
    pub(super) const fn set_lines(&mut self, mask: u32, high: bool) -> u32 {
        let changed = mask & if high { !self.line } else { self.line };
        self.line ^= changed;
        if high {
            self.latch |= changed & self.edge;
        }
        // A level that falls only matters if the interrupt is listed as pending.
        changed & self.enabled & if high { u32::MAX } else { self.listed }
    }

    /// What the guest reads; for those that are listed, the state that they had then.
    pub(super) fn read(&self, register: Register) -> u32 {
        match register {
            Register::Group => self.group1,
            Register::SetEnable | Register::ClearEnable => self.enabled,
            Register::SetPending | Register::ClearPending => self.pending() | self.listed_latch,
            Register::SetActive | Register::ClearActive => self.active | self.listed_active,
            Register::Priority { first, count } => {
                let bytes = self.priority.iter().skip(first).take(count).rev();
                bytes.fold(0, |value, &byte| value << 8 | u32::from(byte))
            }
            Register::Configuration { shift } => {
                let edge = self.edge >> shift;
                (0..16).fold(0, |value, bit| value | (edge >> bit & 1) << (2 * bit + 1))
            }
        }
    }

    /// The guest writes `value`. Returns the interrupts whose listing may have to change.
    pub(super) fn write(&mut self, register: Register, value: u32) -> u32 {
        let relevant = self.pending() | self.listed;
        match register {
            Register::Group => {
                let changed = self.group1 ^ value;
                self.group1 = value;
                changed & relevant
            }
            Register::SetEnable => {
                let new = value & !self.enabled;
                self.enabled |= value;
                // What is known of hardware's lines is as old as the last time that the vCPU
                // looked.
                new & (relevant | self.hardware)
            }
            Register::ClearEnable => {
                let gone = value & self.enabled;
                self.enabled &= !value;
                gone & self.listed_pending
            }
            Register::SetPending => {
                self.latch |= value;
                value & self.enabled
            }
            Register::ClearPending => {
                self.latch &= !value;
                self.listed_latch &= !value;
                self.drop_latch |= value & self.listed;
                value & self.listed
            }
            Register::SetActive => {
                let new = value & !self.active;
                for index in bits(new) {
                    let group1 = self.group1 >> index & 1 == 1;
                    self.make_active(index, self.priority[index], group1);
                }
                new
            }
            Register::ClearActive => {
                self.active &= !value;
                self.taken &= !value | self.listed;
                self.listed_active &= !value;
                self.drop_active |= value & self.listed;
                value & relevant
            }
            Register::Priority { first, count } => self.write_priorities(first, count, value),
            Register::Configuration { shift } => {
                let bits = (0..16).fold(0, |bits, bit| bits | (value >> (2 * bit + 1) & 1) << bit);
                let mask = 0xffff << shift & !self.fixed_edge;
                self.edge = self.edge & !mask | bits << shift & mask;
                mask & relevant
            }
        }
    }

    fn write_priorities(&mut self, first: usize, count: usize, value: u32) -> u32 {
        let fields = self.priority.iter_mut().enumerate().skip(first).take(count);
        let changed = fields
            .zip(value.to_le_bytes())
            .fold(0, |changed, ((bit, field), byte)| {
                let byte = byte & PRIORITY_BITS;
                let differs = core::mem::replace(field, byte) != byte;
                changed | u32::from(differs) << bit
            });
        changed & (self.pending() | self.listed)
    }
}
