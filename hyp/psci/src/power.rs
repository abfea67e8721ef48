//! Which virtual CPUs of a virtual machine are on, and how the machine as a whole comes to a stop.
//!
//! Plain data without locks or waiting: the machine keeps it behind a lock, and every question and
//! change is one call under that lock, so that two vCPUs that race for one target get the answers
//! PSCI asks for (Arm DEN 0022, CPU_ON). Stopping: the first request counts; every vCPU that is on
//! leaves at its next chance; the last to leave is told so, and from then on no vCPU runs the guest
//! until [`Power::boot`].

use core::slice;

use bootargs::MAX_VCPUS;

use arm_psci::{AffinityInfo, ErrorCode};

use crate::halt::Halt;
use speculation::masked::Masked;

/// Where a vCPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction's IPA; the vCPU starts with its MMU off.
    pub address: u64,
    /// What it finds in x0.
    pub context: u64,
}

/// Why a virtual machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest switched itself off.
    Off,
    /// The guest asked to be restarted.
    Reset,
    /// Its last vCPU switched itself off; no vCPU is left to switch one on again.
    AllVcpusOff,
    /// No vCPU is left that could get on.
    Halted(Halt),
    /// There was no memory for it.
    OutOfMemory,
    /// The hypervisor does not know any more what it was made of.
    Fault,
    /// The hypervisor has made a mistake with it.
    Mistake,
}

/// What one vCPU is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    /// Switched on, but its thread has not yet taken note.
    Pending(Entry),
    On,
    /// On, for others, but nothing gets it going again.
    Halted(Halt),
}

impl State {
    /// Whether its thread has yet to leave, if the machine stops.
    fn is_on(self) -> bool {
        matches!(self, Self::On | Self::Halted(_))
    }
}

/// The power states of the vCPUs of one virtual machine.
#[derive(Debug)]
pub struct Power {
    vcpus: [State; MAX_VCPUS],
    count: usize,
    stop: Option<StopReason>,
    /// Which vCPUs have halted and not looked again since another one did, one bit each.
    unconfirmed: u32,
    /// The stop is complete: its reason has been handed out.
    stopped: bool,
}

impl Power {
    /// A machine of `count` vCPUs (at most [`MAX_VCPUS`]), all off.
    pub const fn new(count: usize) -> Self {
        Self {
            vcpus: [State::Off; MAX_VCPUS],
            count: if count < MAX_VCPUS { count } else { MAX_VCPUS },
            stop: None,
            unconfirmed: 0,
            stopped: false,
        }
    }

    /// Starts or restarts the machine: vCPU 0 is switched on, all others are off.
    pub fn boot(&mut self, entry: Entry) {
        *self = Self::new(self.count);
        self.vcpus[0] = State::Pending(entry);
    }

    /// PSCI CPU_ON: switches `target` on. Its thread has then to be woken. `is_valid` says whether
    /// a vCPU can start at the entry's address.
    ///
    /// # Errors
    ///
    /// As PSCI has it: no such vCPU, already on, being switched on by another vCPU, or no address
    /// to start at.
    pub fn switch_on(
        &mut self,
        target: usize,
        entry: Entry,
        is_valid: bool,
    ) -> Result<(), ErrorCode> {
        match self.live().get_masked(target) {
            None => return Err(ErrorCode::InvalidParameters),
            Some(State::On | State::Halted(_)) => return Err(ErrorCode::AlreadyOn),
            Some(State::Pending(_)) => return Err(ErrorCode::OnPending),
            Some(State::Off) if !is_valid => return Err(ErrorCode::InvalidAddress),
            Some(State::Off) => {}
        }
        self.vcpus[target % MAX_VCPUS] = State::Pending(entry);
        Ok(())
    }

    /// For the thread of a vCPU that is off: whether it has been switched on, and where to start.
    pub fn take_entry(&mut self, vcpu: usize) -> Option<Entry> {
        if self.stop.is_some() {
            return None;
        }
        let state = self.vcpus.get_mut(vcpu)?;
        let State::Pending(entry) = *state else {
            return None;
        };
        *state = State::On;
        Some(entry)
    }

    /// PSCI AFFINITY_INFO for `target` and all whose number agrees with it in the affinity
    /// fields from `level` up.
    ///
    /// # Errors
    ///
    /// No vCPU agrees with it.
    pub fn affinity_info(&self, target: usize, level: u32) -> Result<AffinityInfo, ErrorCode> {
        // Where Aff1, Aff2 and Aff3 begin.
        let begin = match level {
            0 | 1 => 8,
            2 => 16,
            _ => 32,
        };
        let group = match level {
            0 => self.live().get_masked(target).map(slice::from_ref),
            // All vCPUs share Aff1 and up, so every such group is the whole machine.
            _ if target >> begin == 0 => Some(self.live()),
            _ => None,
        };
        let group = group.ok_or(ErrorCode::InvalidParameters)?;
        Ok(if group.iter().any(|state| state.is_on()) {
            AffinityInfo::On
        } else if group.iter().any(|state| matches!(state, State::Pending(_))) {
            AffinityInfo::OnPending
        } else {
            AffinityInfo::Off
        })
    }

