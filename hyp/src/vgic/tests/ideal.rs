//! The guest cannot tell that there are only four list registers: whatever it does, it takes the same
//! interrupts as from a controller that needs none.

use proptest::prelude::*;

use super::*;

/// The interrupts that are played with: SGIs, and shared ones with levels and with edges.
const INTERRUPTS: [u32; 12] = [0, 1, 2, 3, 4, 5, 33, 34, 35, 36, 37, 38];
/// Of these the last three are edge-triggered.
const EDGES: u64 = 0b10_1010 << 8;

#[derive(Clone, Copy, Debug)]
enum Step {
    Line(usize, bool),
    SetPending(usize),
    ClearPending(usize),
    Enable(usize, bool),
    Priority(usize, u8),
    SetActive(usize),
    ClearActive(usize),
    Take,
    End,
    /// Something else brought the vCPU out of the guest, and made it look.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..INTERRUPTS.len();
    let step = prop_oneof![
        3 => (which.clone(), any::<bool>()).prop_map(|(which, high)| Step::Line(which, high)),
        4 => which.clone().prop_map(Step::SetPending),
        1 => which.clone().prop_map(Step::ClearPending),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, on)| Step::Enable(which, on)),
        2 => (which.clone(), 0_u8..8).prop_map(|(which, level)| Step::Priority(which, level << 4)),
        1 => which.clone().prop_map(Step::SetActive),
        1 => which.prop_map(Step::ClearActive),
        6 => Just(Step::Take),
        5 => Just(Step::End),
        1 => Just(Step::Look),
    ];
    proptest::collection::vec(step, 1..120)
}

/// A controller whose CPU interface sees everything.
#[derive(Clone, Debug, Default)]
struct Ideal {
    line: [bool; INTERRUPTS.len()],
    latch: [bool; INTERRUPTS.len()],
    active: [bool; INTERRUPTS.len()],
    disabled: [bool; INTERRUPTS.len()],
    priority: [u8; INTERRUPTS.len()],
}

fn is_edge(which: usize) -> bool {
    INTERRUPTS[which] < 16 || EDGES >> (2 * (INTERRUPTS[which] - 32)) & 0b10 != 0
}

impl Ideal {
    fn is_pending(&self, which: usize) -> bool {
        self.latch[which] || self.line[which] && !is_edge(which)
    }

    /// What would be taken next by a guest that runs at this priority.
    fn next(&self, running: u8) -> Option<usize> {
        let takes =
            |&which: &usize| self.is_pending(which) && !self.active[which] && !self.disabled[which];
        let all = (0..INTERRUPTS.len()).filter(takes);
        all.filter(|&which| self.priority[which] < running)
            .min_by_key(|&which| (self.priority[which], INTERRUPTS[which]))
    }

    fn take(&mut self, which: usize) {
        self.latch[which] = false;
        self.active[which] = true;
    }
}

/// Both controllers, and the guest that uses them.
struct Play {
    machine: Machine,
    listing: Listing,
    ideal: Ideal,
    /// What the guest handles, the most urgent last, with the priority it had when it was taken.
    running: Vec<(usize, u8)>,
}

impl Play {
    fn new() -> Self {
        let mut machine = Machine::new();
        let _ = machine.write(0xc08, EDGES);
        Self {
            machine,
            listing: Listing::EMPTY,
            ideal: Ideal::default(),
            running: Vec::new(),
        }
    }

    fn write(&mut self, register: u64, which: usize) -> VcpuSet {
        let intid = INTERRUPTS[which];
        let bit = 1 << (intid % 32);
        match intid {
            0..32 => self.machine.write_private(0, register, bit),
            _ => self.machine.write(register + 4, bit),
        }
    }

