//! The guest cannot tell that there are only four list registers: whatever two vCPUs do, they take
//! the same interrupts as from a controller that needs none.
//!
//! Each vCPU that is concerned by a step looks at its interrupts before the next one. What is not
//! played, since the architecture leaves open what becomes of it: a change of EOImode while
//! interrupts are being handled, and making active again what software has made inactive while it
//! was handled.

use proptest::prelude::*;

use super::*;

/// The interrupts that are played with: SGIs, of which each vCPU has its own, and shared ones with
/// levels and with edges.
const INTERRUPTS: [u32; 12] = [0, 1, 2, 3, 4, 5, 33, 34, 35, 36, 37, 38];
/// Of these the last three are edge-triggered.
const EDGES: u64 = 0b10_1010 << 8;

#[derive(Clone, Copy, Debug)]
enum Step {
    Line(usize, bool),
    /// What a vCPU does to an interrupt.
    Do(usize, Change, usize),
    Route(usize, usize),
    /// The groups that the distributor forwards.
    Forward(u32),
    /// The groups that a vCPU lets through.
    LetThrough(usize, u32),
    Take(usize),
    End(usize),
    /// By its number, with split ends.
    Deactivate(usize, usize),
    Split(usize, bool),
    /// Something else brought the vCPU out of the guest, and made it look.
    Look(usize),
}

#[derive(Clone, Copy, Debug)]
enum Change {
    SetPending,
    ClearPending,
    Enable(bool),
    Priority(u8),
    Group(bool),
    SetActive,
    ClearActive,
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => Just(Change::SetPending),
        1 => Just(Change::ClearPending),
        2 => any::<bool>().prop_map(Change::Enable),
        3 => (0_u8..8).prop_map(|level| Change::Priority(level << 4)),
        1 => any::<bool>().prop_map(Change::Group),
        1 => Just(Change::SetActive),
        1 => Just(Change::ClearActive),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..INTERRUPTS.len();
    let vcpu = 0..2_usize;
    let step = prop_oneof![
        3 => (which.clone(), any::<bool>()).prop_map(|(which, high)| Step::Line(which, high)),
        12 => (vcpu.clone(), changes(), which.clone())
            .prop_map(|(vcpu, change, which)| Step::Do(vcpu, change, which)),
        2 => (which.clone(), vcpu.clone()).prop_map(|(which, vcpu)| Step::Route(which, vcpu)),
        1 => (0..4_u32).prop_map(|groups| Step::Forward(groups | 0b10)),
        1 => (vcpu.clone(), 0..4_u32).prop_map(|(vcpu, groups)| Step::LetThrough(vcpu, groups)),
        8 => vcpu.clone().prop_map(Step::Take),
        6 => vcpu.clone().prop_map(Step::End),
        3 => (vcpu.clone(), which).prop_map(|(vcpu, which)| Step::Deactivate(vcpu, which)),
        1 => (vcpu.clone(), any::<bool>()).prop_map(|(vcpu, split)| Step::Split(vcpu, split)),
        1 => vcpu.prop_map(Step::Look),
    ];
    proptest::collection::vec(step, 1..160)
}

/// One interrupt, as a controller keeps it that needs no list registers.
#[derive(Clone, Copy, Debug)]
struct State {
    line: bool,
    latch: bool,
    active: bool,
    disabled: bool,
    priority: u8,
    group1: bool,
    route: usize,
}

/// An interrupt that a vCPU handles.
#[derive(Clone, Copy, Debug)]
struct Handled {
    which: usize,
    /// At which priority and in which group it was taken.
    priority: u8,
    group1: bool,
    /// Its end makes it inactive: nobody else has done so.
    ends: bool,
}

/// A vCPU of the guest.
#[derive(Clone, Debug)]
struct Guest {
    /// What it handles, the most urgent last.
    running: Vec<Handled>,
    groups: u32,
    split: bool,
}

/// A controller whose CPU interfaces see everything, and the guest that uses it.
#[derive(Clone, Debug)]
struct Ideal {
    /// By vCPU and interrupt; shared ones are vCPU 0's.
    states: [[State; INTERRUPTS.len()]; 2],
    forwards: u32,
    guests: [Guest; 2],
}

fn is_shared(which: usize) -> bool {
    INTERRUPTS[which] >= 32
}

fn is_edge(which: usize) -> bool {
    !is_shared(which) || EDGES >> (2 * (INTERRUPTS[which] - 32)) & 0b10 != 0
}

impl Ideal {
    fn new() -> Self {
        let state = State {
            line: false,
            latch: false,
            active: false,
            disabled: false,
            priority: 0,
            group1: true,
            route: 0,
        };
        let guest = Guest {
            running: Vec::new(),
            groups: 0b11,
            split: false,
        };
        Self {
            states: [[state; INTERRUPTS.len()]; 2],
            forwards: 0b10,
            guests: [guest.clone(), guest],
        }
    }