    /// Asks all vCPUs to leave. False if that was asked before: the first reason stays.
    pub fn request_stop(&mut self, reason: StopReason) -> bool {
        let first = self.stop.is_none();
        if first {
            self.stop = Some(reason);
        }
        first
    }

    /// For a vCPU that no longer runs the guest, because it switched itself off (PSCI CPU_OFF) or
    /// because the machine stops. It is off from here on.
    ///
    /// The reason to stop, if there is one and no vCPU runs the guest any more: one caller alone is
    /// told, and winds the machine up.
    pub fn leave(&mut self, vcpu: usize) -> Option<StopReason> {
        if let Some(state) = self.vcpus.get_mut(vcpu) {
            *state = State::Off;
        }
        self.doubt_halted(vcpu);
        if self.live().iter().all(|&state| state == State::Off) {
            self.request_stop(StopReason::AllVcpusOff);
        }
        if self.stopped || self.live().iter().any(|state| state.is_on()) {
            return None;
        }
        self.stopped = self.stop.is_some();
        self.stop
    }

    /// Notes that a vCPU that is on has come to where nothing but another vCPU gets it going again.
    /// It stays on for others. That of those that halted before has to be confirmed, since this one
    /// may have got them going just before.
    pub fn halt(&mut self, halt: Halt) {
        if let Some(state) = self.vcpus.get_mut(halt.vcpu) {
            *state = State::Halted(halt);
        }
        self.doubt_halted(halt.vcpu);
    }

    /// Those that have halted have to look again, since `last` may have got them going before it
    /// halted or left.
    fn doubt_halted(&mut self, last: usize) {
        let halted =
            |&(vcpu, state): &(usize, &State)| vcpu != last && matches!(state, State::Halted(_));
        let others = self.vcpus.iter().enumerate().filter(halted);
        self.unconfirmed = others.fold(0, |bits, (vcpu, _)| bits | 1 << vcpu);
    }

    /// Notes that a vCPU that has halted has looked again: whether it still does not get on.
    pub fn look_again(&mut self, vcpu: usize, still: bool) {
        self.unconfirmed &= !(1 << vcpu);
        if let Some(state @ State::Halted(_)) = self.vcpus.get_mut(vcpu)
            && !still
        {
            *state = State::On;
        }
    }

    /// How the machine has come to where no vCPU gets on: all that are on have halted, and none of
    /// them could have been got going by the last. The first of them tells.
    pub fn halted(&self) -> Option<Halt> {
        if self.unconfirmed != 0 {
            return None;
        }
        let mut first = None;
        for state in self.live() {
            match *state {
                State::Off => {}
                State::Halted(halt) => first = first.or(Some(halt)),
                State::On | State::Pending(_) => return None,
            }
        }
        first
    }