    fn step(&mut self, step: Step) {
        let concerned = match step {
            // What is being handled is left alone: its end would be ambiguous.
            Step::SetActive(which) | Step::ClearActive(which) | Step::Priority(which, _)
                if self.is_running(which) =>
            {
                return;
            }
            Step::Line(which, high) => {
                if INTERRUPTS[which] < 32 {
                    return;
                }
                let rises = high && !self.ideal.line[which];
                self.ideal.line[which] = high;
                self.ideal.latch[which] |= rises && is_edge(which);
                self.machine.vgic.set_line(INTERRUPTS[which], high)
            }
            Step::SetPending(which) => {
                self.ideal.latch[which] = true;
                self.write(ISPENDR, which)
            }
            Step::ClearPending(which) => {
                self.ideal.latch[which] = false;
                self.write(0x280, which)
            }
            Step::Enable(which, on) => {
                self.ideal.disabled[which] = !on;
                self.write(if on { ISENABLER } else { ICENABLER }, which)
            }
            Step::Priority(which, priority) => {
                self.ideal.priority[which] = priority;
                let intid = INTERRUPTS[which];
                let at = IPRIORITYR + u64::from(intid);
                let (frame, offset) = match intid {
                    0..32 => (Frame::Redistributor(0), SGI_FRAME + at),
                    _ => (Frame::Distributor, at),
                };
                self.machine.vgic.write(frame, offset, 1, priority.into())
            }
            Step::SetActive(which) => {
                self.ideal.active[which] = true;
                self.write(0x300, which)
            }
            Step::ClearActive(which) => {
                self.ideal.active[which] = false;
                self.write(0x380, which)
            }
            Step::Take => return self.take(),
            Step::End => return self.end(),
            Step::Look => return self.look(),
        };
        if !concerned.is_empty() {
            self.look();
        }
    }

    fn is_running(&self, which: usize) -> bool {
        self.running.iter().any(|&(other, _)| other == which)
    }

    fn look(&mut self) {
        (_, self.listing) = self.machine.refresh(0, 0);
    }

    /// A maintenance interrupt, if the hardware would make one.
    fn maintain(&mut self) {
        const TELL_END: u64 = 1 << 41;
        let used = &self.machine.registers[0][..self.machine.used[0]];
        let told = used
            .iter()
            .any(|register| register & (STATE | TELL_END) == TELL_END);
        let pending = used.iter().any(|register| register & STATE == 1 << 62);
        let ended = self.machine.ended[0] > 0;
        if told || !pending && self.listing.more_pending || ended && self.listing.more_active {
            self.look();
        }
    }

    fn take(&mut self) {
        let running = self.running.last().map_or(0xff, |&(_, priority)| priority);
        let expected = self.ideal.next(running);
        // The guest's CPU interface compares with the running priority; the machine does not.
        let listed = self.machine.registers[0].iter();
        let pending = listed.filter(|&&register| register & STATE == 1 << 62);
        let first = pending.map(|register| register >> 48 & 0xff).min();
        let found = match first {
            Some(priority) if priority < running.into() => self.machine.acknowledge(0),
            _ => None,
        };
        let expected_intid = expected.map(|which| INTERRUPTS[which]);
        assert_eq!(found, expected_intid);
        if let Some(which) = expected {
            self.running.push((which, self.ideal.priority[which]));
            self.ideal.take(which);
        }
        self.maintain();
    }

    fn end(&mut self) {
        if let Some((which, _)) = self.running.pop() {
            self.ideal.active[which] = false;
            self.machine.end(0, INTERRUPTS[which]);
            self.maintain();
        }
    }

    /// What the guest reads of the registers that show states.
    fn compare(&mut self) {
        let mut machine = Machine {
            vgic: self.machine.vgic.clone(),
            ..self.machine
        };
        machine.refresh(0, 0);
        for (which, intid) in INTERRUPTS.into_iter().enumerate() {
            let read = |register| match intid {
                0..32 => machine.read_private(0, register),
                _ => machine.read(register + 4),
            };
            let is_set = |register| read(register) >> (intid % 32) & 1 == 1;
            assert_eq!(
                is_set(ISPENDR),
                self.ideal.is_pending(which),
                "{intid} pending"
            );
            assert_eq!(is_set(0x300), self.ideal.active[which], "{intid} active");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn list_registers_are_not_to_be_noticed(steps in steps()) {
        let mut play = Play::new();
        for step in steps {
            play.step(step);
            play.compare();
        }
    }
}