    fn state(&self, vcpu: usize, which: usize) -> &State {
        &self.states[if is_shared(which) { 0 } else { vcpu }][which]
    }

    fn state_mut(&mut self, vcpu: usize, which: usize) -> &mut State {
        &mut self.states[if is_shared(which) { 0 } else { vcpu }][which]
    }

    fn is_pending(&self, vcpu: usize, which: usize) -> bool {
        let state = self.state(vcpu, which);
        state.latch || state.line && !is_edge(which)
    }

    /// What a vCPU would take next that runs at this priority.
    fn next(&self, vcpu: usize, running: u8) -> Option<usize> {
        let groups = self.forwards & self.guests[vcpu].groups;
        let takes = |&which: &usize| {
            let state = self.state(vcpu, which);
            let comes_here = !is_shared(which) || state.route == vcpu;
            let group = groups >> u32::from(state.group1) & 1 == 1;
            self.is_pending(vcpu, which)
                && !state.active
                && !state.disabled
                && comes_here
                && group
                && state.priority < running
        };
        let all = (0..INTERRUPTS.len()).filter(takes);
        all.min_by_key(|&which| (self.state(vcpu, which).priority, INTERRUPTS[which]))
    }

    fn running_priority(&self, vcpu: usize) -> u8 {
        let top = self.guests[vcpu].running.last();
        top.map_or(0xff, |handled| handled.priority)
    }

    fn take(&mut self, vcpu: usize, which: usize) {
        let state = self.state_mut(vcpu, which);
        (state.latch, state.active) = (false, true);
        let handled = Handled {
            which,
            priority: state.priority,
            group1: state.group1,
            ends: true,
        };
        self.guests[vcpu].running.push(handled);
    }

    /// Those that handle the interrupt.
    fn handling(&mut self, vcpu: usize, which: usize) -> impl Iterator<Item = &mut Handled> {
        let guests = self.guests.iter_mut().enumerate();
        let guests = guests.filter(move |(index, _)| is_shared(which) || *index == vcpu);
        let all = guests.flat_map(|(_, guest)| guest.running.iter_mut());
        all.filter(move |handled| handled.which == which)
    }

    fn make_inactive(&mut self, vcpu: usize, which: usize) {
        self.state_mut(vcpu, which).active = false;
        self.handling(vcpu, which)
            .for_each(|handled| handled.ends = false);
    }
}

/// Both controllers.
struct Play {
    machine: Machine,
    ideal: Ideal,
}

impl Play {
    fn new() -> Self {
        let mut machine = Machine::new();
        let _ = machine.write(0xc08, EDGES);
        Self {
            machine,
            ideal: Ideal::new(),
        }
    }

    fn write(&mut self, vcpu: usize, register: u64, which: usize) -> VcpuSet {
        let bit = 1 << (INTERRUPTS[which] % 32);
        match is_shared(which) {
            false => self.machine.write_private(vcpu, register, bit),
            true => self.machine.write(register + 4, bit),
        }
    }

    fn step(&mut self, step: Step) {
        let concerned = match step {
            Step::Line(which, high) => self.set_line(which, high),
            Step::Do(vcpu, change, which) => self.change(vcpu, change, which),
            Step::Route(which, vcpu) if is_shared(which) => {
                self.ideal.state_mut(0, which).route = vcpu;
                self.machine.route(INTERRUPTS[which], vcpu as u64)
            }
            Step::Route(..) => return,
            Step::Forward(groups) => {
                self.ideal.forwards = groups;
                self.machine.write(GICD_CTLR, groups.into())
            }
            Step::LetThrough(vcpu, groups) => {
                self.ideal.guests[vcpu].groups = groups;
                self.machine.cpus[vcpu].groups = groups;
                return self.maintain(vcpu);
            }
            Step::Take(vcpu) => return self.take(vcpu),
            Step::End(vcpu) => return self.end(vcpu),
            Step::Deactivate(vcpu, which) => {
                if !self.ideal.guests[vcpu].split {
                    return;
                }
                self.ideal.make_inactive(vcpu, which);
                self.machine.vgic.deactivate(vcpu, INTERRUPTS[which])
            }
            Step::Split(vcpu, split) => {
                if !self.ideal.guests[vcpu].running.is_empty() {
                    return;
                }
                self.look(vcpu);
                self.ideal.guests[vcpu].split = split;
                self.machine.cpus[vcpu].split = split;
                VcpuSet::EMPTY
            }
            Step::Look(vcpu) => VcpuSet::EMPTY.with(Some(vcpu)),
        };
        concerned.iter().for_each(|vcpu| self.look(vcpu));
        self.writes_are_done();
    }

    fn set_line(&mut self, which: usize, high: bool) -> VcpuSet {
        if !is_shared(which) {
            return VcpuSet::EMPTY;
        }
        let state = self.ideal.state_mut(0, which);
        state.latch |= high && !state.line && is_edge(which);
        state.line = high;
        self.machine.vgic.set_line(INTERRUPTS[which], high)
    }

