//! The clock a guest sees: an Arm PL031 (Arm DDI 0224) that counts seconds since 1970.
//!
//! It runs from the start and cannot be stopped. It has no interrupt line, so an alarm that a guest
//! sets never comes; the device tree says so by naming no interrupt.

/// Size of the register frame, in bytes.
pub const FRAME_SIZE: u64 = 0x1000;

const DR: u64 = 0x00;
const MR: u64 = 0x04;
const LR: u64 = 0x08;
const CR: u64 = 0x0c;
const IMSC: u64 = 0x10;
const IDENTIFICATION: u64 = 0xfe0;

/// RTCCR: the clock runs.
const RUNS: u32 = 1;
/// RTCIMSC: its only bit.
const MASK: u32 = 1;
/// RTCPeriphID0 to 3 and RTCPCellID0 to 3 of a PL031 r1p0.
const IDENTIFIERS: [u8; 8] = [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The state of one virtual PL031. Time is the machine's, in seconds, and handed in.
#[derive(Debug)]
pub struct Pl031 {
    /// The guest's time less the machine's; both wrap round.
    ahead: u32,
    loaded: u32,
    alarm: u32,
    mask: u32,
}

impl Pl031 {
    /// A clock that shows the machine's time.
    pub const fn new() -> Self {
        Self {
            ahead: 0,
            loaded: 0,
            alarm: 0,
            mask: 0,
        }
    }

    /// What the guest reads at `offset` bytes into the frame. Registers that are not there are
    /// zero.
    pub fn read(&self, offset: u64, now: u32) -> u32 {
        match offset {
            DR => now.wrapping_add(self.ahead),
            MR => self.alarm,
            LR => self.loaded,
            CR => RUNS,
            IMSC => self.mask,
            // Each, as in QEMU, at all of its four bytes.
            IDENTIFICATION..FRAME_SIZE => {
                IDENTIFIERS[offset as usize / 4 % IDENTIFIERS.len()].into()
            }
            // RIS and MIS among them: no alarm comes.
            _ => 0,
        }
    }

    /// The guest writes `value` at `offset` bytes into the frame.
    pub fn write(&mut self, offset: u64, value: u32, now: u32) {
        match offset {
            LR => {
                self.loaded = value;
                self.ahead = value.wrapping_sub(now);
            }
            MR => self.alarm = value,
            IMSC => self.mask = value & MASK,
            _ => {}
        }
    }
}

impl Default for Pl031 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_the_time_and_can_be_set() {
        let mut clock = Pl031::new();
        assert_eq!(clock.read(DR, 1000), 1000);
        clock.write(LR, 5, 1000);
        assert_eq!((clock.read(LR, 1001), clock.read(DR, 1003)), (5, 8));
        clock.write(LR, u32::MAX, 1000);
        assert_eq!(clock.read(DR, 1002), 1, "it wraps round");
        clock.write(CR, 0, 1000);
        assert_eq!((clock.read(CR, 0), clock.read(DR, 1001)), (1, 0));
    }

    #[test]
    fn drivers_find_what_they_look_for() {
        let clock = Pl031::new();
        let identifiers = (0xfe0..0x1000).step_by(4).map(|at| clock.read(at, 0) as u8);
        assert!(identifiers.eq(IDENTIFIERS));
        assert_eq!(clock.read(0x14, 7), 0, "RIS");
        assert_eq!((clock.read(0xfe7, 7), clock.read(LR + 1, 7)), (0x10, 0));
    }
}
