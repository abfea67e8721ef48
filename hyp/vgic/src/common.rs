//! The registers of a CPU interface that are common to both groups, for when a guest's accesses to
//! them are all trapped (`ICH_HCR_EL2.TC`): from and to what the hardware's virtual interface has
//! of them.
//!
//! Arm IHI 0069, 12.2 (`ICV_CTLR_EL1`, `ICV_PMR_EL1`, `ICV_RPR_EL1`) and 12.4 (`ICH_VMCR_EL2`,
//! `ICH_VTR_EL2`).

/// `ICV_CTLR_EL1.CBPR` and `EOImode`.
const COMMON_POINT: u64 = 1 << 0;
const SPLIT_ENDS: u64 = 1 << 1;
/// `ICH_VMCR_EL2.VCBPR` and `VEOIM`, which are the same.
const VIRTUAL_COMMON_POINT: u64 = 1 << 4;
const VIRTUAL_SPLIT_ENDS: u64 = 1 << 9;
/// `ICH_VMCR_EL2.VPMR`.
const MASK: u32 = 24;

/// The virtual interface: what the guest has set, and what the hardware can do.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// `ICH_VMCR_EL2`.
    pub vmcr: u64,
    /// `ICH_VTR_EL2`.
    pub vtr: u64,
}

impl Interface {
    /// What the guest loads from `ICC_CTLR_EL1`.
    pub const fn control(self) -> u64 {
        // PRIbits, IDbits, SEIS and A3V, of which ICH_VTR_EL2 has the first two the other way
        // round.
        let priority_bits = (self.vtr >> 29 & 0b111) << 8;
        let id_bits = (self.vtr >> 23 & 0b111) << 11;
        let support = (self.vtr >> 21 & 1) << 15 | (self.vtr >> 22 & 1) << 14;
        let common = moved(self.vmcr, VIRTUAL_COMMON_POINT, COMMON_POINT);
        let split = moved(self.vmcr, VIRTUAL_SPLIT_ENDS, SPLIT_ENDS);
        support | id_bits | priority_bits | split | common
    }

    /// `ICH_VMCR_EL2` once the guest has stored `value` to `ICC_CTLR_EL1`.
    pub const fn with_control(self, value: u64) -> u64 {
        let common = moved(value, COMMON_POINT, VIRTUAL_COMMON_POINT);
        let split = moved(value, SPLIT_ENDS, VIRTUAL_SPLIT_ENDS);
        self.vmcr & !(VIRTUAL_COMMON_POINT | VIRTUAL_SPLIT_ENDS) | common | split
    }

    /// What the guest loads from `ICC_PMR_EL1`.
    pub const fn priority_mask(self) -> u64 {
        self.vmcr >> MASK & 0xff
    }

    /// `ICH_VMCR_EL2` once the guest has stored `value` to `ICC_PMR_EL1`.
    pub const fn with_priority_mask(self, value: u64) -> u64 {
        let unused_bits = 7 - (self.vtr >> 29 & 0b111);
        let mask = value & 0xff & !((1 << unused_bits) - 1);
        self.vmcr & !(0xff << MASK) | mask << MASK
    }

    /// What the guest loads from `ICC_RPR_EL1`, when `active` has a bit for each priority at which
    /// an interrupt is active (`ICH_AP0Rn_EL2` and `ICH_AP1Rn_EL2`, from n = 0).
    pub fn running_priority(self, active: [u32; 4]) -> u64 {
        let unused_bits = 7 - (self.vtr >> 26 & 0b111);
        let first = (0..).zip(active).find(|&(_, bits)| bits != 0);
        first.map_or(0xff, |(register, bits)| {
            u64::from(32 * register + bits.trailing_zeros()) << unused_bits & 0xff
        })
    }
}

/// `to` if `value` has the bit `from`.
const fn moved(value: u64, from: u64, to: u64) -> u64 {
    if value & from != 0 { to } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five bits of priority and pre-emption, 16 bits of INTIDs, A3V.
    const FIVE_BITS: u64 = 4 << 29 | 4 << 26 | 1 << 21 | 3;

    const fn interface(vmcr: u64, vtr: u64) -> Interface {
        Interface { vmcr, vtr }
    }

    #[test]
    fn control_says_what_there_is_and_what_is_set() {
        assert_eq!(interface(0, FIVE_BITS).control(), 0x8400);
        assert_eq!(interface(1 << 9, FIVE_BITS).control(), 0x8402);
        assert_eq!(interface(1 << 4, FIVE_BITS).control(), 0x8401);
        let most = interface(0, 6 << 29 | 1 << 23 | 1 << 22);
        assert_eq!(most.control(), 6 << 8 | 1 << 11 | 1 << 14);
    }

    #[test]
    fn control_changes_two_bits() {
        let all = interface(u64::MAX, FIVE_BITS);
        assert_eq!(all.with_control(0), !(1 << 4 | 1 << 9));
        assert_eq!(interface(0, FIVE_BITS).with_control(!0), 1 << 4 | 1 << 9);
        assert_eq!(interface(0, FIVE_BITS).with_control(0b10), 1 << 9);
    }

    #[test]
    fn the_mask_has_as_many_bits_as_priorities() {
        let set = interface(0xffff_ffff, FIVE_BITS);
        assert_eq!(set.with_priority_mask(0x187), 0x80ff_ffff);
        assert_eq!(interface(0xf8ab_cdef, FIVE_BITS).priority_mask(), 0xf8);
        let eight = interface(0, 7 << 29);
        assert_eq!(eight.with_priority_mask(0x87), 0x8700_0000);
    }

    #[test]
    fn the_most_urgent_that_is_active_is_running() {
        let five = interface(0, FIVE_BITS);
        assert_eq!(five.running_priority([0; 4]), 0xff);
        assert_eq!(five.running_priority([1 << 31 | 1 << 20, 0, 0, 0]), 0xa0);
        assert_eq!(five.running_priority([1, 0, 0, 0]), 0);
        let seven = interface(0, 6 << 26);
        assert_eq!(seven.running_priority([0, 0, 1 << 1, 1]), (64 + 1) << 1);
        assert_eq!(seven.running_priority([0, 0, 0, 1 << 31]), 0xfe);
    }
}
