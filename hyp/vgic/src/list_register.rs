//! The format of a list register, `ICH_LR<n>_EL2` (Arm IHI 0069, 12.4.7).

use super::BLOCK;

/// `HW`: ending the interrupt ends the CPU's own interrupt `pINTID` as well.
const HARDWARE: u64 = 1 << 61;
/// `Group`: Group 1.
const GROUP_1: u64 = 1 << 60;
/// `EOI`, without `HW`: ending the interrupt makes a maintenance interrupt.
const TELL_END: u64 = 1 << 41;
/// `Priority`: eight bits from this one.
const PRIORITY_SHIFT: u32 = 48;
/// `State`: pending.
const PENDING: u64 = 1 << 62;
/// `State`: active.
const ACTIVE: u64 = 1 << 63;

/// What happens when the guest ends an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing more.
    Silent,
    /// EL2 is told by a maintenance interrupt.
    Told,
    /// The CPU's own interrupt with this INTID ends too.
    Hardware(u32),
}

/// A list register's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListRegister {
    pub(super) intid: u32,
    pub(super) priority: u8,
    pub(super) group1: bool,
    pub(super) pending: bool,
    pub(super) active: bool,
    pub(super) end: End,
}

impl ListRegister {
    /// The register's value.
    pub(super) const fn encode(self) -> u64 {
        let end = match self.end {
            End::Silent => 0,
            End::Told => TELL_END,
            End::Hardware(physical) => HARDWARE | (physical as u64) << 32,
        };
        let group = if self.group1 { GROUP_1 } else { 0 };
        let pending = if self.pending { PENDING } else { 0 };
        let active = if self.active { ACTIVE } else { 0 };
        let priority = (self.priority as u64) << PRIORITY_SHIFT;
        self.intid as u64 | priority | end | group | pending | active
    }
}

/// Whether the interrupt in a register of this value is pending.
pub(super) const fn is_pending(value: u64) -> bool {
    value & PENDING != 0
}

/// Whether the interrupt in a register of this value is active.
pub(super) const fn is_active(value: u64) -> bool {
    value & ACTIVE != 0
}

/// The priority of the interrupt in a register of this value.
pub(super) const fn priority_of(value: u64) -> u8 {
    (value >> PRIORITY_SHIFT) as u8
}

/// Whether the interrupt in a register of this value is in Group 1.
pub(super) const fn group1_of(value: u64) -> bool {
    value & GROUP_1 != 0
}

/// The bit, by INTID, of the hardware interrupt that is pending, and not taken yet, in a list
/// register of this value; zero if there is none.
pub const fn pending_hardware(value: u64) -> u32 {
    if value & HARDWARE != 0 && is_pending(value) && !is_active(value) {
        1 << (value as u32 % BLOCK)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_hardware_looks_for_them() {
        let register = ListRegister {
            intid: 27,
            priority: 0xa0,
            group1: true,
            pending: true,
            active: false,
            end: End::Hardware(30),
        };
        assert_eq!(register.encode(), 0x70a0_001e_0000_001b);
        let told = ListRegister {
            end: End::Told,
            group1: false,
            pending: false,
            active: true,
            ..register
        };
        assert_eq!(told.encode(), 0x80a0_0200_0000_001b);
        assert!(is_active(told.encode()) && !is_pending(told.encode()));
        assert_eq!(priority_of(told.encode()), 0xa0);
        assert!(group1_of(register.encode()) && !group1_of(told.encode()));
    }

    #[test]
    fn pending_ones_of_the_hardware_are_told_from_others() {
        let register = |pending, active, end| {
            ListRegister {
                intid: 27,
                priority: 0x80,
                group1: true,
                pending,
                active,
                end,
            }
            .encode()
        };
        let hardware = End::Hardware(30);
        assert_eq!(pending_hardware(register(true, false, hardware)), 1 << 27);
        assert_eq!(pending_hardware(register(true, true, hardware)), 0);
        assert_eq!(pending_hardware(register(false, true, hardware)), 0);
        assert_eq!(pending_hardware(register(true, false, End::Told)), 0);
        assert_eq!(pending_hardware(0), 0);
    }
}
