//! Tests of the interrupt controller, with the hardware's part played by [`Machine`].

mod active;
mod addresses;
mod ideal;
mod steps;

use super::list_register::{group1_of, is_active, is_pending, priority_of};
use super::*;

const GICD_CTLR: u64 = 0x0;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const ICPENDR: u64 = 0x280;
const ISACTIVER: u64 = 0x300;
const ICACTIVER: u64 = 0x380;
const IPRIORITYR: u64 = 0x400;
const SGI_FRAME: u64 = 0x1_0000;
const IROUTER: u64 = 0x6000;
const STATE: u64 = 0b11 << 62;
/// `HW` of a list register.
const HARDWARE_LINK: u64 = 1 << 61;
/// A shared interrupt, and its bit in its block's registers.
const SPI: u32 = 33;
const SPI_BIT: u64 = 1 << 1;

fn set(vcpus: &[usize]) -> VcpuSet {
    let with = |set: VcpuSet, &vcpu| set.with(Some(vcpu));
    vcpus.iter().fold(VcpuSet::EMPTY, with)
}

/// A machine, and the virtual CPU interface of each of its vCPUs.
struct Machine {
    vgic: Vgic,
    cpus: [Interface; 2],
}

/// A virtual CPU interface as the hardware has it (Arm IHI 0069, 12.4, and the pseudocode of
/// `ICV_IARn_EL1`, `ICV_EOIRn_EL1` and maintenance interrupts), with as few list registers as small
/// hardware.
#[derive(Clone, Copy)]
struct Interface {
    registers: [u64; 4],
    /// What EL2 has listed last, and the groups that were let through then.
    listing: Listing,
    groups_then: u32,
    /// Interrupts ended without a list register: `EOIcount`.
    ended: u32,
    /// The priorities, by level, at which the guest runs: in Group 0 and in Group 1.
    running: [u32; 2],
    /// The groups that the guest lets through, bit 0 for Group 0.
    groups: u32,
    /// The guest ends interrupts by their numbers (EOImode 1).
    split: bool,
}

impl Interface {
    const RESET: Self = Self {
        registers: [0; 4],
        listing: Listing::EMPTY,
        groups_then: 0b11,
        ended: 0,
        running: [0; 2],
        groups: 0b11,
        split: false,
    };

    /// The list register that the guest would acknowledge.
    fn first(&mut self) -> Option<&mut u64> {
        let groups = self.groups;
        let running = self.running.map(u32::trailing_zeros);
        let level = running[0].min(running[1]);
        let pending = |register: &&mut u64| {
            is_pending(**register)
                && !is_active(**register)
                && groups >> u32::from(group1_of(**register)) & 1 == 1
        };
        let registers = self.registers.iter_mut().filter(pending);
        let urgency = |register: &&mut u64| (priority_of(**register), **register as u32);
        registers
            .min_by_key(urgency)
            .filter(|register| u32::from(priority_of(**register) >> 3) < level)
    }

    /// Drops the most urgent priority at which the guest runs, if that is one of the group's.
    /// Returns its level.
    fn drop_priority(&mut self, group1: bool) -> Option<u32> {
        let [group0, group_1] = self.running.map(u32::trailing_zeros);
        let running = &mut self.running[usize::from(group1)];
        let level = running.trailing_zeros();
        if level == 32 || (group_1 < group0) != group1 {
            return None;
        }
        *running &= *running - 1;
        Some(level)
    }

    /// Whether the hardware makes a maintenance interrupt.
    fn wants_maintenance(&self) -> bool {
        const TELL_END: u64 = 1 << 41;
        let listing = &self.listing;
        let used = &self.registers[..listing.used];
        let told = |register: &u64| register & (STATE | HARDWARE_LINK | TELL_END) == TELL_END;
        let pending = |register: &u64| register & STATE == 1 << 62;
        used.iter().any(told)
            || listing.more_pending
                && (!used.iter().any(pending) || self.groups_then == 0b11 && self.groups != 0b11)
            || listing.held_back & self.groups != 0
            || listing.more_active && self.ended > 0
    }
}

impl Machine {
    /// Two vCPUs, everything in Group 1 and enabled.
    fn new() -> Self {
        let mut machine = Self {
            vgic: Vgic::new(2),
            cpus: [Interface::RESET; 2],
        };
        for vcpu in 0..2 {
            let _ = machine.write_private(vcpu, 0x80, u32::MAX.into());
            let _ = machine.write_private(vcpu, ISENABLER, u32::MAX.into());
        }
        let _ = machine.write(0x84, u32::MAX.into());
        let _ = machine.write(ISENABLER + 4, u32::MAX.into());
        let _ = machine.write(GICD_CTLR, 0b10);
        machine
    }