    fn live(&self) -> &[State] {
        &self.vcpus[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::halt::Cause;

    const ENTRY: Entry = Entry {
        address: 0x4008_0000,
        context: 7,
    };

    fn booted(count: usize) -> Power {
        let mut power = Power::new(count);
        power.boot(ENTRY);
        assert_eq!(power.take_entry(0), Some(ENTRY));
        power
    }

    #[test]
    fn a_vcpu_goes_from_off_to_pending_to_on() {
        let mut power = booted(2);
        assert_eq!(power.affinity_info(1, 0), Ok(AffinityInfo::Off));
        assert_eq!(
            power.switch_on(1, ENTRY, false),
            Err(ErrorCode::InvalidAddress)
        );
        assert_eq!(power.switch_on(0, ENTRY, false), Err(ErrorCode::AlreadyOn));
        assert_eq!(power.switch_on(1, ENTRY, true), Ok(()));
        assert_eq!(power.affinity_info(1, 0), Ok(AffinityInfo::OnPending));
        assert_eq!(power.switch_on(1, ENTRY, true), Err(ErrorCode::OnPending));
        assert_eq!(power.take_entry(1), Some(ENTRY));
        assert_eq!(power.affinity_info(1, 0), Ok(AffinityInfo::On));
        assert_eq!(power.switch_on(1, ENTRY, true), Err(ErrorCode::AlreadyOn));
        assert_eq!(power.leave(1), None);
        assert_eq!(power.switch_on(1, ENTRY, true), Ok(()));
    }

    #[test]
    fn vcpus_that_are_not_there_are_invalid() {
        let mut power = booted(2);
        for target in [2, MAX_VCPUS, usize::MAX] {
            assert_eq!(
                power.switch_on(target, ENTRY, true),
                Err(ErrorCode::InvalidParameters)
            );
            assert_eq!(
                power.affinity_info(target, 0),
                Err(ErrorCode::InvalidParameters)
            );
        }
        assert_eq!(
            power.affinity_info(0x100, 1),
            Err(ErrorCode::InvalidParameters)
        );
        assert_eq!(power.affinity_info(0, 1), Ok(AffinityInfo::On));
        assert_eq!(power.affinity_info(0x1ff, 2), Ok(AffinityInfo::On));
        assert_eq!(power.affinity_info(0xff_ffff, 3), Ok(AffinityInfo::On));
        for (target, level) in [(0x1_0000, 2), (1 << 32, 3)] {
            assert_eq!(
                power.affinity_info(target, level),
                Err(ErrorCode::InvalidParameters)
            );
        }
        assert_eq!(power.take_entry(7), None);
    }

    #[test]
    fn of_two_that_race_for_one_target_one_wins() {
        use std::sync::Mutex;
        let power = Mutex::new(booted(3));
        let switch = || power.lock().unwrap().switch_on(2, ENTRY, true);
        let results = std::thread::scope(|scope| {
            let racer = scope.spawn(switch);
            [switch(), racer.join().unwrap()]
        });
        assert!(results.contains(&Ok(())));
        assert!(results.contains(&Err(ErrorCode::OnPending)));
    }

    #[test]
    fn the_last_to_leave_is_told_and_no_other() {
        let mut power = booted(3);
        power.switch_on(1, ENTRY, true).unwrap();
        assert_eq!(power.take_entry(1), Some(ENTRY));
        power.switch_on(2, ENTRY, true).unwrap();
        assert!(power.request_stop(StopReason::Reset));
        assert!(
            !power.request_stop(StopReason::Off),
            "the first reason stays"
        );
        assert_eq!(
            power.take_entry(2),
            None,
            "nobody enters a machine that stops"
        );
        assert_eq!(power.leave(0), None);
        assert_eq!(power.leave(1), Some(StopReason::Reset));
        assert_eq!(power.leave(1), None);
        power.boot(ENTRY);
        assert_eq!(power.take_entry(0), Some(ENTRY));
        assert_eq!(
            power.take_entry(2),
            None,
            "a restart switches all others off"
        );
    }

    #[test]
    fn a_machine_has_halted_when_all_its_vcpus_have_or_are_off() {
        let halt = |vcpu| Halt {
            vcpu,
            pc: 0x4008_0000,
            cause: Cause::NoVectors,
        };
        let mut power = booted(3);
        assert_eq!(power.halted(), None);
        power.switch_on(1, ENTRY, true).unwrap();
        power.halt(halt(0));
        assert_eq!(power.halted(), None, "another is on its way");
        assert_eq!(power.take_entry(1), Some(ENTRY));
        assert_eq!(power.halted(), None);
        assert_eq!(power.affinity_info(0, 0), Ok(AffinityInfo::On));
        assert_eq!(power.switch_on(0, ENTRY, true), Err(ErrorCode::AlreadyOn));
        assert_eq!(power.leave(1), None);
        assert_eq!(power.halted(), None, "the other may have got it going");
        power.look_again(0, true);
        assert_eq!(power.halted(), Some(halt(0)), "the other went off");
        power.switch_on(1, ENTRY, true).unwrap();
        assert_eq!(power.take_entry(1), Some(ENTRY));
        power.halt(halt(1));
        assert_eq!(
            power.halted(),
            None,
            "the last may have got the first going"
        );
        power.look_again(0, false);
        assert_eq!(power.halted(), None, "it has");
        power.halt(halt(0));
        assert_eq!(power.halted(), None, "and the first the last");
        power.look_again(1, true);
        assert_eq!(power.halted(), Some(halt(0)), "all have halted");
        let reason = StopReason::Halted(halt(0));
        assert!(power.request_stop(reason));
        assert_eq!(power.leave(0), None);
        assert_eq!(power.leave(1), Some(reason));
        assert_eq!(power.halted(), None);
    }

    #[test]
    fn the_last_vcpu_that_goes_off_stops_the_machine() {
        let mut power = booted(2);
        power.switch_on(1, ENTRY, true).unwrap();
        assert_eq!(power.leave(0), None, "the other is on its way");
        assert_eq!(power.take_entry(1), Some(ENTRY));
        assert_eq!(power.leave(1), Some(StopReason::AllVcpusOff));
    }
}
