//! By which numbers the CPUs' own interrupt controllers know the interrupts that a guest gets from
//! hardware.

use super::{PHYSICAL_TIMER, VIRTUAL_TIMER};

/// The INTIDs that EL1's timers have in the CPUs' interrupt controllers. A guest's are
/// [`VIRTUAL_TIMER`] and [`PHYSICAL_TIMER`], whatever those are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// That of the virtual timer.
    pub virtual_timer: u32,
    /// That of the physical timer.
    pub physical_timer: u32,
}

impl Wiring {
    /// As guests have it, and the Base System Architecture.
    pub const USUAL: Self = Self {
        virtual_timer: VIRTUAL_TIMER,
        physical_timer: PHYSICAL_TIMER,
    };

    /// The CPUs' INTID of the guest's `intid`.
    pub const fn to_physical(self, intid: u32) -> u32 {
        match intid {
            VIRTUAL_TIMER => self.virtual_timer,
            PHYSICAL_TIMER => self.physical_timer,
            _ => intid,
        }
    }

    /// The guest's INTID of the CPUs' `intid`, if that is a guest's.
    pub const fn to_virtual(self, intid: u32) -> Option<u32> {
        if intid == self.virtual_timer {
            Some(VIRTUAL_TIMER)
        } else if intid == self.physical_timer {
            Some(PHYSICAL_TIMER)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frame, Vgic};

    /// A board whose timers have each other's numbers.
    const CROSSED: Wiring = Wiring {
        virtual_timer: PHYSICAL_TIMER,
        physical_timer: VIRTUAL_TIMER,
    };

    #[test]
    fn numbers_lead_there_and_back() {
        let other = Wiring {
            virtual_timer: 19,
            physical_timer: 20,
        };
        for wiring in [Wiring::USUAL, CROSSED, other] {
            for timer in [VIRTUAL_TIMER, PHYSICAL_TIMER] {
                assert_eq!(wiring.to_virtual(wiring.to_physical(timer)), Some(timer));
            }
            assert_eq!(wiring.to_virtual(26), None);
        }
        assert_eq!(other.to_virtual(VIRTUAL_TIMER), None);
    }

    #[test]
    fn ending_a_timers_interrupt_ends_that_of_the_cpu() {
        let mut vgic = Vgic::new(1).wired(CROSSED).after_reset();
        let _ = vgic.write(Frame::Distributor, 0, 4, 0b11);
        let redistributor = Frame::Redistributor(0);
        let bit = 1 << VIRTUAL_TIMER;
        let _ = vgic.write(redistributor, 0x1_0080, 4, bit);
        let _ = vgic.write(redistributor, 0x1_0100, 4, bit);
        vgic.forward(0, VIRTUAL_TIMER);
        let mut registers = [0; 4];
        assert_eq!(vgic.list(0, &mut registers, 0b11).used, 1);
        let (virtual_id, physical_id) = (registers[0] as u32, registers[0] >> 32 & 0x3ff);
        assert_eq!(virtual_id, VIRTUAL_TIMER);
        assert_eq!(physical_id, u64::from(PHYSICAL_TIMER));
    }
}
