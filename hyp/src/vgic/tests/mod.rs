//! Tests of the interrupt controller, with the hardware's part played by [`Machine`].

mod addresses;
mod ideal;
mod steps;

use super::list_register::{is_active, is_pending};
use super::*;

const GICD_CTLR: u64 = 0x0;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const IPRIORITYR: u64 = 0x400;
const SGI_FRAME: u64 = 0x1_0000;
const STATE: u64 = 0b11 << 62;
/// A shared interrupt, and its bit in its block's registers.
const SPI: u32 = 33;
const SPI_BIT: u64 = 1 << 1;

/// A machine, and list registers for each of its vCPUs, as many as small hardware has.
struct Machine {
    vgic: Vgic,
    registers: [[u64; 4]; 2],
    used: [usize; 2],
    /// Interrupts ended without a list register.
    ended: [u32; 2],
}

impl Machine {
    /// Two vCPUs, everything in Group 1 and enabled.
    fn new() -> Self {
        let mut machine = Self {
            vgic: Vgic::new(2),
            registers: [[0; 4]; 2],
            used: [0; 2],
            ended: [0; 2],
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

    /// What the vCPU does before it enters the guest. Returns what the controller says.
    fn refresh(&mut self, vcpu: usize, lines: u32) -> (Unlisted, Listing) {
        let used = self.used[vcpu];
        let ended = core::mem::take(&mut self.ended[vcpu]);
        let registers = &mut self.registers[vcpu];
        let unlisted = self.vgic.unlist(vcpu, &registers[..used], ended, lines);
        registers.fill(0);
        let listing = self.vgic.list(vcpu, registers);
        self.used[vcpu] = listing.used;
        (unlisted, listing)
    }

    /// The guest acknowledges the most urgent pending interrupt.
    fn acknowledge(&mut self, vcpu: usize) -> Option<u32> {
        let pending = |register: &&mut u64| is_pending(**register) && !is_active(**register);
        let registers = self.registers[vcpu].iter_mut().filter(pending);
        let urgency = |register: &&mut u64| (**register >> 48 & 0xff, **register as u32);
        let register = registers.min_by_key(urgency)?;
        *register = *register & !STATE | 1 << 63;
        Some(*register as u32)
    }

    /// The guest ends an interrupt.
    fn end(&mut self, vcpu: usize, intid: u32) {
        let listed = |register: &&mut u64| **register as u32 == intid && is_active(**register);
        match self.registers[vcpu].iter_mut().find(listed) {
            Some(register) => *register &= !(1 << 63),
            None => self.ended[vcpu] += 1,
        }
    }

    /// The interrupts that are listed as pending, from the first register.
    fn pending(&self, vcpu: usize) -> Vec<u32> {
        let registers = self.registers[vcpu].iter();
        let pending = registers.filter(|&&register| is_pending(register));
        pending.map(|&register| register as u32).collect()
    }
}
