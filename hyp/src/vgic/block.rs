//! The state of 32 interrupts, and the registers that have a field for each of them.

use super::BLOCK;

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
    /// In a list register, with its active state and its latch.
    pub(super) listed: u32,
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
        listed: 0,
        listed_latch: 0,
        listed_active: 0,
        drop_latch: 0,
        drop_active: 0,
        priority: [0; BLOCK as usize],
        fixed_edge: SGIS,
    };

    /// Shared interrupts after reset.
    pub(super) const SHARED: Self = Self {
        edge: 0,
        fixed_edge: 0,
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

    /// Which of `pending` a CPU interface is to be told of, if these groups are enabled (bit 0 for
    /// Group 0, bit 1 for Group 1).
    pub(super) const fn deliverable(&self, pending: u32, groups: u32) -> u32 {
        let group0 = if groups & 1 == 0 { 0 } else { !self.group1 };
        let group1 = if groups & 2 == 0 { 0 } else { self.group1 };
        pending & self.enabled & !self.active & !self.listed & (group0 | group1)
    }

    /// Whether the guest may still take an interrupt that it has disabled: it is listed.
    pub(super) const fn is_busy(&self) -> bool {
        self.listed & !self.enabled != 0
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
                new & relevant
            }
            Register::ClearEnable => {
                let gone = value & self.enabled;
                self.enabled &= !value;
                gone & self.listed
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
                self.active |= value;
                new
            }
            Register::ClearActive => {
                self.active &= !value;
                self.taken &= !value;
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