    fn change(&mut self, vcpu: usize, change: Change, which: usize) -> VcpuSet {
        let state = self.ideal.state_mut(vcpu, which);
        match change {
            Change::SetPending => {
                state.latch = true;
                self.write(vcpu, ISPENDR, which)
            }
            Change::ClearPending => {
                state.latch = false;
                self.write(vcpu, ICPENDR, which)
            }
            Change::Enable(on) => {
                state.disabled = !on;
                self.write(vcpu, if on { ISENABLER } else { ICENABLER }, which)
            }
            Change::Priority(priority) => {
                state.priority = priority;
                self.machine.set_priority(vcpu, INTERRUPTS[which], priority)
            }
            Change::Group(group1) => {
                state.group1 = group1;
                self.set_group(vcpu, which, group1)
            }
            Change::SetActive => {
                if self
                    .ideal
                    .handling(vcpu, which)
                    .any(|handled| !handled.ends)
                {
                    return VcpuSet::EMPTY;
                }
                self.ideal.state_mut(vcpu, which).active = true;
                self.write(vcpu, ISACTIVER, which)
            }
            Change::ClearActive => {
                self.ideal.make_inactive(vcpu, which);
                self.write(vcpu, ICACTIVER, which)
            }
        }
    }

    fn set_group(&mut self, vcpu: usize, which: usize, group1: bool) -> VcpuSet {
        let bit = 1 << (INTERRUPTS[which] % 32);
        let with = |old: u64| if group1 { old | bit } else { old & !bit };
        if is_shared(which) {
            let value = with(self.machine.read(0x84));
            return self.machine.write(0x84, value);
        }
        let value = with(self.machine.read_private(vcpu, 0x80));
        self.machine.write_private(vcpu, 0x80, value)
    }

    fn look(&mut self, vcpu: usize) {
        let (unlisted, _) = self.machine.refresh(vcpu, 0);
        unlisted.others.iter().for_each(|other| self.look(other));
    }

    /// Maintenance interrupts, as long as the hardware makes any.
    fn maintain(&mut self, vcpu: usize) {
        if self.machine.cpus[vcpu].wants_maintenance() {
            self.look(vcpu);
            assert!(!self.machine.cpus[vcpu].wants_maintenance(), "again");
        }
    }

    fn take(&mut self, vcpu: usize) {
        let expected = self.ideal.next(vcpu, self.ideal.running_priority(vcpu));
        let found = self.machine.acknowledge(vcpu);
        let expected_intid = expected.map(|which| INTERRUPTS[which]);
        assert_eq!(found, expected_intid, "vCPU {vcpu}");
        if let Some(which) = expected {
            self.ideal.take(vcpu, which);
        }
        self.maintain(vcpu);
    }

    fn end(&mut self, vcpu: usize) {
        let guest = &mut self.ideal.guests[vcpu];
        let Some(handled) = guest.running.pop() else {
            return;
        };
        if handled.ends && !guest.split {
            self.ideal.state_mut(vcpu, handled.which).active = false;
        }
        let intid = INTERRUPTS[handled.which];
        self.machine.end_in(vcpu, intid, handled.group1);
        self.maintain(vcpu);
        let running = self.machine.cpus[vcpu].running.map(u32::count_ones);
        let handled = self.ideal.guests[vcpu].running.len();
        assert_eq!((running[0] + running[1]) as usize, handled);
    }

    /// No register write is still to take effect once all who are concerned have looked.
    fn writes_are_done(&self) {
        assert_eq!(self.machine.read(GICD_CTLR) >> 31, 0);
        for vcpu in 0..2 {
            assert_eq!(self.machine.vgic.read(Frame::Redistributor(vcpu), 0, 4), 0);
        }
    }

    /// What the guest reads of the registers that show states, and what ends its waits.
    fn compare(&self) {
        let mut machine = Machine {
            vgic: self.machine.vgic.clone(),
            cpus: self.machine.cpus,
        };
        for vcpu in 0..2 {
            machine.unlist(vcpu, 0);
        }
        for vcpu in 0..2 {
            let groups = machine.cpus[vcpu].groups;
            assert_eq!(
                machine.vgic.wakes(vcpu, groups, 0xff, 0),
                self.ideal.next(vcpu, 0xff).is_some(),
                "vCPU {vcpu} wakes"
            );
            for (which, intid) in INTERRUPTS.into_iter().enumerate() {
                let read = |register| match is_shared(which) {
                    false => machine.read_private(vcpu, register),
                    true => machine.read(register + 4),
                };
                let is_set = |register| read(register) >> (intid % 32) & 1 == 1;
                let here = format!("vCPU {vcpu}, {intid}");
                let pending = self.ideal.is_pending(vcpu, which);
                assert_eq!(is_set(ISPENDR), pending, "{here} pending");
                let active = self.ideal.state(vcpu, which).active;
                assert_eq!(is_set(ISACTIVER), active, "{here} active");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 },
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