    fn write(&mut self, offset: u64, value: u64) -> VcpuSet {
        self.vgic.write(Frame::Distributor, offset, 4, value)
    }

    fn read(&self, offset: u64) -> u64 {
        self.vgic.read(Frame::Distributor, offset, 4)
    }

    fn write_private(&mut self, vcpu: usize, offset: u64, value: u64) -> VcpuSet {
        let frame = Frame::Redistributor(vcpu);
        self.vgic.write(frame, SGI_FRAME + offset, 4, value)
    }

    fn read_private(&self, vcpu: usize, offset: u64) -> u64 {
        let frame = Frame::Redistributor(vcpu);
        self.vgic.read(frame, SGI_FRAME + offset, 4)
    }

    /// Sets the priority of an interrupt, of `vcpu`'s own if it is private.
    fn set_priority(&mut self, vcpu: usize, intid: u32, priority: u8) -> VcpuSet {
        let at = IPRIORITYR + u64::from(intid);
        let (frame, offset) = match intid {
            0..32 => (Frame::Redistributor(vcpu), SGI_FRAME + at),
            _ => (Frame::Distributor, at),
        };
        self.vgic.write(frame, offset, 1, priority.into())
    }

    /// Routes a shared interrupt.
    fn route(&mut self, intid: u32, affinity: u64) -> VcpuSet {
        let router = IROUTER + 8 * u64::from(intid);
        self.vgic.write(Frame::Distributor, router, 8, affinity)
    }

    /// The vCPU's list registers that are used.
    fn registers(&self, vcpu: usize) -> &[u64] {
        &self.cpus[vcpu].registers[..self.cpus[vcpu].listing.used]
    }

    /// The vCPU leaves the guest and takes its interrupts with it.
    fn unlist(&mut self, vcpu: usize, lines: u32) -> Unlisted {
        let cpu = &mut self.cpus[vcpu];
        let ended = core::mem::take(&mut cpu.ended);
        let ended = (!cpu.split).then_some(ended);
        let registers = core::mem::take(&mut cpu.registers);
        let used = core::mem::replace(&mut cpu.listing, Listing::EMPTY).used;
        self.vgic.unlist(vcpu, &registers[..used], ended, lines)
    }

    /// What the vCPU does before it enters the guest. Returns what the controller says.
    fn refresh(&mut self, vcpu: usize, lines: u32) -> (Unlisted, Listing) {
        let unlisted = self.unlist(vcpu, lines);
        let cpu = &mut self.cpus[vcpu];
        cpu.groups_then = cpu.groups;
        cpu.listing = self.vgic.list(vcpu, &mut cpu.registers, cpu.groups);
        (unlisted, cpu.listing)
    }

    /// The guest acknowledges the most urgent pending interrupt.
    fn acknowledge(&mut self, vcpu: usize) -> Option<u32> {
        let cpu = &mut self.cpus[vcpu];
        let register = cpu.first()?;
        *register = *register & !STATE | 1 << 63;
        let taken = *register;
        cpu.running[usize::from(group1_of(taken))] |= 1 << (priority_of(taken) >> 3);
        Some(taken as u32)
    }

    /// The guest ends an interrupt that it took in Group 1.
    fn end(&mut self, vcpu: usize, intid: u32) {
        self.end_in(vcpu, intid, true);
    }

    /// The guest ends an interrupt that it took in this group.
    fn end_in(&mut self, vcpu: usize, intid: u32, group1: bool) {
        let cpu = &mut self.cpus[vcpu];
        let Some(level) = cpu.drop_priority(group1) else {
            return;
        };
        let listed = |register: &&mut u64| **register as u32 == intid && is_active(**register);
        let register = cpu.registers.iter_mut().find(listed);
        match register.map(|register| (u32::from(priority_of(*register) >> 3), register)) {
            None => cpu.ended += 1,
            Some((same, register))
                if same == level && group1_of(*register) == group1 && !cpu.split =>
            {
                *register &= !(1 << 63);
            }
            Some(_) => {}
        }
    }

    /// The interrupts that are listed as pending, from the first register.
    fn pending(&self, vcpu: usize) -> Vec<u32> {
        let registers = self.cpus[vcpu].registers.iter();
        let pending = registers.filter(|&&register| is_pending(register));
        pending.map(|&register| register as u32).collect()
    }
}
